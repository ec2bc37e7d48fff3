"""The figures of a classifier on labelled images: their values, and their values under draws of the patients.

Values are scikit-learn's where it has them; under a thousand draws the same figures are weighted sums, for speed, and
tests hold the two against each other. What has no value (nobody has the class) is NaN here.

The figures over all are of the positive class of two; of more classes and of findings they are means over those that
have images with and without. A class that is never answered has no precision of its own, and counts 0 in a mean
(scikit-learn's ``zero_division=0``). ``accuracy`` is the share of images answered exactly right (of findings: every
known one), ``weighted_f1`` weighs each class by its images.

``ece``, expected calibration error: images are put into bins of equally many by their probability, and the distance
between mean probability and share of true ones is averaged over the images; which probability, see
:func:`medcompress.benchmarks.statistics.judged.reliability`. Of findings it is their mean. Naeini, Cooper and
Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning", AAAI; of several classes Guo et
al. (2017), "On calibration of modern neural networks", ICML; bins of equal mass have the lower bias: Roelofs et al.
(2022), "Mitigating bias in calibration error estimation", AISTATS, https://arxiv.org/abs/2012.08668. Some bias stays:
of few images it is too high even where calibration is perfect.

``brier``: mean squared distance between probability and truth, 0 the best; of several classes summed over them, up
to 2 (Brier 1950, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78:1-3).
"""

from __future__ import annotations

import warnings

import numpy as np

from .bootstrap import Counts, Floats, Ranking
from .judged import Judged, reliability
from .metrics import require_scikit_learn
from .summands import counts_of, gap, gap_of, squared_error, squared_error_of

OF_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc", "auprc", "accuracy")
OVERALL = (
    "auroc",
    "auprc",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "weighted_f1",
    "kappa",
    "ece",
    "brier",
)
_MEANS = ("auroc", "auprc", "sensitivity", "specificity", "f1")


def class_values(found: Judged, c: int) -> dict[str, float]:
    """:data:`OF_CLASS` of class ``c`` against the rest."""
    require_scikit_learn()
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        f1_score,
        precision_score,
        recall_score,
        roc_auc_score,
    )

    known = found.target[:, c] >= 0
    truth, answer = found.target[known, c], found.answers[known, c].astype(np.int8)
    score = found.probabilities[known, c]
    values: dict[str, float] = dict.fromkeys(OF_CLASS, np.nan)
    positive, negative = (truth == 1).any(), (truth == 0).any()
    if len(truth):
        values["accuracy"] = accuracy_score(truth, answer)
    if answer.any():
        values["precision"] = precision_score(truth, answer)
    if positive:
        values |= {"sensitivity": recall_score(truth, answer), "f1": f1_score(truth, answer)}
    if negative:
        values["specificity"] = recall_score(truth, answer, pos_label=0)
    if positive and negative:
        values |= {"auroc": roc_auc_score(truth, score), "auprc": average_precision_score(truth, score)}
    return {name: float(value) for name, value in values.items()}


def overall_values(found: Judged) -> dict[str, float]:
    """:data:`OVERALL`."""
    values: dict[str, float] = dict.fromkeys(OVERALL, np.nan)
    if not len(found):
        return values
    by_class = {c: class_values(found, c) for c in range(len(found.decision.classes))}
    averaged = found.judgeable
    if averaged:
        values |= {name: float(np.mean([by_class[c][name] for c in averaged])) for name in _MEANS}
        precision = [by_class[c]["precision"] for c in averaged]
        values["precision"] = float(np.mean(precision if len(found.columns) == 1 else np.nan_to_num(precision)))
    values |= _of_findings(found, by_class) if found.decision.kind == "multilabel" else _of_labels(found)
    parts = reliability(found).values()
    values["ece"] = float(np.mean([gap(gap_of(part, len(found)).sum(axis=0, keepdims=True)) for part in parts]))
    values["brier"] = float(squared_error(squared_error_of(found).sum(axis=0, keepdims=True))[0])
    return values


def _of_labels(found: Judged) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score

    labels = range(len(found.decision.classes))
    truth, answer = found.target.argmax(axis=1), found.answers.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single label, which makes kappa NaN as it should
        return {
            "accuracy": float(accuracy_score(truth, answer)),
            "balanced_accuracy": float(balanced_accuracy_score(truth, answer)) if found.judgeable else np.nan,
            "weighted_f1": float(f1_score(truth, answer, labels=labels, average="weighted", zero_division=0.0)),  # pyright: ignore
            "kappa": float(cohen_kappa_score(truth, answer, labels=labels)),
        }


def _of_findings(found: Judged, by_class: dict[int, dict[str, float]]) -> dict[str, float]:
    from sklearn.metrics import cohen_kappa_score

    target, answers = found.target, found.answers.astype(np.int8)
    known = target >= 0
    support = (target == 1).sum(axis=0)
    f1 = np.nan_to_num([by_class[c]["f1"] for c in found.columns])
    values = {"accuracy": float(((answers == target) | ~known).all(axis=1).mean())}
    if support.any():
        values["weighted_f1"] = float((support * f1).sum() / support.sum())
    if found.judgeable:
        halves = [(by_class[c]["sensitivity"] + by_class[c]["specificity"]) / 2 for c in found.judgeable]
        values["balanced_accuracy"] = float(np.mean(halves))
        kappas = [cohen_kappa_score(target[known[:, c], c], answers[known[:, c], c]) for c in found.judgeable]
        values["kappa"] = float(np.mean(kappas))
    return values


