from __future__ import annotations

import numpy as np
import pytest

from medcompress.benchmarks.statistics.metrics import scores, truth
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

BINARY = Decision("binary", ("SICK", "WELL"), "SICK")
SEVERAL = Decision("multiclass", ("A", "B", "C"))


def brute_auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """The share of pairs in order, ties half: the definition (Hanley and McNeil 1982)."""
    pairs = score[positive][:, None] - score[~positive][None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_two_classes_are_judged_by_the_positive_one_wherever_it_stands() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 3.0], [1.0, 0.0]])
    labels = [0, 0, 0, 1, 1]
    found = scores(BINARY, truth(np.eye(2, dtype=int)[labels], BINARY), logits)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(1 / 2)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.auroc == pytest.approx(brute_auroc(np.array(labels) == 0, logits[:, 0] - logits[:, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_several_classes_are_means_against_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0, 1, 2] * 10 + [0] * 7)
    logits = np.round(rng.standard_normal((len(labels), 3)), 1)
    target = truth(np.eye(3, dtype=int)[labels], SEVERAL)
    found = scores(SEVERAL, target, logits)
    probabilities = SEVERAL.probabilities(logits)
    answered = probabilities.argmax(axis=1)
    assert found.auroc == pytest.approx(
        np.mean([brute_auroc(target[:, c] == 1, probabilities[:, c]) for c in range(3)])
    )
    assert found.accuracy == pytest.approx((answered == labels).mean())
    assert found.sensitivity == pytest.approx(np.mean([(answered[labels == c] == c).mean() for c in range(3)]))
    assert found.specificity == pytest.approx(np.mean([(answered[labels != c] != c).mean() for c in range(3)]))


def test_a_class_without_images_is_an_error() -> None:
    with pytest.raises(DataError, match="WELL"):
        truth([[1, 0], [1, 0]], BINARY)


def test_an_image_of_which_nothing_is_known_is_neither_right_nor_wrong() -> None:
    findings = Decision("multilabel", ("EDEMA", "MASS"))
    target = np.array([[1, 0], [0, 1], [-1, -1]], np.int8)
    logits = np.array([[5.0, -5.0], [5.0, 5.0], [0.0, 0.0]])
    assert scores(findings, target, logits).accuracy == pytest.approx(1 / 2)
