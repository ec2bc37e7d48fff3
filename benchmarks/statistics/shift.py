"""By how much the calibration error can have risen at most: by no more than the probabilities moved.

The calibration error estimated by bins is too high where calibration is good (Roelofs et al. 2022,
https://arxiv.org/abs/2012.08668), so that its measured rise is too low, and a bootstrap of it shows rises that are not
excluded as excluded. What cannot be larger than it looks is the mean distance between the two models' probabilities
for the same image: in every bin the mean probability moved by at most that, by the triangle inequality. Of several
classes the probability is the answer's, and an image whose answer turned right or wrong counts 1 more. The bound of
that mean takes patients as the units (Liang and Zeger 1986, Biometrika 73:13-22) and Student's quantile.
"""

from __future__ import annotations

import msgspec
import numpy as np

from .judged import Judged, reliability


class Shift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``mean`` distance between probabilities, and its one-sided ``bound``; None of a single patient."""

    mean: float
    bound: float | None


def shift(reference: Judged, variant: Judged, confidence: float) -> Shift:
    """Of findings the mean over them.

    Raises:
        MachineError: scipy is not installed.
    """
    from .metrics import require_scikit_learn

    require_scikit_learn()  # brings scipy
    from scipy.stats import t

    moved = np.zeros(len(reference))
    before, after = reliability(reference), reliability(variant)
    for place, part in before.items():
        other = after[place]
        distance = np.abs(part.probability - other.probability) + np.abs(part.outcome - other.outcome)
        # An image unknown to a finding is no part of its mean: the others weigh more.
        moved[part.rows] += distance * len(moved) / len(part.rows) / len(before)
    mean = float(moved.mean())
    _, of_patient = np.unique(np.asarray(reference.patients), return_inverse=True)
    residual = np.bincount(of_patient, moved - mean)
    people = len(residual)
    if people < 2:
        return Shift(mean, None)
    error = float(np.sqrt(people / (people - 1) * (residual @ residual))) / len(moved)
    return Shift(mean, mean + float(t.ppf(confidence, people - 1)) * error)
