"""Intervals by redrawing patients: images of one patient are no independent evidence, so they are drawn together.

The cluster bootstrap of Field and Welsh (2007), "Bootstrapping clustered data", JRSS B 69:369-390; percentile
intervals of Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. ``scipy.stats.bootstrap`` gives
NaN as soon as one draw has no answer (no image of a class), and copies the images of every draw; here a draw is a
weight an image, how often it was drawn, from which all figures follow by sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Weights held at once, images times draws: 16 MB.
_AT_ONCE = 2_000_000


def patient_draws(patients: Sequence[str], draws: int, seed: int) -> Iterator[Floats]:
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
        yield often[:, index].astype(np.float64)


def percentile_interval(values: Floats, confidence: float) -> tuple[float, float]:
    """The central share ``confidence`` of the draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


class Ranking:
    """One class's images from the highest score to the lowest: its areas for any weights in one pass.

    Args:
        positive: (n,) whether the image has the class.
        score: (n,) higher for positive.
    """

    def __init__(self, positive: npt.NDArray[np.bool_], score: Floats) -> None:
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._positive = positive[self._order].astype(np.float64)
        # Images of one score pass the threshold together: the last of each such group counts.
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision of each draw, as scikit-learn defines them with ``sample_weight``.

        Args:
            weights: (draws, n), how often each image counts.

        Returns:
            two of (draws,); NaN where a draw lacks one of the classes.
        """
        drawn = np.take(weights, self._order, axis=1)
        everything = np.cumsum(drawn, axis=1)
        drawn *= self._positive
        true = np.cumsum(drawn, axis=1)
        if len(self._ends) < drawn.shape[1]:
            everything, true = everything[:, self._ends], true[:, self._ends]
        false = everything - true
        gained = np.diff(true, axis=1, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            diseased, healthy = true[:, -1], false[:, -1]
            # Pairs in order: each positive against the negatives scored lower, and half of those scored alike.
            lower = healthy[:, None] - (false + np.concatenate([np.zeros((len(false), 1)), false[:, :-1]], axis=1)) / 2
            auroc = (gained * lower).sum(axis=1) / (diseased * healthy)
            precision = np.divide(true, everything, out=np.zeros_like(true), where=everything > 0)
            average_precision = (gained * precision).sum(axis=1) / diseased
        average_precision[healthy == 0] = np.nan
        return auroc, average_precision
