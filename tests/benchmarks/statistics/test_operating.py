"""Where the threshold is put: held against every threshold there is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcompress.benchmarks.statistics.operating import lock, own_thresholds, rule_words
from medcompress.benchmarks.tolerance import OperatingPoint
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

BINARY = Decision("binary", ("SICK", "WELL"), "SICK")
SEVERAL = Decision("multiclass", ("A", "B", "C"))
FINDINGS = Decision("multilabel", ("EDEMA", "MASS"), temperature=2.0)
SENSITIVITY, SPECIFICITY, COST = (
    OperatingPoint(sensitivity=0.9),
    OperatingPoint(specificity=0.8),
    OperatingPoint(cost=3.5),
)
RULES = ("youden", SENSITIVITY, SPECIFICITY, COST)


def _study(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and outputs whose probabilities are the scores', as near as floats come."""
    with np.errstate(divide="ignore"):
        logit = np.clip(np.log(score) - np.log1p(-score), -800, 800)
    return np.stack([positive, ~positive], axis=1).astype(np.int8), np.stack([logit, 0 * logit], axis=1)


def _every_threshold(observed: np.ndarray) -> np.ndarray:
    """One inside (0, 1) for each way to divide the scores, just above each; rising."""
    above = np.nextafter(np.unique([0.0, *observed]), 2)
    return above[above < 1]


def _counts(positive: np.ndarray, score: np.ndarray, threshold: float) -> tuple[int, int]:
    answered = score >= threshold
    return int((answered & positive).sum()), int((answered & ~positive).sum())


def _brute(rule: object, positive: np.ndarray, score: np.ndarray) -> tuple[int, int]:
    """The counts at the best of all thresholds, the lowest of equally good ones."""
    diseased, healthy = int(positive.sum()), int((~positive).sum())
    found = [_counts(positive, score, threshold) for threshold in _every_threshold(score)]
    if rule == "youden":
        return max(found, key=lambda at: at[0] * healthy - at[1] * diseased)
    if rule.cost is not None:
        return min(found, key=lambda at: rule.cost * (diseased - at[0]) + at[1])
    if rule.sensitivity is not None:
        reached = [at for at in found if Fraction(at[0], diseased) >= Fraction(str(rule.sensitivity))]
        return reached[-1] if reached else found[0]
    reached = [at for at in found if Fraction(healthy - at[1], healthy) >= Fraction(str(rule.specificity))]
    return reached[0] if reached else found[-1]


def _check(rule: object, positive: np.ndarray, score: np.ndarray) -> float:
    target, logits = _study(positive, score)
    locked = lock(BINARY, rule, target, logits)
    observed = BINARY.probabilities(logits)[:, 0]
    assert 0 < locked.threshold < 1
    assert _counts(positive, observed, locked.threshold) == _brute(rule, positive, observed)
    assert own_thresholds(BINARY, rule, target, logits) == {"SICK": locked.threshold}
    assert lock(BINARY, rule, target[::-1], logits[::-1]) == locked, "the order of the images is of no account"
    return locked.threshold


@pytest.mark.parametrize("rule", RULES, ids=rule_words)
@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better(rule: object, digits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(60) < rng.integers(1, 59))
    score = np.round(1 / (1 + np.exp(-rng.normal(1.5 * positive, 1))), digits)
    _check(rule, positive, score)


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from([0.0, 5e-324, 1e-300, 0.1, 0.5, 0.9, 1 - 2**-53, 1.0]) | st.floats(0, 1)
        ),
        min_size=2,
        max_size=14,
    ).filter(lambda images: len({positive for positive, _ in images}) == 2),
    st.sampled_from(RULES),
)
def test_no_threshold_is_better_of_odd_scores(images: list[tuple[bool, float]], rule: object) -> None:
    _check(rule, np.array([positive for positive, _ in images]), np.array([score for _, score in images]))


@pytest.mark.parametrize("rule", RULES, ids=rule_words)
def test_the_threshold_lies_between_two_images(rule: object) -> None:
    """So that the last digit of another engine changes no answer."""
    rng = np.random.default_rng(1)
    positive = rng.random(50) < 0.4
    target, logits = _study(positive, 1 / (1 + np.exp(-rng.normal(positive, 1))))
    observed, threshold = BINARY.probabilities(logits)[:, 0], lock(BINARY, rule, target, logits).threshold
    below, above = observed[observed < threshold].max(), observed[observed >= threshold].min()
    assert threshold == pytest.approx((below + above) / 2)
    again = lock(BINARY, rule, target, logits + 1e-9 * rng.normal(size=logits.shape))
    assert again.threshold == pytest.approx(threshold, abs=1e-8)


