"""What follows from a loss, its bound and its margin."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.statistics.agreement import Agreement
from medcompress.benchmarks.statistics.delong import AurocLoss
from medcompress.benchmarks.statistics.paired import PairedProportion, paired_proportion
from medcompress.benchmarks.statistics.shift import Shift
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.benchmarks.verdict import (
    judge,
    of_auroc,
    of_calibration,
    of_flips,
    of_probability,
    of_share,
)

TOLERANCE = Tolerance()


def loss_of(loss: float, error: float, bound: float | None) -> AurocLoss:
    return AurocLoss(0.9, 0.9 - loss, loss, error, loss - error, loss + error, bound, 0.5, None, "DeLong, by image")


def share(images: int, lost: int, gained: int = 0) -> PairedProportion:
    reference = np.arange(images) >= gained
    variant = np.arange(images) < images - lost
    return paired_proportion(reference, variant, [str(image) for image in range(images)])


def test_a_bound_within_the_margin_passes() -> None:
    found = of_auroc(loss_of(0.001, 0.002, 0.0043), 600, 250, 600, TOLERANCE)
    assert found.outcome == "pass"
    assert "at most 0.0043" in found.reason
    assert found.more_patients is None


def test_a_measured_loss_beyond_the_margin_fails() -> None:
    found = of_auroc(loss_of(0.02, 0.05, 0.1), 600, 250, 600, TOLERANCE)
    assert found.outcome == "fail"
    assert "0.0200 (0.01 allowed)" in found.reason


def test_a_bound_beyond_the_margin_is_inconclusive_and_says_what_would_settle_it() -> None:
    found = of_auroc(loss_of(0.002, 0.01, 0.0185), 600, 250, 600, TOLERANCE)
    assert found.outcome == "inconclusive"
    assert found.more_patients
    assert "up to 0.0185 is possible" in found.reason
    assert f"about {found.more_patients} more patients" in found.reason


def test_no_bound_is_inconclusive() -> None:
    assert of_auroc(loss_of(0, 0, None), 600, 250, 600, TOLERANCE).outcome == "inconclusive"
    assert of_auroc(None, 600, 250, 600, TOLERANCE).outcome == "inconclusive"


@pytest.mark.parametrize("value", [float("nan"), None])
def test_what_is_no_number_never_passes(value: float | None) -> None:
    found = of_calibration(value, Shift(0.5, value), 100, 100, TOLERANCE)
    assert found.outcome != "pass"
    assert of_auroc(loss_of(0, 0.01, float("nan")), 600, 250, 600, TOLERANCE).outcome == "inconclusive"


def test_too_few_images_are_inconclusive_unless_the_loss_is_shown() -> None:
    for lost in (0, 2):
        found = of_share("sensitivity", "sick", share(20, lost), TOLERANCE)
        assert found.outcome == "inconclusive"
        assert "20 images are too few" in found.reason
        assert found.more_patients is not None and found.more_patients >= 10
        assert f"falls by {lost / 20:.4f}" in found.reason
    assert of_share("sensitivity", "sick", share(20, 20), TOLERANCE).outcome == "fail"


def test_what_is_measured_beyond_a_margin_nobody_may_accept() -> None:
    few = of_share("sensitivity", "sick", share(20, 2), TOLERANCE)
    assert not judge([few], identical=False).within
    assert judge([of_share("sensitivity", "sick", share(20, 0), TOLERANCE)], identical=False).within


def test_enough_images_without_a_change_pass() -> None:
    assert of_share("sensitivity", "sick", share(200, 0), TOLERANCE).outcome == "pass"


def test_a_fall_of_five_points_fails() -> None:
    assert of_share("sensitivity", "sick", share(200, 10), TOLERANCE).outcome == "fail"


def test_a_margin_of_one_allows_everything() -> None:
    wide = Tolerance(sensitivity_drop=1)
    assert of_share("sensitivity", "sick", share(3, 3), wide).outcome == "pass"


def test_the_calibration_is_held_by_what_the_probabilities_moved() -> None:
    assert of_calibration(0.001, Shift(0.01, 0.02), 100, 100, TOLERANCE).outcome == "pass"
    open_ = of_calibration(-0.01, Shift(0.02, 0.06), 100, 100, TOLERANCE)
    assert (open_.outcome, open_.bound) == ("inconclusive", 0.06)
    assert open_.more_patients and open_.more_patients > 100
    assert of_calibration(0.04, Shift(0.05, 0.06), 100, 100, TOLERANCE).outcome == "fail"


def test_flips_are_bounded_and_the_largest_change_is_not() -> None:
    alike = Agreement(600, 2, 2 / 600, 0.0105, 0.99, 0.1, 0.02, 0.4, 0.999)
    assert of_flips(alike, 600, TOLERANCE).outcome == "pass"
    assert of_probability(alike, 600, TOLERANCE).outcome == "pass"
    moved = msgspec.structs.replace(alike, largest_change=0.3, bound=0.05)
    assert of_probability(moved, 600, TOLERANCE).outcome == "fail"
    open_ = of_flips(moved, 600, TOLERANCE)
    assert open_.outcome == "inconclusive" and open_.more_patients


def test_the_worst_criterion_decides_and_every_reason_is_told() -> None:
    good = of_auroc(loss_of(0.001, 0.002, 0.0043), 600, 250, 600, TOLERANCE)
    open_ = of_auroc(loss_of(0.002, 0.01, 0.0185), 600, 250, 600, TOLERANCE)
    bad = of_share("sensitivity", "sick", share(200, 10), TOLERANCE)
    assert judge([good], identical=False).outcome == "pass"
    assert judge([good, open_], identical=False).outcome == "inconclusive"
    verdict = judge([good, open_, bad], identical=False)
    assert (verdict.outcome, verdict.reason) == ("fail", bad.reason)
    many = judge([bad] * 5, identical=False)
    assert many.reason.endswith("and 2 more")


def test_identical_outputs_pass_as_identical() -> None:
    few = of_share("sensitivity", "sick", share(5, 0), TOLERANCE)
    verdict = judge([few], identical=True)
    assert (verdict.outcome, verdict.identical) == ("pass", True)
    assert verdict.criteria[0].method == "identical outputs"


def test_nothing_that_failed_is_identical() -> None:
    bad = of_share("sensitivity", "sick", share(200, 10), TOLERANCE)
    assert judge([bad], identical=True).outcome == "fail"


def test_without_a_margin_nothing_was_judged() -> None:
    wide = Tolerance(sensitivity_drop=1)
    assert "nothing was judged" in judge([of_share("sensitivity", "sick", share(9, 9), wide)], identical=False).reason
