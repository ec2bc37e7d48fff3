"""The temperature that made the outputs is found again, and calibration gains by it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import log_loss

from medcompress.benchmarks.statistics.judged import judged
from medcompress.benchmarks.statistics.measures import overall_values
from medcompress.benchmarks.statistics.temperature import MOST, fit_temperature
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

BINARY = Decision("binary", ("WELL", "SICK"), "SICK")
SEVERAL = Decision("multiclass", ("A", "B", "C", "D"))
FINDINGS = Decision("multilabel", ("EDEMA", "MASS", "NODULE"))
KINDS = pytest.mark.parametrize("decision", [BINARY, SEVERAL, FINDINGS], ids=lambda decision: decision.kind)


def _study(decision: Decision, temperature: float, count: int = 8000) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from the outputs' own probabilities, then outputs that are too sure by the temperature."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1.5, (count, len(decision.classes)))
    chances = decision.probabilities(logits)
    if decision.kind == "multilabel":
        target = (rng.random(chances.shape) < chances).astype(np.int8)
    else:
        drawn = (rng.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1)
        target = np.eye(len(decision.classes), dtype=np.int8)[drawn]
    return target, logits * temperature


def _loss(decision: Decision, target: np.ndarray, logits: np.ndarray, temperature: float) -> float:
    chances = msgspec.structs.replace(decision, temperature=temperature).probabilities(logits)
    if decision.kind == "multilabel":
        known = target >= 0
        return log_loss(target[known], chances[known])
    return log_loss(target.argmax(axis=1), chances, labels=range(len(decision.classes)))


@KINDS
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_again(decision: Decision, temperature: float) -> None:
    target, logits = _study(decision, temperature)
    found = fit_temperature(decision, target, logits)
    assert found == pytest.approx(temperature, rel=0.06)
    assert fit_temperature(msgspec.structs.replace(decision, temperature=7), target, logits) == found
    # No other is better by scikit-learn's loss.
    least = _loss(decision, target, logits, found)
    assert all(least <= _loss(decision, target, logits, other) for other in found * np.array([0.5, 0.98, 1.02, 2]))


@KINDS
def test_a_network_too_sure_of_itself_gains(decision: Decision) -> None:
    target, logits = _study(decision, 4.0, 3000)
    refit = msgspec.structs.replace(decision, temperature=fit_temperature(decision, target[:1500], logits[:1500]))
    patients = [str(n) for n in range(1500)]
    before, after = (
        overall_values(judged(each, target[1500:], each.probabilities(logits[1500:]), patients))
        for each in (decision, refit)
    )
    assert after["ece"] < before["ece"] / 2 and after["brier"] < before["brier"]
    assert after["auroc"] == pytest.approx(before["auroc"], abs=0.02)


def test_findings_are_fit_by_what_is_known() -> None:
    target, logits = _study(FINDINGS, 2.0, 4000)
    whole = fit_temperature(FINDINGS, target, logits)
    unknown = np.concatenate([target, np.full((500, 3), -1, np.int8)])
    noise = np.concatenate([logits, np.full((500, 3), 50.0)])
    assert fit_temperature(FINDINGS, unknown, noise) == pytest.approx(whole)


@pytest.mark.parametrize("sure", [0.3, 5.0, 50.0])
@KINDS
def test_a_network_right_or_wrong_throughout_stays_within_bounds(decision: Decision, sure: float) -> None:
    classes = len(decision.classes)
    target = np.eye(classes, dtype=np.int8)[np.arange(40) % classes]
    logits = sure * (2.0 * target - 1)
    assert fit_temperature(decision, target, logits) == 1
    assert 0.95 * MOST < fit_temperature(decision, target, -logits) <= MOST


@KINDS
def test_outputs_that_tell_nothing_keep_the_temperature(decision: Decision) -> None:
    classes = len(decision.classes)
    target = np.eye(classes, dtype=np.int8)[np.arange(30) % classes]
    assert fit_temperature(decision, target, np.tile(np.arange(classes), (30, 1))) == 1
    if decision.kind != "multilabel":
        same = np.repeat(np.random.default_rng(0).normal(size=(30, 1)), classes, axis=1)
        assert fit_temperature(decision, target, same) == 1
    assert fit_temperature(decision, target[:1], np.ones((1, classes))) == 1


def test_huge_outputs_do_not_overflow() -> None:
    target, logits = _study(SEVERAL, 1.0, 200)
    assert np.isfinite(fit_temperature(SEVERAL, target, 1e30 * logits))


def test_images_that_do_not_tell_are_refused() -> None:
    with pytest.raises(DataError, match="known truth"):
        fit_temperature(FINDINGS, np.full((4, 3), -1, np.int8), np.zeros((4, 3)))
    with pytest.raises(DataError, match="known truth"):
        fit_temperature(BINARY, np.zeros((0, 2), np.int8), np.zeros((0, 2)))
    with pytest.raises(DataError, match="line up"):
        fit_temperature(BINARY, np.eye(2, dtype=np.int8), np.zeros((3, 2)))
    with pytest.raises(DataError, match="not a number"):
        fit_temperature(BINARY, np.eye(2, dtype=np.int8), np.full((2, 2), np.inf))
