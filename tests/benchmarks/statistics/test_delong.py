from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medcompress.benchmarks.statistics.bootstrap import Ranking, patient_draws
from medcompress.benchmarks.statistics.delong import IDENTICAL, AurocLoss, auroc_loss

RNG = np.random.default_rng(0)

# Obuchowski (1997), table 3: two readers of MR angiograms of the carotid arteries, one or two arteries a patient, each
# (patient, stenosis significant, reader 1, reader 2). As reprinted with the results used below in Obuchowski's
# tutorial, https://lerner.ccf.org/quantitative-health/documents/clusteredROC_help.pdf
ARTERIES = """
1 1 87 87, 1 1 79 83, 2 1 88 94, 2 1 95 93, 3 1 100 100, 3 1 68 79, 4 1 65 61, 4 1 89 91, 5 1 97 97, 5 1 100 100,
6 1 100 99, 6 1 89 88, 7 1 77 77, 8 1 94 89, 8 0 45 44, 9 1 89 92, 9 0 -11 -17, 10 1 95 91, 10 0 30 14, 11 1 95 95,
11 0 10 -122, 12 1 100 100, 12 0 19 -3, 13 1 75 75, 14 0 70 73, 14 1 70 81, 15 0 26 27, 15 1 86 93, 16 0 0 8,
16 1 65 70, 17 0 6 23, 17 1 100 100, 18 0 76 79, 18 1 96 95, 19 0 44 55, 19 1 100 100, 20 0 73 67, 20 1 97 94,
21 1 85 86, 22 0 58 60, 22 1 100 99, 23 0 -2 -2, 23 1 100 100, 24 0 -3 -14, 24 0 0 -11, 25 0 47 -3, 25 0 -94 -90,
26 0 -16 17, 26 0 75 85, 27 0 5 -22, 27 0 -1 -14, 28 0 -6 -52, 29 0 37 38, 29 0 47 35, 30 0 42 40, 30 0 4 6,
31 0 55 23, 31 0 55 45, 32 0 4 -87, 32 0 -13 -65, 33 0 49 24, 33 0 35 9, 34 0 53 66, 35 0 2 -15, 36 0 -48 -78
"""


