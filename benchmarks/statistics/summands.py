"""What is summed over the images: the product of weights and summands has all sums that most figures are ratios of.

(draws, N) weights times (N, k) summands are (draws, k) sums.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import Floats
from .judged import Judged, Reliability


def counts_of(found: Judged) -> Floats:
    """(N, 2 + 4 classes): the image; whether all of it was answered right; and by class, whether it has it, whether
    not, and of either, whether it was answered so.
    """
    right = (found.answers == found.target) | (found.target < 0)
    columns = [np.ones(len(found), np.bool_), right.all(axis=1)]
    for target, answered in zip(found.target.T, found.answers.T, strict=True):
        present, absent = target == 1, target == 0
        columns += [present, absent, present & answered, absent & answered]
    return np.stack(columns, axis=1).astype(np.float64)


def gap_of(part: Reliability, images: int) -> Floats:
    """(N, bins + 1): by how much the probability exceeds the outcome, in the image's bin; and whether it counts."""
    summands = np.zeros((images, part.bin.max() + 2))
    summands[part.rows, part.bin] = part.probability - part.outcome
    summands[part.rows, -1] = 1
    return summands


def gap(sums: Floats) -> Floats:
    """The calibration error from the sums of :func:`gap_of`."""
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def squared_error_of(found: Judged) -> Floats:
    """(N, 2 k): squared errors, and whether they count, of k findings, or of all classes together."""
    squared, known = (found.probabilities - found.target) ** 2, found.target >= 0
    if found.decision.kind == "multilabel":
        columns = known.any(axis=0)
        known, squared = known[:, columns], (squared * known)[:, columns]
    else:
        columns = found.columns
        known, squared = known[:, :1], squared[:, columns].sum(axis=1, keepdims=True)
    return np.concatenate([squared, known.astype(np.float64)], axis=1)


def squared_error(sums: Floats) -> Floats:
    """The Brier score from the sums of :func:`squared_error_of`."""
    squared, known = np.split(sums, 2, axis=1)
    return (squared / known).mean(axis=1)
