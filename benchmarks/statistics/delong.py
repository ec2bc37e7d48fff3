"""How surely a model's AUROC is not lower than another's, both judged on the same images.

The covariance is that of DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated
receiver operating characteristic curves", Biometrics 44:837-845, from ranks in O(n log n) as in Sun and Xu (2014),
"Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21:1389-1393. Images of one patient are
added up before anything is squared: Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data",
Biometrics 53:567-578; with one image a patient that is DeLong's estimate to the last digit. Of a mean over classes
the components of one patient are averaged over the classes first, so their covariance is in it.

DeLong's normal quantile claims too much where few images decide: at an area of 0.95, 100 images and a loss of 0.02 its
95 % bound held in 90 % of simulated studies, and at 600 images in 93 %. Two things are missing, and both are
estimated from the same components Z, one a patient:

- the variance is itself uncertain. Its degrees of freedom are taken as (sum Z^2)^2 / sum Z^4 - 1, the number of
  patients that count, less one, with Student's t in place of the normal quantile (after Satterthwaite 1946, "An
  approximate distribution of estimates of variance components", Biometrics Bulletin 2:110-114);
- the loss is skewed, and with it the variance grows with the loss. The quantile is moved by
  skewness (2 z^2 + 1) / 6: Hall (1992), "On the removal of skewness by transformation", JRSS B 54:221-228, the first
  term of the Edgeworth expansion of a studentised mean.

``python -m medcompress.benchmarks.statistics.coverage`` shows what this comes to. What no estimate from the sample
can see is a failure too rare to be in it: an image in 500 whose score collapses. The exact bound for that is the one
given below for models that order every pair alike; nothing that uses the scores is tighter and true for all models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from .bootstrap import Floats

IDENTICAL = "identical ranks"
_VANISHED = 1e-20


class AurocLoss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the AUROC, or of its mean over classes, from the reference to the variant on the same images.

    Attributes:
        reference, variant: the areas.
        loss: reference minus variant; negative where the variant is better.
        standard_error: of the loss; 0 where both rank all images alike. None where it cannot be estimated: also where
            no image moved past one of the other class, though the ranks differ.
        low, high: two-sided interval of the loss; None where it cannot be said.
        bound: the loss is at most this, one-sided.
        p_value: two-sided, of no difference; 1 where both rank all images alike.
        p_adjusted: by Holm, over the classes, or the groups, tested together.
        method: how, in a few words for the reader: which estimate, by image or by patient.
    """

    reference: float
    variant: float
    loss: float
    standard_error: float | None
    low: float | None
    high: float | None
    bound: float | None
    p_value: float | None
    p_adjusted: float | None
    method: str