def column(values: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    return np.asarray(values, dtype)[:, None]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def loss_of(positive: np.ndarray, reference: np.ndarray, variant: np.ndarray, patients: list[str] | None = None):
    whose = names(len(positive)) if patients is None else patients
    found = auroc_loss(column(positive, np.int8), column(reference), column(variant), [0], whose)
    assert found is not None
    return found


def brute(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong 1988 by its definition: every pair of a diseased and a healthy image."""
    x, y = scores[:, positive], scores[:, ~positive]
    kernel = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    v10, v01 = kernel.mean(axis=2), kernel.mean(axis=1)
    areas = kernel.mean(axis=(1, 2))
    m, n = x.shape[1], y.shape[1]
    s10 = (v10 - areas[:, None]) @ (v10 - areas[:, None]).T / (m - 1)
    s01 = (v01 - areas[:, None]) @ (v01 - areas[:, None]).T / (n - 1)
    return areas, s10 / m + s01 / n


@pytest.mark.parametrize("digits", [0, 1, 8], ids=["ties everywhere", "ties", "no ties"])
@pytest.mark.parametrize("count", [12, 40, 300])
def test_with_one_image_a_patient_it_is_delong_exactly(digits: int, count: int) -> None:
    positive = np.arange(count) < max(3, count // 3)
    common = RNG.standard_normal(count) + 0.5 * positive
    scores = np.round(common + 0.3 * RNG.standard_normal((2, count)), digits)
    areas, covariance = brute(positive, scores)
    found = loss_of(positive, *scores)
    assert (found.reference, found.variant) == pytest.approx(areas, abs=1e-14)
    assert found.reference == pytest.approx(roc_auc_score(positive, scores[0]), abs=1e-14)
    assert found.standard_error is not None
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.standard_error**2 == pytest.approx(expected, rel=1e-10)


def test_obuchowskis_published_example() -> None:
    rows = np.array([[float(number) for number in row.split()] for row in ARTERIES.split(",")])
    assert len(rows) == 65
    found = loss_of(rows[:, 1] == 1, rows[:, 2], rows[:, 3], [str(number) for number in rows[:, 0]])
    assert (round(found.reference, 4), round(found.variant, 4)) == (0.9837, 0.9852)
    assert round(-found.loss, 4) == 0.0014
    assert found.standard_error is not None
    assert round(found.standard_error, 4) == 0.0066
    # The components in the footer of the published table, from which the variance follows to eight digits.
    m, n = 29, 36
    of_first = 0.0013151307 / m + 0.0022375873 / n + 2 * 0.0051785478 / (m * n)
    of_second = 0.0009284122 / m + 0.0022598583 / n - 2 * 0.0005015760 / (m * n)
    of_both = 0.0008484357 / m + 0.0019241250 / n + (0.0028648340 - 0.0015136931) / (m * n)
    assert found.standard_error**2 == pytest.approx(of_first + of_second - 2 * of_both, rel=1e-6)
    assert "by patient" in found.method


def test_of_a_mean_over_classes_the_bootstrap_by_patient_says_the_same() -> None:
    patients = [str(number) for number in np.repeat(np.arange(300), 2)]
    label = RNG.integers(0, 3, 600)
    target = np.eye(3, dtype=np.int8)[label]
    target[RNG.random((600, 3)) < 0.1] = -1
    shared = np.repeat(RNG.standard_normal((300, 1)), 2, axis=0)
    reference = shared + RNG.standard_normal((600, 3)) + 1.5 * np.eye(3)[label]
    variant = reference + 0.5 * np.repeat(RNG.standard_normal((300, 3)), 2, axis=0)
    found = auroc_loss(target, reference, variant, range(3), patients)
    assert found is not None
    assert found.standard_error is not None
    known = target >= 0
    areas = [
        np.mean([roc_auc_score(target[known[:, c], c], scores[known[:, c], c]) for c in range(3)])
        for scores in (reference, variant)
    ]
    assert (found.reference, found.variant) == pytest.approx(areas)
    drawn = []
    for weights in patient_draws(patients, 1500, 0):
        each = [
            Ranking(target[known[:, c], c] == 1, scores[known[:, c], c]).areas(weights[:, known[:, c]])[0] * sign
            for c in range(3)
            for scores, sign in ((reference, 1), (variant, -1))
        ]
        drawn.append(np.sum(each, axis=0) / 3)
    assert found.standard_error == pytest.approx(np.concatenate(drawn).std(), rel=0.1)


def test_columns_that_are_one_are_averaged_to_that_one() -> None:
    positive = np.arange(80) % 3 == 0
    reference = RNG.standard_normal(80) + positive
    variant = reference + 0.4 * RNG.standard_normal(80)
    patients = [str(number // 2) for number in range(80)]
    once = loss_of(positive, reference, variant, patients)
    thrice = auroc_loss(
        *(np.repeat(column(each), 3, axis=1) for each in (positive, reference, variant)), range(3), patients
    )
    assert thrice is not None
    assert (thrice.loss, thrice.standard_error, thrice.bound) == pytest.approx(
        (once.loss, once.standard_error, once.bound)
    )


def test_images_of_one_patient_are_not_as_many_patients() -> None:
    positive = np.arange(400) % 2 == 0
    reference = RNG.standard_normal(400) + 1.5 * positive
    variant = reference + 0.5 * RNG.standard_normal(400)
    alone = loss_of(positive, reference, variant)
    copied = loss_of(*(np.concatenate([each] * 3) for each in (positive, reference, variant)), names(400) * 3)
    assert alone.standard_error is not None
    assert copied.standard_error == pytest.approx(alone.standard_error, rel=0.01)
    assert copied.bound == pytest.approx(alone.bound, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 60), st.integers(0, 2), st.integers(1, 3))
def test_properties(seed: int, count: int, digits: int, several: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(count) < count // 2)
    reference, variant = np.round(rng.standard_normal((2, count)) + positive, digits)
    patients = [str(number // several) for number in range(count)]
    found = loss_of(positive, reference, variant, patients)

    monotone = loss_of(positive, 1 / (1 + np.exp(-reference)), 3 * variant + 7, patients)
    assert monotone == found

    swapped = loss_of(positive, variant, reference, patients)
    assert swapped.loss == pytest.approx(-found.loss)
    assert swapped.standard_error == pytest.approx(found.standard_error)
    if found.low is not None and found.high is not None and swapped.low is not None and swapped.high is not None:
        assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
        assert swapped.p_value == pytest.approx(found.p_value)
        assert found.low <= found.loss <= found.high
        assert found.bound is not None
        assert found.loss <= found.bound <= found.high
        assert found.p_value is not None
        # The interval leaves no difference out exactly where the test finds one.
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)

    order = rng.permutation(count)
    shuffled = loss_of(positive[order], reference[order], variant[order], [patients[place] for place in order])
    assert shuffled.loss == pytest.approx(found.loss)
    assert shuffled.bound == pytest.approx(found.bound)


def test_the_identical_model_loses_nothing_surely() -> None:
    positive = np.arange(50) < 20
    scores = RNG.standard_normal(50)
    found = loss_of(positive, scores, scores * 2 + 1)
    area = found.reference
    assert found == AurocLoss(area, area, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, None, IDENTICAL)


def test_perfect_separation_by_other_ranks_is_no_certainty() -> None:
    positive = np.arange(70) < 20
    first = np.where(positive, 2.0, 1.0) + np.arange(70) / 100
    second = np.where(positive, 2.0, 1.0) - np.arange(70) / 100
    found = loss_of(positive, first, second)
    assert (found.reference, found.variant, found.loss, found.standard_error) == (1, 1, 0, None)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 20))
    assert "both separate the classes perfectly" in found.method
    assert loss_of(positive, first, first).bound == 0
    # Of 20 patients with images of both kinds only 10 pairs have no patient in common.
    both = loss_of(np.arange(40) < 20, np.where(np.arange(40) < 20, 2.0, 1.0) + np.arange(40) / 100,
                   np.where(np.arange(40) < 20, 2.0, 1.0), names(20) * 2)  # fmt: skip
    assert both.bound == pytest.approx(1 - 0.05 ** (1 / 10))


def test_swaps_that_no_image_of_the_other_class_sees_are_no_certainty_either() -> None:
    positive = np.arange(40) % 4 < 2
    first = np.arange(40.0)
    second = first.copy()
    second[[4, 5]] = second[[5, 4]]
    found = loss_of(positive, first, second)
    assert found.loss == 0
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 20))
    assert "no image moved past" in found.method


def test_a_constant_model_has_an_area_of_a_half() -> None:
    positive = np.arange(60) < 25
    constant = np.full(60, 0.3)
    same = loss_of(positive, constant, constant + 0.1)
    assert (same.reference, same.loss, same.bound, same.method) == (0.5, 0, 0, IDENTICAL)
    scores = RNG.standard_normal(60) + positive
    found = loss_of(positive, scores, constant)
    assert found.variant == 0.5
    assert found.bound is not None
    assert found.loss < found.bound <= 1
    perfect = loss_of(positive, positive + np.arange(60) / 100, constant)
    assert perfect.loss == 0.5
    assert (perfect.standard_error, perfect.bound, perfect.p_value) == (None, None, None)


@pytest.mark.parametrize("patients", [names(7), ["a", "a", "b", "c", "d", "e", "f"]])
def test_one_patient_of_a_class_has_no_variance(patients: list[str]) -> None:
    positive = np.array([True, patients[0] == patients[1], False, False, False, False, False])
    found = loss_of(positive, np.array([1.0, 2, 0, 1.5, 0, 0, 0]), np.array([0.0, 1, 2, 0, 0, 0, 0]), patients)
    assert found.loss > 0
    assert (found.standard_error, found.low, found.high, found.bound, found.p_value) == (None,) * 5
    assert "one patient" in found.method


@pytest.mark.parametrize("value", [0, 1, -1])
def test_without_either_class_there_is_no_area(value: int) -> None:
    target = np.full((5, 2), value, np.int8)
    target[:, 1] = [1, 0, 1, 0, 1]
    scores = RNG.standard_normal((5, 2))
    assert auroc_loss(target, scores, scores, [0, 1], names(5)) is None
    assert auroc_loss(target, scores, scores, [1], names(5)) is not None
    assert auroc_loss(target, scores, scores, [], names(5)) is None


def test_pairing_is_what_makes_a_small_loss_visible() -> None:
    positive = np.arange(624) < 390
    reference = RNG.standard_normal(624) + 2 * positive
    alike = loss_of(positive, reference, reference + 0.05 * RNG.standard_normal(624))
    apart = loss_of(positive, reference, RNG.standard_normal(624) + 2 * positive)
    assert alike.standard_error is not None
    assert apart.standard_error is not None
    assert alike.standard_error < apart.standard_error / 5
    assert alike.bound is not None
    assert alike.loss < alike.bound < 0.005


def test_few_images_that_decide_are_fewer_than_the_normal_quantile_thinks() -> None:
    positive = np.arange(200) < 100
    reference = positive + np.arange(200) / 1000
    variant = reference.copy()
    variant[[0, 1, 2]] = [0.15, 0.12, 1.03]
    found = loss_of(positive, reference, variant)
    assert found.bound is not None
    assert found.standard_error is not None
    assert found.bound > found.loss + 2.5 * found.standard_error


def test_more_confidence_asks_for_more() -> None:
    positive = np.arange(60) < 30
    reference = RNG.standard_normal(60) + positive
    arguments = column(positive, np.int8), column(reference), column(reference + RNG.standard_normal(60))
    bounds = [auroc_loss(*arguments, [0], names(60), confidence) for confidence in (0.8, 0.95, 0.99)]
    values = [found.bound for found in bounds if found is not None and found.bound is not None]
    assert len(values) == 3
    assert values == sorted(set(values))


def test_a_hundred_thousand_cases_need_no_pair_by_pair_table() -> None:
    positive = np.arange(100_000) % 2 == 0
    scores = RNG.standard_normal((2, 100_000))
    assert abs(loss_of(positive, *scores).loss) < 0.02
