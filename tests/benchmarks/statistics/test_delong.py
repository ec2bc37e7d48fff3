from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medcompress.benchmarks.statistics.delong import _covariance, auroc_drop

RNG = np.random.default_rng(0)


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
@pytest.mark.parametrize("count", [5, 40, 300])
def test_ranks_give_what_the_definition_gives(digits: int, count: int) -> None:
    positive = np.arange(count) < max(2, count // 3)
    common = RNG.standard_normal(count) + positive
    scores = np.round(common + 0.3 * RNG.standard_normal((2, count)), digits)
    areas, covariance = _covariance(positive, scores)
    expected_areas, expected = brute(positive, scores)
    assert np.allclose(areas, expected_areas)
    assert np.allclose(covariance, expected)
    assert areas[0] == pytest.approx(roc_auc_score(positive, scores[0]))


def test_the_identical_model_loses_nothing_surely() -> None:
    positive = np.arange(50) < 20
    scores = RNG.standard_normal(50)
    found = auroc_drop(positive, scores, scores * 2 + 1)
    assert (found.drop, found.standard_error, found.upper_bound) == (0, 0, 0)


def test_pairing_is_what_makes_a_small_loss_visible() -> None:
    positive = np.arange(624) < 390
    reference = RNG.standard_normal(624) + 2 * positive
    candidate = reference + 0.05 * RNG.standard_normal(624)
    alike = auroc_drop(positive, reference, candidate)
    apart = auroc_drop(positive, reference, RNG.standard_normal(624) + 2 * positive)
    assert alike.standard_error < apart.standard_error / 5
    assert alike.upper_bound is not None
    assert alike.drop < alike.upper_bound < 0.005


def test_perfect_separation_is_no_certainty() -> None:
    positive = np.arange(7) < 2
    scores = np.where(positive, 2.0, 1.0) + np.arange(7) / 10
    assert auroc_drop(positive, scores, scores).upper_bound is None


def test_too_few_images_have_no_variance() -> None:
    with pytest.raises(ValueError, match="two images"):
        auroc_drop(np.array([True, False, False]), np.arange(3.0), np.arange(3.0))


def test_the_bound_covers_the_true_drop_as_often_as_it_says() -> None:
    """400 studies of 120 images whose models are truly equal: the 95 % bound lies below 0 in about 5 %."""
    below = 0
    for _ in range(400):
        positive = np.arange(120) < 60
        truth = RNG.standard_normal(120) + 1.2 * positive
        noise = 0.5 * RNG.standard_normal((2, 120))
        bound = auroc_drop(positive, truth + noise[0], truth + noise[1]).upper_bound
        below += bound is not None and bound < 0
    assert 0.02 <= below / 400 <= 0.085


def test_a_hundred_thousand_cases_need_no_pair_by_pair_table() -> None:
    positive = np.arange(100_000) % 2 == 0
    scores = RNG.standard_normal((2, 100_000))
    assert abs(auroc_drop(positive, scores[0], scores[1]).drop) < 0.02
