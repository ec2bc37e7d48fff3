"""Intervals by redrawing patients: images of one patient are no independent evidence, so they are drawn together.

The cluster bootstrap of Field and Welsh (2007), "Bootstrapping clustered data", JRSS B 69:369-390; percentile
intervals of Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. ``scipy.stats.bootstrap`` gives
NaN as soon as one draw has no answer (no image of a class), and copies the images of every draw; here a draw is a
weight an image, how often it was drawn, from which all figures follow by sums.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .metrics import require_scikit_learn

Floats = npt.NDArray[np.float64]
# How often each image was drawn: whole numbers, whose running sums are eight times as fast as those of floats.
Counts = npt.NDArray[np.int32]
T = TypeVar("T")

# Weights held at once, images times draws, a core: 2 MB, and four times that of what is made from them.
_AT_ONCE = 500_000


def patient_draws(patients: Sequence[str], draws: int, seed: int) -> Iterator[Counts]:
    """Draw as many patients as there are, with replacement, so often.

    Yields (some draws, N) weights, ``draws`` rows in all: how often each image's patient was drawn. The same
    patients, draws and seed give the same weights.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // max(1, len(index)))
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = rng.integers(0, len(names), (count, len(names)))
        cells = drawn + len(names) * np.arange(count)[:, None]
        often = np.bincount(cells.ravel(), minlength=count * len(names)).reshape(count, len(names))
        yield often.astype(np.int32)[:, index]


def under_draws(patients: Sequence[str], draws: int, seed: int, figures: Callable[[Counts], T]) -> list[T]:
    """What ``figures`` makes of each of the weights of :func:`patient_draws`, in their order.

    On all cores: numpy lets other threads run while it counts. What comes out does not depend on how many there are.

    Raises:
        MachineError: scikit-learn is not installed.
    """
    require_scikit_learn()  # brings threadpoolctl
    from threadpoolctl import threadpool_limits

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: list[T] = []
    waiting: deque[Future[T]] = deque()
    # Matrix products would start as many threads again in each of these, which then wait for one another.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores) as pool:
        for weights in patient_draws(patients, draws, seed):
            if len(waiting) > cores:
                found.append(waiting.popleft().result())
            waiting.append(pool.submit(figures, weights))
        return found + [each.result() for each in waiting]


def percentile_interval(values: Floats, confidence: float) -> tuple[float, float]:
    """The central share ``confidence`` of the draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


class Ranking:
    """One class's images, with and without it, from the highest score to the lowest: its areas for any weights.

    Args:
        positive: (n,) whether the image has the class.
        score: (n,) higher for positive.
        rows: (n,) their columns of the weights; by default all, in this order.
    """

    def __init__(
        self, positive: npt.NDArray[np.bool_], score: Floats, rows: npt.NDArray[np.intp] | None = None
    ) -> None:
        falling = np.argsort(-score, kind="stable")
        diseased, healthy = falling[positive[falling]], falling[~positive[falling]]
        # Of each diseased image: healthy ones of a higher score, of as high a one, and diseased ones of as high a one.
        self._above = np.searchsorted(-score[healthy], -score[diseased], side="left")
        self._passed = np.searchsorted(-score[healthy], -score[diseased], side="right")
        self._found = np.searchsorted(-score[diseased], -score[diseased], side="right")
        self._diseased, self._healthy = (each if rows is None else rows[each] for each in (diseased, healthy))

    def areas(self, weights: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """AUROC and average precision of each draw, as scikit-learn defines them with ``sample_weight``.

        Args:
            weights: (draws, n), how often each image counts.

        Returns:
            two of (draws,); NaN where a draw lacks one of the classes.
        """
        own = np.take(weights, self._diseased, axis=1)
        true, false = _running(own), _running(np.take(weights, self._healthy, axis=1))
        diseased, healthy = true[:, -1].astype(np.float64), false[:, -1].astype(np.float64)
        passed, gained = np.take(false, self._passed, axis=1), own.astype(np.float64)
        # Pairs in order, twice: each diseased image with the healthy ones scored lower, and half of those scored alike.
        ordered = 2 * false[:, -1:] - np.take(false, self._above, axis=1) - passed
        found = np.take(true, self._found, axis=1)
        answered = passed + found
        with np.errstate(invalid="ignore", divide="ignore"):
            auroc = np.einsum("dn,dn->d", gained, ordered.astype(np.float64)) / (2 * diseased * healthy)
            precision = np.divide(found, answered, out=np.zeros(found.shape), where=answered > 0)
            average_precision = np.einsum("dn,dn->d", gained, precision) / diseased
        average_precision[healthy == 0] = np.nan
        return auroc, average_precision


def _running(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Running sums of each row, from 0."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, dtype=weights.dtype, out=sums[:, 1:])
    return sums