class Figures:
    """All figures of judged images under any weights; what does not depend on the weights is made ready once.

    Most figures are ratios of sums over the images: one product of the weights and a matrix gives all sums.
    """

    def __init__(self, found: Judged) -> None:
        self._found = found
        self._rankings = [
            Ranking(found.target[rows, c] == 1, found.probabilities[rows, c], rows)
            for c, rows in enumerate(np.flatnonzero(column >= 0) for column in found.target.T)
        ]
        parts = [counts_of(found), *(gap_of(part, len(found)) for part in reliability(found).values())]
        parts += [squared_error_of(found)]
        self._summands = np.concatenate(parts, axis=1)
        self._cuts = np.cumsum([part.shape[1] for part in parts])[:-1]

    def under(self, weights: Floats | Counts) -> tuple[dict[str, Floats], list[dict[str, Floats]]]:
        """(:data:`OVERALL`, :data:`OF_CLASS` of each class), each (draws,), of (draws, N) weights."""
        found = self._found
        sums = weights.astype(np.float64) @ self._summands
        counted, *gaps, squares = np.split(sums, self._cuts, axis=1)
        images, right, *columns = counted.T
        counts = [tuple(columns[4 * c : 4 * c + 4]) for c in range(len(self._rankings))]
        with np.errstate(invalid="ignore", divide="ignore"):
            by_class = [self._of_class(c, weights, counts[c]) for c in range(len(counts))]
            overall = {name: np.full(len(weights), np.nan) for name in OVERALL}
            averaged = found.judgeable
            if averaged:
                overall |= {name: np.mean([by_class[c][name] for c in averaged], axis=0) for name in _MEANS}
                overall["precision"] = by_class[averaged[0]]["precision"]
                if len(found.columns) > 1:
                    overall["precision"] = np.mean([_precision_of_mean(*counts[c]) for c in averaged], axis=0)
            overall |= self._agreement(images, right, counts, by_class)
            if gaps:
                overall["ece"] = np.mean([gap(each) for each in gaps], axis=0)
                overall["brier"] = squared_error(squares)
        return overall, by_class

    def _of_class(self, c: int, weights: Floats | Counts, counts: tuple[Floats, ...]) -> dict[str, Floats]:
        positive, negative, true, false = counts
        auroc, auprc = self._rankings[c].areas(weights)
        f1 = 2 * true / (true + false + positive)
        return {
            "sensitivity": true / positive,
            "specificity": 1 - false / negative,
            "precision": true / (true + false),
            "f1": np.where(positive > 0, f1, np.nan),
            "auroc": auroc,
            "auprc": auprc,
            "accuracy": (true + negative - false) / (positive + negative),
        }

    def _agreement(
        self, images: Floats, right: Floats, counts: list[tuple[Floats, ...]], by_class: list[dict[str, Floats]]
    ) -> dict[str, Floats]:
        found = self._found
        support = np.stack([positive for positive, *_ in counts])
        f1 = np.nan_to_num(np.stack([values["f1"] for values in by_class]))
        accuracy = right / images
        agreement = {"accuracy": accuracy, "weighted_f1": (support * f1).sum(axis=0) / support.sum(axis=0)}
        if not found.judgeable:
            return agreement
        if found.decision.kind == "multilabel":
            halves = [by_class[c]["sensitivity"] + by_class[c]["specificity"] for c in found.judgeable]
            agreement["balanced_accuracy"] = np.mean(halves, axis=0) / 2
            agreement["kappa"] = np.mean([_kappa_of_two(*counts[c]) for c in found.judgeable], axis=0)
            return agreement
        present = [c for c in range(len(counts)) if (found.target[:, c] == 1).any()]
        agreement["balanced_accuracy"] = np.mean([by_class[c]["sensitivity"] for c in present], axis=0)
        answered = np.stack([true + false for _, _, true, false in counts])
        agreement["kappa"] = _kappa(accuracy, (support * answered).sum(axis=0) / images**2)
        return agreement


def _precision_of_mean(positive: Floats, negative: Floats, true: Floats, false: Floats) -> Floats:
    return np.where(positive * negative > 0, np.nan_to_num(true / (true + false)), np.nan)


def _kappa_of_two(positive: Floats, negative: Floats, true: Floats, false: Floats) -> Floats:
    count, answered = positive + negative, true + false
    by_chance = (positive * answered + negative * (count - answered)) / count**2
    return _kappa((true + negative - false) / count, by_chance)


def _kappa(agreed: Floats, by_chance: Floats) -> Floats:
    return np.where(by_chance < 1, (agreed - by_chance) / (1 - by_chance), np.nan)
