"""Thinned lines look like the whole ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve

from medcompress.benchmarks.evidence import Curve as CurveOfEvidence
from medcompress.benchmarks.statistics.curves import POINTS, Curve, reliability_curves, roc_curves
from medcompress.benchmarks.statistics.judged import Judged, judged
from medcompress.benchmarks.statistics.measures import overall_values
from medcompress.runtime.decision import Decision

BINARY = Decision("binary", ("WELL", "SICK"), "SICK", threshold=0.3)
SEVERAL = Decision("multiclass", ("A", "B", "C"))
FINDINGS = Decision("multilabel", ("EDEMA", "MASS", "NODULE"))
KINDS = pytest.mark.parametrize("decision", [BINARY, SEVERAL, FINDINGS], ids=lambda decision: decision.kind)


def _judged(decision: Decision, count: int, skill: float = 1.5, digits: int = 9) -> Judged:
    rng = np.random.default_rng(5)
    classes = len(decision.classes)
    if decision.kind == "multilabel":
        target = (rng.random((count, classes)) < (0.05, 0.3, 0.7)).astype(int)
        target[rng.random(target.shape) < 0.1] = -1
    else:
        target = np.eye(classes, dtype=int)[rng.integers(0, classes, count)]
    logits = np.round(rng.normal(skill * (target == 1), 1), digits)
    return judged(decision, target, decision.probabilities(logits), [str(n) for n in range(count)])


def _distance(points: np.ndarray, curve: Curve) -> float:
    """Of the points, the one farthest from the curve's line."""
    line = np.stack([curve.x, curve.y], axis=1)
    start, along = line[:-1], np.diff(line, axis=0)
    offset = points[:, None] - start
    part = np.clip((offset * along).sum(axis=2) / np.maximum((along**2).sum(axis=1), 1e-30), 0, 1)
    return float(np.hypot(*np.moveaxis(offset - part[..., None] * along, 2, 0)).min(axis=1).max())


@KINDS
@pytest.mark.parametrize(("count", "digits"), [(60, 9), (600, 9), (600, 1), (10_000, 9), (10_000, 0)])
def test_a_thinned_roc_looks_like_the_whole_one(decision: Decision, count: int, digits: int) -> None:
    found = _judged(decision, count, digits=digits)
    curves = roc_curves(found)
    assert [curve.name for curve in curves] == [decision.classes[c] for c in found.columns]
    for c, curve in zip(found.columns, curves, strict=True):
        known = found.target[:, c] >= 0
        truth, score = found.target[known, c], found.probabilities[known, c]
        x, y, _ = roc_curve(truth, score)
        assert len(curve.x) == len(curve.y) <= POINTS and curve.weight == ()
        assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert (np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= 0).all()
        assert _distance(np.stack([x, y], axis=1), curve) < 0.002
        assert auc(curve.x, curve.y) == pytest.approx(roc_auc_score(truth, score), abs=0.002)
        answered = found.answers[known, c]
        assert curve.at == pytest.approx((answered[truth == 0].mean(), answered[truth == 1].mean()))
        if decision.kind != "multiclass":
            assert _distance(np.array([curve.at]), curve) < 0.002, "the operating point lies on it"


@pytest.mark.parametrize("skill", [0.0, 60.0])
def test_chance_and_perfection_are_drawn(skill: float) -> None:
    (curve,) = roc_curves(_judged(BINARY, 3000, skill))
    assert len(curve.x) == 3 if skill else len(curve.x) <= POINTS
    (constant,) = roc_curves(judged(BINARY, np.eye(2, dtype=int)[[0, 1]], np.full((2, 2), 0.5), ["a", "b"]))
    assert (constant.x, constant.y) == ((0, 1), (0, 1))


def test_classes_of_one_side_are_left_out() -> None:
    found = _judged(FINDINGS, 50)
    target = found.target.copy()
    target[:, 1] = 1
    one_sided = judged(FINDINGS, target, found.probabilities, found.patients)
    assert [curve.name for curve in roc_curves(one_sided)] == ["EDEMA", "NODULE"]
    assert [curve.name for curve in reliability_curves(one_sided)] == list(FINDINGS.classes)
    nobody = judged(BINARY, np.zeros((0, 2)), np.zeros((0, 2)), [])
    assert roc_curves(nobody) == reliability_curves(nobody) == ()


@KINDS
def test_reliability_holds_the_calibration_error(decision: Decision) -> None:
    found = _judged(decision, 400)
    curves = reliability_curves(found)
    expected = {"binary": ["SICK"], "multiclass": ["answer"], "multilabel": list(FINDINGS.classes)}
    assert [curve.name for curve in curves] == expected[decision.kind]
    errors = []
    for curve in curves:
        weight = np.array(curve.weight)
        assert len(curve.x) == len(curve.y) == len(weight) == 10 and curve.at is None
        assert (np.diff(curve.x) > 0).all() and weight.min() > 0
        errors.append((np.abs(np.array(curve.x) - curve.y) * weight).sum() / weight.sum())
    assert np.mean(errors) == pytest.approx(overall_values(found)["ece"])


def test_evidence_holds_the_same_curves() -> None:
    assert CurveOfEvidence is Curve
