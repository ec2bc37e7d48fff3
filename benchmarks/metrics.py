"""How well a model answers, and how far a compressed model's answers are from its reference's."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..runtime.decision import Decision
from ..runtime.errors import DataError, missing_package


class Scores(msgspec.Struct, frozen=True):
    """On labelled images, at the locked threshold.

    For two classes, sensitivity, specificity and AUROC are of the positive class. For more, they are means over
    the classes, each against the rest.

    Attributes:
        auroc: area under the ROC curve, 0..1.
        accuracy: share of images answered exactly right.
        sensitivity: share of the diseased answered so.
        specificity: share of the healthy answered so.
    """

    auroc: float
    accuracy: float
    sensitivity: float
    specificity: float


class Change(msgspec.Struct, frozen=True):
    """From the reference's answers to a candidate's, over the same images.

    Attributes:
        probability_change: the largest, of any class of any image, 0..1.
        flips: images whose answer changed.
    """

    probability_change: float
    flips: int


def truth(labels: npt.ArrayLike, decision: Decision) -> npt.NDArray[np.bool_]:
    """(N,) class indices to (N, classes): the matrix all measures work on.

    Raises:
        DataError: a class is absent, so that nothing can be said of it.
    """
    matrix = np.asarray(labels)[:, None] == np.arange(len(decision.classes))
    absent = [name for name, column in zip(decision.classes, matrix.T, strict=True) if not column.any()]
    if absent:
        raise DataError(f"the labelled images have none of {absent}; the measures need every class")
    return matrix


def scores(decision: Decision, target: npt.NDArray[np.bool_], logits: npt.NDArray[Any]) -> Scores:
    """Judge raw outputs (N, classes) against the truth (N, classes).

    AUROC is scikit-learn's (``roc_auc_score``: trapezoids, ties count half).

    Raises:
        MachineError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise missing_package("scikit-learn", "report") from error
    probabilities = decision.probabilities(logits)
    answers = decision.answers(probabilities)
    columns = [decision.positive_index] if decision.kind == "binary" else list(range(len(decision.classes)))
    return Scores(
        auroc=float(np.mean([roc_auc_score(target[:, c], probabilities[:, c]) for c in columns])),
        accuracy=float((answers == target).all(axis=1).mean()),
        sensitivity=float(np.mean([answers[target[:, c], c].mean() for c in columns])),
        specificity=float(np.mean([1 - answers[~target[:, c], c].mean() for c in columns])),
    )


def change(decision: Decision, reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> Change:
    """Compare raw outputs (N, classes) image by image."""
    before, after = decision.probabilities(reference), decision.probabilities(candidate)
    flipped = (decision.answers(before) != decision.answers(after)).any(axis=1)
    return Change(float(np.abs(before - after).max()), int(flipped.sum()))
