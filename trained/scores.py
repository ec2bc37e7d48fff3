"""Figures of merit during training: AUROC, sensitivity, specificity and accuracy of one part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from ..runtime.decision import Decision


def auroc(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], decision: Decision) -> float:
    """Area under the ROC curve: of the positive class, or the mean over classes, each against the rest.

    Args:
        probabilities: (N, classes).
        labels: (N,), with every class present.
        decision: kind and classes.
    """
    if decision.kind == "binary":
        positive = decision.positive_index
        return float(roc_auc_score(labels == positive, probabilities[:, positive]))
    areas = [roc_auc_score(labels == index, probabilities[:, index]) for index in range(len(decision.classes))]
    return float(np.mean(areas))


def scores(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], decision: Decision) -> dict[str, float]:
    """``auroc``, ``sensitivity``, ``specificity``, ``accuracy`` at the decision's threshold.

    Binary: sensitivity and specificity for the positive class. Multiclass: their means over the classes, each
    against the rest.

    Args:
        logits: (N, classes) raw outputs.
        labels: (N,), with every class present.
        decision: turns outputs into answers.
    """
    probabilities = decision.probabilities(logits)
    answered = decision.answers(probabilities)
    truth = np.eye(len(decision.classes), dtype=np.bool_)[labels]
    columns = [decision.positive_index] if decision.kind == "binary" else range(len(decision.classes))
    return {
        "auroc": auroc(probabilities, labels, decision),
        "sensitivity": float(np.mean([answered[truth[:, c], c].mean() for c in columns])),
        "specificity": float(np.mean([(~answered[~truth[:, c], c]).mean() for c in columns])),
        "accuracy": float((answered & truth).any(axis=1).mean()),
    }
