"""Draws are of whole patients, and weighted areas are those of the images repeated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score

from medcompress.benchmarks.statistics.bootstrap import Ranking, patient_draws, percentile_interval, under_draws


@pytest.mark.parametrize("ties", [False, True])
def test_areas_under_a_draw_are_scikit_learns(ties: bool) -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(60) < 0.4
    score = rng.normal(positive, 1)
    score = np.round(score) if ties else score
    weights = rng.integers(0, 4, (20, 60)).astype(float)
    auroc, auprc = Ranking(positive, score).areas(weights)
    for row, area, precision in zip(weights, auroc, auprc, strict=True):
        assert area == pytest.approx(roc_auc_score(positive, score, sample_weight=row))
        assert precision == pytest.approx(average_precision_score(positive, score, sample_weight=row))


def test_a_draw_without_one_of_the_classes_has_no_area() -> None:
    positive = np.array([True, False, False])
    auroc, auprc = Ranking(positive, np.arange(3.0)).areas(np.array([[0, 1, 2], [3, 0, 0], [1, 1, 1]], float))
    assert np.isnan(auroc).tolist() == np.isnan(auprc).tolist() == [True, True, False]


def test_images_of_a_patient_are_drawn_together() -> None:
    patients = ["b", "a", "b", "c", "b", "a"]
    weights = np.concatenate(list(patient_draws(patients, 200, seed=3)))
    assert weights.shape == (200, 6)
    assert (weights[:, [0, 0, 1]] == weights[:, [2, 4, 5]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all(), "as many patients as there are"
    again = np.concatenate(list(patient_draws(patients, 200, seed=3)))
    assert (weights == again).all()


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = [str(n) for n in range(7)]
    whole = np.concatenate(list(patient_draws(patients, 50, seed=0)))
    monkeypatch.setattr("medcompress.benchmarks.statistics.bootstrap._AT_ONCE", 21)
    assert (np.concatenate(list(patient_draws(patients, 50, seed=0))) == whole).all()


def test_with_one_image_a_patient_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    weights = np.concatenate(list(patient_draws([f"{n:02}" for n in range(40)], 2000, seed=5)))
    ours = percentile_interval(weights @ values / 40, 0.95)
    theirs = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=5).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize("cores", [1, 2, 7])
def test_cores_do_not_change_what_is_drawn(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    patients = [str(n) for n in range(11)]
    whole = np.concatenate(list(patient_draws(patients, 60, seed=2)))
    monkeypatch.setattr("medcompress.benchmarks.statistics.bootstrap._AT_ONCE", 33)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    found = under_draws(patients, 60, 2, lambda weights: weights.copy())
    assert len(found) == 20 and (np.concatenate(found) == whole).all()


def test_an_error_in_a_draw_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        under_draws(["a", "b"], 10, 0, lambda weights: 1 // 0)


def test_rows_place_a_class_among_all_images() -> None:
    rng = np.random.default_rng(6)
    positive, score = rng.random(30) < 0.5, np.round(rng.normal(size=30), 1)
    weights = rng.integers(0, 4, (8, 50)).astype(np.int32)
    rows = rng.permutation(50)[:30]
    placed, own = Ranking(positive, score, rows).areas(weights), Ranking(positive, score).areas(weights[:, rows])
    assert np.array_equal(placed, own)
