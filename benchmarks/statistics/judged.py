"""Labelled images with what a model answered for each: what every figure, interval and plot is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError
from .bootstrap import Floats
from .metrics import require_scikit_learn

# Of the calibration error and the reliability diagram.
BINS = 10


@dataclass(frozen=True)
class Judged:
    """Images of known truth, with a model's probabilities and answers.

    Attributes:
        decision: names the classes and the positive one.
        target: (N, classes) int8: 1 present, 0 absent, -1 unknown (of a finding).
        probabilities: (N, classes).
        answers: (N, classes), whether each was answered.
        patients: whose image each is.
        unknown: how many images were left out, for nothing is known of them.
    """

    decision: Decision
    target: npt.NDArray[np.int8]
    probabilities: Floats
    answers: npt.NDArray[np.bool_]
    patients: tuple[str, ...]
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.target)

    @property
    def columns(self) -> list[int]:
        """The classes whose figures are averaged; of two the positive one alone."""
        decision = self.decision
        return [decision.positive_index] if decision.kind == "binary" else list(range(len(decision.classes)))

    @property
    def judgeable(self) -> list[int]:
        """Of :attr:`columns`, those with images with and without."""
        return [c for c in self.columns if (self.target[:, c] == 1).any() and (self.target[:, c] == 0).any()]


def judged(
    decision: Decision, target: npt.ArrayLike, probabilities: npt.NDArray[np.floating], patients: Sequence[str]
) -> Judged:
    """Answer from probabilities, and leave out the images of which nothing is known.

    Args:
        target: (N, classes), see :func:`medcompress.benchmarks.statistics.metrics.truth`; a class without images is
            allowed.
        probabilities: (N, classes).
        patients: N names.

    Raises:
        DataError: the three do not line up, a target is no target, or a probability is not a number.
    """
    given = np.shape(probabilities)[-1] if np.ndim(probabilities) else 0
    if np.size(probabilities) and given != len(decision.classes):
        raise DataError(f"the predictions are of {given} classes and the model has {len(decision.classes)}")
    if np.ndim(target) == 2 and np.size(target) and np.shape(target)[1] != len(decision.classes):
        raise DataError(f"the labels are of {np.shape(target)[1]} classes and the model has {len(decision.classes)}")
    matrix = np.asarray(target, np.int8).reshape(-1, len(decision.classes))
    chances = np.asarray(probabilities, np.float64).reshape(-1, len(decision.classes))
    if not len(matrix) == len(chances) == len(patients):
        raise DataError(
            f"{len(matrix)} labels, {len(chances)} predictions and {len(patients)} patients do not line up; "
            "each image needs one of each"
        )
    if not np.isin(matrix, (-1, 0, 1)).all():
        raise DataError("a target holds other numbers than 1 (present), 0 (absent) and -1 (unknown); mend the labels")
    if not np.isfinite(chances).all():
        raise DataError("the model's outputs are not all numbers, so nothing can be said of it; train it again")
    rows = np.flatnonzero(known_images(decision, matrix))
    return Judged(
        decision,
        matrix[rows],
        chances[rows],
        decision.answers(chances[rows]),
        tuple(str(patients[row]) for row in rows.tolist()),
        len(matrix) - len(rows),
    )


def known_images(decision: Decision, target: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """(N,) whether something is known of each image; but of findings, which class it has."""
    stated = target >= 0
    if decision.kind == "multilabel":
        return np.logical_or.reduce(stated, axis=1)
    return np.logical_and.reduce(stated, axis=1) & (target.sum(axis=1) == 1)


def confusion(found: Judged) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Truth in the rows, answers in the columns: one matrix, or one a finding (absent, present)."""
    require_scikit_learn()
    from sklearn.metrics import confusion_matrix

    if found.decision.kind == "multilabel":
        size, truths, answers = 2, found.target.T, found.answers.T.astype(int)
    else:
        size = len(found.decision.classes)
        truths, answers = found.target.argmax(axis=1)[None], found.answers.argmax(axis=1)[None]
    matrices = []
    for truth, answer in zip(truths, answers, strict=True):
        known = truth >= 0
        labels = np.arange(size)
        counts = confusion_matrix(truth[known], answer[known], labels=labels) if known.any() else np.zeros((size, size))
        matrices.append(tuple(tuple(int(count) for count in row) for row in counts))
    return tuple(matrices)


@dataclass(frozen=True)
class Reliability:
    """What calibration is read from: ``probability`` given (n,), ``outcome`` 0 or 1 (n,), and each image's ``bin``.

    ``rows`` are the images they are of.
    """

    rows: npt.NDArray[np.intp]
    probability: Floats
    outcome: Floats
    bin: npt.NDArray[np.intp]


def reliability(found: Judged) -> dict[int, Reliability]:
    """By place: of two classes the positive one's, of several the answer's, of findings each with a known image.

    Bins hold equally many images; images of one probability share a bin.
    """
    rows = np.arange(len(found))
    if found.decision.kind == "multiclass":
        answer = found.answers.argmax(axis=1)
        right = found.target[rows, answer] == 1
        parts = [(rows, found.probabilities[rows, answer], right.astype(np.float64))]
    else:
        known = [(c, np.flatnonzero(found.target[:, c] >= 0)) for c in found.columns]
        parts = [(k, found.probabilities[k, c], found.target[k, c].astype(np.float64)) for c, k in known]
    return {place: Reliability(*part, _equal_mass(part[1])) for place, part in enumerate(parts) if len(part[0])}


def _equal_mass(probability: Floats) -> npt.NDArray[np.intp]:
    edges = np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(np.unique(edges), probability, side="right")