@pytest.mark.parametrize("rule", ["youden", OperatingPoint(sensitivity=0.99), COST], ids=rule_words)
def test_perfect_separation_takes_the_middle_of_the_gap(rule: object) -> None:
    positive = np.arange(10) < 4
    assert _check(rule, positive, np.where(positive, 0.8, 0.3)) == pytest.approx(0.55)


def test_specificity_is_met_by_the_lowest_threshold() -> None:
    positive, score = np.arange(12) < 2, np.array([0.85, 0.95, *np.arange(1, 11) / 12])
    # Of ten healthy two may lie above: between the 8th and the 9th of them.
    target, logits = _study(positive, score)
    assert lock(BINARY, SPECIFICITY, target, logits).threshold == pytest.approx((8 + 9) / 24)


def test_a_target_that_no_threshold_reaches_takes_the_nearest() -> None:
    positive = np.array([True, True, False, False])
    all_or_none = np.array([0.0, 0.6, 0.0, 0.3])
    for_all = _check(OperatingPoint(sensitivity=0.99), positive, all_or_none)
    assert for_all == pytest.approx(0.15), "a diseased image at exactly 0 lies below every threshold"
    assert _check(OperatingPoint(specificity=0.99), positive, np.array([0.4, 1, 0.2, 1])) == pytest.approx(0.7)


@pytest.mark.parametrize("score", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("rule", RULES, ids=rule_words)
def test_one_score_for_all_is_defined(rule: object, score: float) -> None:
    _check(rule, np.array([True, False, True]), np.full(3, score))


def test_each_finding_has_its_own_by_what_is_known_of_it_and_after_the_temperature() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((80, 2)) < 0.4).astype(np.int8)
    logits = rng.normal(target, 1)
    target[:30, 1] = -1
    locked = lock(FINDINGS, "youden", target, logits)
    own = own_thresholds(FINDINGS, "youden", target, logits)
    assert locked.thresholds == tuple(own.values()) and tuple(own) == FINDINGS.classes
    assert (locked.temperature, locked.threshold) == (2, FINDINGS.threshold)
    probabilities = FINDINGS.probabilities(logits)
    for c, known in ((0, slice(None)), (1, slice(30, None))):
        score, positive = probabilities[known, c], target[known, c] == 1
        assert _counts(positive, score, locked.thresholds[c]) == _brute("youden", positive, score)


def test_what_is_fixed_needs_no_images() -> None:
    none = np.zeros((0, 2), np.int8), np.zeros((0, 2))
    assert lock(BINARY, "keep", *none) is BINARY and own_thresholds(BINARY, "keep", *none) == {}
    assert lock(SEVERAL, "keep", np.zeros((0, 3), np.int8), np.zeros((0, 3))) is SEVERAL
    assert lock(BINARY, 0.3, *none).threshold == 0.3
    own = Decision("multilabel", ("EDEMA", "MASS"), thresholds=(0.1, 0.2))
    locked = lock(own, 0.3, *none)
    assert [locked.threshold_of(c) for c in (0, 1)] == [0.3, 0.3]
    assert own_thresholds(own, 0.3, *none) == {"EDEMA": 0.3, "MASS": 0.3}


@pytest.mark.parametrize("rule", [0.3, *RULES], ids=str)
def test_several_classes_have_no_threshold(rule: object) -> None:
    with pytest.raises(DataError, match="likeliest"):
        lock(SEVERAL, rule, np.eye(3, dtype=np.int8), np.eye(3))


def test_images_that_do_not_tell_are_refused() -> None:
    ones = np.array([[1, 0], [1, 0]], np.int8)
    with pytest.raises(DataError, match="without SICK"):
        lock(BINARY, "youden", ones, np.zeros((2, 2)))
    with pytest.raises(DataError, match="with SICK"):
        lock(BINARY, "youden", 1 - ones, np.zeros((2, 2)))
    with pytest.raises(DataError, match="with MASS"):
        lock(FINDINGS, COST, np.array([[1, -1], [0, -1]], np.int8), np.zeros((2, 2)))
    with pytest.raises(DataError, match="with SICK"):
        lock(BINARY, "youden", np.zeros((0, 2), np.int8), np.zeros((0, 2)))
    with pytest.raises(DataError, match="line up"):
        lock(BINARY, "youden", ones, np.zeros((3, 2)))
    with pytest.raises(DataError, match="not a number"):
        lock(BINARY, "youden", np.eye(2, dtype=np.int8), np.full((2, 2), np.nan))


def test_every_rule_has_words() -> None:
    words = [rule_words(rule) for rule in ("keep", 0.25, *RULES)]
    assert len(set(words)) == len(words) and not any("\n" in each for each in words)
    for number, told in zip(("0.25", "0.9", "0.8", "3.5"), (words[1], *words[3:]), strict=True):
        assert number in told
