"""The folds of one training together: what their answers may be pooled for, and what not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ...benchmarks.statistics.assessment import Assessment, Figure, mean_figures
from ...benchmarks.statistics.judged import Judged
from ...benchmarks.statistics.measures import OVERALL

# Of probabilities rather than answers. Pooled, they would hold those of different models against each other: Forman and
# Scholz (2010), "Apples-to-apples in cross-validation studies", SIGKDD Explorations 12:49-57.
BY_FOLD = ("auroc", "auprc", "ece", "brier")


class CrossValidation(msgspec.Struct, frozen=True):
    """The folds' validation images, each answered by the one training that did not learn from it (it did choose its
    epoch by it).

    Attributes:
        images, patients: of all folds.
        mean, spread: of the figures of :data:`BY_FOLD`: over the folds' own, and their standard deviation.
        pooled: the other figures, over all images together, with intervals by patient.
    """

    images: int
    patients: int
    mean: dict[str, float]
    spread: dict[str, float]
    pooled: dict[str, Figure]


def cross_validation(found: Sequence[Assessment], folds: Sequence[Judged], draws: int, seed: int) -> CrossValidation:
    """Two or more folds together: what was found on each, and its answers."""
    together = Judged(
        folds[0].decision,
        np.concatenate([fold.target for fold in folds]),
        np.concatenate([fold.probabilities for fold in folds]),
        np.concatenate([fold.answers for fold in folds]),
        tuple(patient for fold in folds for patient in fold.patients),
        sum(fold.unknown for fold in folds),
    )
    pooled = mean_figures([together], draws=draws, seed=seed)
    own = {name: values for name, values in own_values(found).items() if name in BY_FOLD}
    return CrossValidation(
        len(together),
        len(set(together.patients)),
        {name: float(np.mean(values)) for name, values in own.items()},
        spread(own),
        {name: figure for name, figure in pooled.items() if name not in BY_FOLD},
    )


def own_values(found: Sequence[Assessment]) -> dict[str, list[float]]:
    """The figures over all that every one of them has, and each one's."""
    values = {name: [each.figures[name].value for each in found] for name in OVERALL}
    return {name: [v for v in each if v is not None] for name, each in values.items() if None not in each}


def spread(values: dict[str, list[float]]) -> dict[str, float]:
    """Standard deviation of each figure; of one value there is none."""
    return {name: float(np.std(each, ddof=1)) for name, each in values.items() if len(each) > 1}
