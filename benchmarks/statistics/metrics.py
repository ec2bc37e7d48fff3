"""How well a model answers."""

from __future__ import annotations

import importlib.util
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError, missing_package


class Scores(msgspec.Struct, frozen=True):
    """On labelled images, at the locked threshold.

    For two classes, sensitivity, specificity and AUROC are of the positive class. For more, and for findings, they
    are means over the classes, each against the rest.

    Attributes:
        auroc: area under the ROC curve, 0..1.
        accuracy: share of images answered exactly right; of several findings, every known one.
        by_class: (sensitivity, specificity) of each class against the rest; of the positive one alone for two.
    """

    auroc: float
    accuracy: float
    by_class: tuple[tuple[float, float], ...]

    @property
    def sensitivity(self) -> float:
        """Share of the diseased answered so."""
        return float(np.mean([sensitivity for sensitivity, _ in self.by_class]))

    @property
    def specificity(self) -> float:
        """Share of the healthy answered so."""
        return float(np.mean([specificity for _, specificity in self.by_class]))

    def figures(self) -> dict[str, float]:
        """``auroc``, ``accuracy``, ``sensitivity`` and ``specificity``."""
        return {name: getattr(self, name) for name in ("auroc", "accuracy", "sensitivity", "specificity")}


def require_scikit_learn() -> None:
    """Raise a MachineError where scikit-learn is not installed: to be called before long work."""
    if importlib.util.find_spec("sklearn") is None:
        raise missing_package("scikit-learn", "report")


def truth(targets: npt.ArrayLike, decision: Decision) -> npt.NDArray[np.int8]:
    """(N, classes), the matrix all measures work on: 1 present, 0 absent, -1 unknown.

    Raises:
        DataError: a class that no image, or every image has, so that nothing can be said of it.
    """
    matrix = np.asarray(targets, np.int8).reshape(-1, len(decision.classes))
    for value, problem in ((1, "have none of"), (0, "all have")):
        names = [name for name, column in zip(decision.classes, matrix.T, strict=True) if not (column == value).any()]
        if names:
            raise DataError(f"the labelled images {problem} {names}; the measures need images with and without")
    return matrix


def scores(decision: Decision, target: npt.NDArray[np.int8], logits: npt.NDArray[Any]) -> Scores:
    """Judge raw outputs (N, classes) against :func:`truth`; what is unknown is not counted.

    AUROC is scikit-learn's (``roc_auc_score``: trapezoids, ties count half).

    Raises:
        MachineError: scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.metrics import roc_auc_score

    probabilities = decision.probabilities(logits)
    answers = decision.answers(probabilities)
    columns = [decision.positive_index] if decision.kind == "binary" else list(range(len(decision.classes)))
    known = target >= 0
    by_class = tuple(
        (float(answers[target[:, c] == 1, c].mean()), float(1 - answers[target[:, c] == 0, c].mean())) for c in columns
    )
    areas = [roc_auc_score(target[known[:, c], c], probabilities[known[:, c], c]) for c in columns]
    return Scores(
        auroc=float(np.mean(areas)),
        accuracy=float(((answers == target) | ~known).all(axis=1)[known.any(axis=1)].mean()),
        by_class=by_class,
    )
