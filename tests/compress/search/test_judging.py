"""How far answers are from passing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medcompress.benchmarks.data.labelled import Labelled
from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.compress.search.judging import FAR, figures_of
from medcompress.runtime.decision import Decision

DECISION = Decision("binary", ("CLEAR", "OPACITY"), "OPACITY")


def images(count: int, positive: int) -> Labelled:
    target = np.zeros((count, 2), np.int8)
    target[:positive, 1] = 1
    target[positive:, 0] = 1
    samples = tuple(Sample(Path(f"{n}.png"), (int(n >= positive), int(n < positive)), f"p{n}") for n in range(count))
    return Labelled(Path("none.npy"), target, samples)


def outputs(found: Labelled) -> np.ndarray:
    """Right, and sure of it, all a little different."""
    sure = np.where(found.target[:, 1] == 1, 3.0, -3.0) + np.linspace(-1, 1, len(found))
    return np.stack([-sure / 2, sure / 2], axis=1).astype(np.float32)


def flipped(dense: np.ndarray, rows: list[int]) -> np.ndarray:
    found = dense.copy()
    found[rows] = -found[rows]
    return found


def test_the_same_answers_fall_short_of_nothing() -> None:
    found = images(200, 100)
    dense = outputs(found)
    figures = figures_of(DECISION, found, dense, dense, Tolerance())
    assert figures.shortfall == 0 and figures.passes and figures.flips == 0
    assert figures.auroc == 1


def test_one_changed_answer_is_no_loss_of_sensitivity_and_many_are() -> None:
    found = images(400, 200)
    dense = outputs(found)
    wide = Tolerance(auroc_drop=1, flips=1, ece_rise=1)
    one = figures_of(DECISION, found, dense, flipped(dense, [0]), wide)
    many = figures_of(DECISION, found, dense, flipped(dense, list(range(8))), wide)
    assert one.shortfall == 0 and one.flips == 1
    # 7 beyond the first of 200, and half of the margin of 0.03 may be used.
    assert many.shortfall == pytest.approx(7 / 200 / 0.015)
    assert "sensitivity of OPACITY falls by 0.0400" in many.worst
    assert not many.passes


def test_a_rare_class_does_not_decide() -> None:
    found = images(400, 10)
    dense = outputs(found)
    wide = Tolerance(auroc_drop=1, flips=1, ece_rise=1)
    assert figures_of(DECISION, found, dense, flipped(dense, [0, 1]), wide).shortfall == 0


def test_one_image_far_off_is_no_reason() -> None:
    found = images(400, 200)
    dense = outputs(found)
    off = dense.copy()
    off[0] = 0.1 * off[0]
    assert figures_of(DECISION, found, dense, off, Tolerance(probability_change=0.01)).passes


def test_a_margin_of_nothing_is_kept_by_nothing_else() -> None:
    found = images(400, 200)
    dense = outputs(found)
    figures = figures_of(DECISION, found, dense, flipped(dense, [0, 1, 2]), Tolerance(flips=0))
    assert figures.shortfall == FAR