def number_patients(patients: Sequence[str]) -> tuple[npt.NDArray[np.intp], int]:
    """Each image's patient as a number from 0, and how many patients there are."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(patients))}
    return np.fromiter((numbers[name] for name in patients), np.intp, len(patients)), len(numbers)


@dataclass(frozen=True)
class _Side:
    """The images of one column that have its class, or those that have it not.

    Attributes:
        shares: (P,) what each patient's images add to the loss, less as many times their mean; they sum to 0.
        patients: that have such images.
    """

    shares: Floats
    patients: int


@dataclass(frozen=True)
class _Column:
    """One class against the rest.

    Attributes:
        known: (P,) whether the patient has an image of known truth.
        scale: the sum of squares before means were taken off, against which rounding is told from variance.
        unmoved: every image beats as many as before; ``alike``: all are ranked as before.
    """

    reference: float
    variant: float
    sides: tuple[_Side, ...]
    known: npt.NDArray[np.bool_]
    scale: float
    unmoved: bool
    alike: bool


def auroc_loss(
    target: npt.NDArray[np.int8],
    reference: npt.NDArray[np.floating],
    variant: npt.NDArray[np.floating],
    columns: Sequence[int],
    patients: Sequence[str],
    confidence: float = 0.95,
) -> AurocLoss | None:
    """The loss of AUROC, or of the mean one-against-the-rest AUROC, with its interval and one-sided bound.

    Args:
        target: (N, classes): 1 present, 0 absent, -1 unknown; a class is judged on its known images.
        reference, variant: (N, classes) probabilities, higher for present; ties count half.
        columns: the classes averaged; one for two classes.
        patients: N names, whose image each is.
        confidence: of the one-sided bound, and of the two-sided interval.

    Returns:
        None without columns, or where one has no image with or none without. Else, where the estimate fails:

        - both models rank all images alike: no loss, for certain;
        - they do not, but every image beats as many as before, as where both separate the classes perfectly: the
          estimated variance is 0, which is no certainty. Of k patients with and k without, the fewest in any column,
          k disjoint pairs can be made, and in none has the order changed; so, with the confidence, it changes in a
          share of at most 1 - (1 - confidence)^(1/k), and the loss is at most that;
        - one patient alone with, or without: no standard error, no bound;
        - a variance of 0 though the areas differ (a constant model against a perfect one): the same.

    Raises:
        ImportError: scipy is not installed (``require_scikit_learn`` asks before long work).
    """
    whose, count = number_patients(patients)
    parts = []
    for c in columns:
        part = _column(target[:, c], np.asarray(reference[:, c]), np.asarray(variant[:, c]), whose, count)
        if part is None:
            return None
        parts.append(part)
    if not parts:
        return None
    areas = float(np.mean([part.reference for part in parts])), float(np.mean([part.variant for part in parts]))
    loss = areas[0] - areas[1]
    if all(part.alike for part in parts):
        return AurocLoss(*areas, loss, 0.0, 0.0, 0.0, 0.0, 1.0, None, IDENTICAL)
    fewest = min(side.patients for part in parts for side in part.sides)
    if fewest < 2:
        return AurocLoss(*areas, loss, None, None, None, None, None, None, "one patient alone with or without")
    if all(part.unmoved for part in parts):
        pairs = min(fewest, min(int(part.known.sum()) // 2 for part in parts))
        bound, either = (1 - tail ** (1 / pairs) for tail in (1 - confidence, (1 - confidence) / 2))
        perfect = all({part.reference, part.variant} <= {0.0, 1.0} for part in parts)
        why = "both separate the classes perfectly" if perfect else "no image moved past one of the other class"
        return AurocLoss(*areas, loss, None, -either, either, bound, 1.0, None, f"exact, of {pairs} pairs: {why}")
    people = int(np.any([part.known for part in parts], axis=0).sum())
    found = _moments(parts, people)
    if found is None:
        return AurocLoss(*areas, loss, None, None, None, None, None, None, "no variance though the areas differ")
    error, freedom, skewness = found
    tail = (1 - confidence) / 2
    images = int((target[:, list(columns)] >= 0).any(axis=1).sum())
    estimate = "DeLong, by image" if images == people else "DeLong and Obuchowski, by patient"
    return AurocLoss(
        *areas,
        loss,
        error,
        max(-1.0, loss - error * _quantile(tail, freedom, -skewness)),
        min(1.0, loss + error * _quantile(tail, freedom, skewness)),
        min(1.0, loss + error * _quantile(1 - confidence, freedom, skewness)),
        _p_value(loss / error, freedom, skewness),
        None,
        f"{estimate}; Student's t, skewness corrected",
    )


def _column(
    target: npt.NDArray[np.int8],
    reference: npt.NDArray[np.floating],
    variant: npt.NDArray[np.floating],
    whose: npt.NDArray[np.intp],
    patients: int,
) -> _Column | None:
    diseased, healthy, known = np.flatnonzero(target == 1), np.flatnonzero(target == 0), target >= 0
    pairs = len(diseased) * len(healthy)
    if not pairs:
        return None
    beaten, beating = _placements(reference[diseased], reference[healthy])
    beaten_after, beating_after = _placements(variant[diseased], variant[healthy])
    # Whole and half counts: where nothing has moved the difference is 0, without rounding.
    lost = (diseased, (beaten - beaten_after) / pairs), (healthy, (beating_after - beating) / pairs)
    return _Column(
        float(beaten.sum()) / pairs,
        float(beaten_after.sum()) / pairs,
        tuple(_side(whose[rows], each, patients) for rows, each in lost),
        np.bincount(whose[known], minlength=patients) > 0,
        float(sum(each @ each for _, each in lost)),
        not any(each.any() for _, each in lost),
        _same_order(reference[known], variant[known]),
    )


def _side(whose: npt.NDArray[np.intp], lost: Floats, patients: int) -> _Side:
    shares = np.zeros(patients)
    np.add.at(shares, whose, lost - lost.mean())
    return _Side(shares, len(np.unique(whose)))


def _placements(diseased: npt.NDArray[np.floating], healthy: npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Healthy images each diseased one is above, and diseased ones each healthy one is above; ties half."""

    def above(of: npt.NDArray[np.floating], among: npt.NDArray[np.floating]) -> Floats:
        ranked = np.sort(among)
        return (np.searchsorted(ranked, of, "left") + np.searchsorted(ranked, of, "right")) / 2

    return above(diseased, healthy), above(healthy, diseased)


def _same_order(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> bool:
    order = np.argsort(first, kind="stable")
    return bool((np.sign(np.diff(first[order])) == np.sign(np.diff(second[order]))).all())


def _moments(parts: Sequence[_Column], patients: int) -> tuple[float, float, float] | None:
    """Standard error, degrees of freedom of its square, and skewness of the mean loss; None where it does not vary.

    Obuchowski's corrections are n / (n - 1) of the patients with, of those without, and, for the product of both, of
    all; written so that it stays a sum of squares for a mean over columns.
    """
    whole = patients / (patients - 1)
    together = np.mean([side.shares for part in parts for side in part.sides], axis=0) * 2
    variance = whole * float(together @ together)
    for sides in zip(*(part.sides for part in parts), strict=True):
        surplus = [max(0.0, side.patients / (side.patients - 1) - whole) for side in sides]
        rest = np.mean([np.sqrt(more) * side.shares for more, side in zip(surplus, sides, strict=True)], axis=0)
        variance += float(rest @ rest)
    squares = together**2
    if variance <= _VANISHED * np.mean([part.scale for part in parts]) or not squares.any():
        return None
    effective = float(squares.sum() ** 2 / (squares @ squares))
    return float(np.sqrt(variance)), max(1.0, effective - 1), float(squares @ together / variance**1.5)


def _quantile(tail: float, freedom: float, skewness: float) -> float:
    """Standard errors from the loss to its upper limit."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, 1 - tail)) + skewness * (2 * float(ndtri(tail)) ** 2 + 1) / 6


def _p_value(statistic: float, freedom: float, skewness: float) -> float:
    """Two-sided: 1 less the confidence at which the interval just reaches 0."""
    from scipy.optimize import root_scalar

    towards_zero = -skewness * np.sign(statistic)

    def short_of_zero(log_tail: float) -> float:
        return abs(statistic) - _quantile(float(np.exp(log_tail)), freedom, towards_zero)

    least, most = np.log(1e-15), np.log(0.5)
    if short_of_zero(most) <= 0:
        return 1.0
    if short_of_zero(least) >= 0:
        return 2e-15
    return min(1.0, 2 * float(np.exp(root_scalar(short_of_zero, bracket=(least, most)).root)))
