"""How alike two models answer: figures by hand, and a bound that holds however images of a patient change together."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import beta, binomtest, spearmanr
from sklearn.metrics import cohen_kappa_score

from medcompress.benchmarks.statistics.agreement import Agreement, agreement
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError
from medcompress.runtime.records import from_json, to_json

BINARY = Decision("binary", ("WELL", "SICK"), "SICK", threshold=0.4)
SEVERAL = Decision("multiclass", ("A", "B", "C"))
FINDINGS = Decision("multilabel", ("EDEMA", "MASS", "NODULE"), thresholds=(0.3, 0.5, 0.6))
KINDS = pytest.mark.parametrize("decision", [BINARY, SEVERAL, FINDINGS], ids=lambda decision: decision.kind)


def _pair(decision: Decision, count: int = 200, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(4)
    before = rng.normal(size=(count, len(decision.classes)))
    return before, before + rng.normal(0, noise, before.shape), [str(n) for n in range(count)]


@KINDS
def test_figures_are_those_of_the_definition(decision: Decision) -> None:
    before, after, patients = _pair(decision)
    found = agreement(decision, before, after, patients)
    p, q = decision.probabilities(before), decision.probabilities(after)
    a, b = decision.answers(p), decision.answers(q)
    flips = sum(any(x != y for x, y in zip(*rows, strict=True)) for rows in zip(a, b, strict=True))
    assert 0 < flips < 100 and found.flips == flips and found.share == flips / 200
    if decision.kind == "multilabel":
        kappa = np.mean([cohen_kappa_score(a[:, c], b[:, c]) for c in range(3)])
    else:
        kappa = cohen_kappa_score(a.argmax(axis=1), b.argmax(axis=1))
    assert found.kappa == pytest.approx(kappa)
    change = sorted(np.abs(p - q).max(axis=1))
    assert found.largest_change == change[-1]
    assert np.mean(np.array(change) <= found.p99_change) >= 0.99 and found.p99_change == change[-2]
    assert found.largest_logit_change == np.abs(before - after).max()
    columns = [1] if decision.kind == "binary" else range(3)
    assert found.rank_correlation == pytest.approx(np.mean([spearmanr(p[:, c], q[:, c]).statistic for c in columns]))
    assert from_json(to_json(found), Agreement, "it") == found


@KINDS
def test_the_same_outputs_agree_wholly(decision: Decision) -> None:
    before, _, patients = _pair(decision)
    found = agreement(decision, before, before.copy(), patients)
    assert (found.flips, found.share, found.largest_change, found.p99_change, found.largest_logit_change) == (0,) * 5
    assert found.kappa == 1 and found.rank_correlation == 1
    # Clopper and Pearson, of none: one minus the (1 - confidence)th root.
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 200))


@pytest.mark.parametrize("flips", [0, 1, 7, 20])
def test_with_one_image_a_patient_the_bound_is_clopper_and_pearsons(flips: int) -> None:
    before = np.tile([1.0, 0.0], (20, 1))
    after = before.copy()
    after[:flips] = [0.0, 1.0]
    found = agreement(BINARY, before, after, [str(n) for n in range(20)], confidence=0.9)
    expected = binomtest(flips, 20, alternative="less").proportion_ci(0.9, method="exact").high
    assert found.bound == pytest.approx(expected)


def test_images_of_a_patient_are_no_more_than_one_where_they_change_together() -> None:
    before, after, patients = _pair(BINARY, 40, 1.0)
    once = agreement(BINARY, before, after, patients)
    fourfold = [np.repeat(each, 4, axis=0) for each in (before, after)]
    again = agreement(BINARY, *fourfold, [patients[n // 4] for n in range(160)])
    assert again.flips == 4 * once.flips and again.bound == pytest.approx(once.bound)
    # One patient of 19 images and 19 of one: hardly more than two.
    uneven = agreement(BINARY, before[:38], before[:38], ["a"] * 19 + [str(n) for n in range(19)])
    count = 38**2 / (19**2 + 19)
    assert uneven.bound == pytest.approx(beta.ppf(0.95, 1, count)) and uneven.bound > 0.5


def test_the_bound_rises_with_every_flip() -> None:
    before = np.tile([1.0, 0.0], (60, 1))
    patients = [str(n // 3) for n in range(60)]
    bounds = []
    for flips in range(61):
        after = before.copy()
        after[:flips] = [0.0, 1.0]
        bounds.append(agreement(BINARY, before, after, patients).bound)
    assert (np.diff(bounds) >= 0).all() and bounds[0] > 0.1 and bounds[-1] == 1


@pytest.mark.parametrize("together", [0.0, 0.4, 1.0])
def test_the_bound_holds_as_often_as_it_says(together: float) -> None:
    """Of 600 studies of 150 patients of 3 images, 3 % changed; ``together``: patients whose images change as one."""
    rng = np.random.default_rng(2)
    before = np.tile([1.0, 0.0], (450, 1))
    patients = np.repeat(np.arange(150), 3).astype(str).tolist()
    held = 0
    for _ in range(600):
        apart, one = rng.random((150, 3)) < 0.03, rng.random(150) < 0.03
        flipped = np.where((rng.random(150) < together)[:, None], one[:, None], apart).ravel()
        after = np.where(flipped[:, None], before[:, ::-1], before)
        held += agreement(BINARY, before, after, patients).bound >= 0.03
    assert held / 600 >= 0.93


def test_what_is_not_defined_is_none() -> None:
    before, after, patients = _pair(BINARY, 10)
    always = np.tile([0.0, 5.0], (10, 1))
    constant = agreement(BINARY, always, always + after * 1e-3, patients)
    assert constant.kappa is None and constant.rank_correlation is None
    assert agreement(BINARY, always, before, patients).kappa == 0
    assert agreement(BINARY, before[:1], after[:1], ["a"]).rank_correlation is None
    findings = Decision("multilabel", ("EDEMA", "MASS"))
    outputs = np.stack([np.linspace(-1, 1, 10), np.full(10, -3.0)], axis=1)
    half = agreement(findings, outputs, outputs, patients)
    assert half.kappa == 1 and half.rank_correlation == 1, "of the finding that has one"


def test_what_does_not_line_up_is_refused() -> None:
    before, after, patients = _pair(BINARY, 10)
    for arguments in ((before[:9], after, patients), (before, after[:9], patients), (before, after, patients[:9])):
        with pytest.raises(DataError, match="line up"):
            agreement(BINARY, *arguments)
    with pytest.raises(DataError, match="line up"):
        agreement(SEVERAL, before, after, patients)
    with pytest.raises(DataError, match="line up"):
        agreement(BINARY, before[:0], after[:0], [])
    after[3, 1] = np.nan
    with pytest.raises(DataError, match="not all numbers"):
        agreement(BINARY, before, after, patients)


def test_float16_outputs_are_compared_in_double_precision() -> None:
    before = np.array([[60000.0, -60000.0], [0.0, 1.0]], np.float16)
    found = agreement(BINARY, before, -before, ["a", "b"])
    assert found.largest_logit_change == 120000 and found.flips == 2
    assert msgspec.json.encode(found)
