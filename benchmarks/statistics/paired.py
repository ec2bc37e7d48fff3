"""Two models' shares of right answers on the same images: sensitivity and specificity at the locked threshold.

The test is McNemar's (1947), "Note on the sampling error of the difference between correlated proportions or
percentages", Psychometrika 12:153-157, exact. The interval of the difference is the score interval of Tango (1998),
"Equivalence test and confidence interval for the difference in proportions for the paired-sample design", Statistics
in Medicine 17:891-908.

Where the variant mends nothing, Tango's is Wilson's interval of the share lost, whose one-sided bound is a little too
low: at a true loss of exactly the margin it passed up to 6.0 % of studies instead of 5 %. There the bound is at least
that of Clopper and Pearson (1934), Biometrika 26:404-413, for the share lost, which is never smaller than the loss.
With it the share is at most 5.5 % for 100 to 5000 images, margins of 0.01 to 0.05 and a gain of up to 2 % (by
enumeration, not simulation; mostly 4 to 5 %).

Several images of one patient: Rao and Scott (1992), "A simple method for the analysis of clustered binary data",
Biometrics 48:577-585: all counts are divided by the design effect, the ratio of the by-patient variance of the loss
to the by-image one, never below 1. From a handful of changed answers that ratio is mostly noise, and below the truth
as often as above: passes at the margin rose to 8 %. So one patient more is put in, of the usual number of images, all
changed: it weighs little among many changed answers, keeps the share at 5.5 %, and leaves, where no answer changed at
all, about as many images as there are patients.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from .delong import number_patients


class PairedProportion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference's share of right answers among some images, and the variant's.

    Attributes:
        images, patients: that have (sensitivity), or have not (specificity), the class.
        reference, variant: shares; None without images.
        lost: images the reference answers right and the variant wrong; ``gained``: the reverse.
        loss: reference minus variant.
        low, high: two-sided interval of the loss.
        bound: the loss is at most this, one-sided.
        p_value: McNemar's exact test, two-sided; 1 where no answer changed; None without images.
        p_adjusted: by Holm, over the classes, or the groups, tested together.
        design_effect: by how much images of one patient tell less than as many patients; 1 where each has one.
    """

    images: int
    patients: int
    reference: float | None
    variant: float | None
    lost: int
    gained: int
    loss: float | None
    low: float | None
    high: float | None
    bound: float | None
    p_value: float | None
    p_adjusted: float | None
    design_effect: float


def paired_proportion(
    right_reference: npt.NDArray[np.bool_],
    right_variant: npt.NDArray[np.bool_],
    patients: Sequence[str],
    confidence: float = 0.95,
) -> PairedProportion:
    """Compare the answers to those images that count.

    Args:
        right_reference, right_variant: (N,) whether each answered the image right.
        patients: N names, whose image each is.
        confidence: of the one-sided bound, and of the two-sided interval.

    Raises:
        ImportError: scipy is not installed (``require_scikit_learn`` asks before long work).
    """
    images = len(patients)
    if not images:
        return PairedProportion(0, 0, None, None, 0, 0, None, None, None, None, None, None, 1.0)
    change = np.asarray(right_reference, np.int8) - np.asarray(right_variant, np.int8)
    lost, gained = int((change == 1).sum()), int((change == -1).sum())
    whose, people = number_patients(patients)
    effect = _design_effect(change, whose, people)
    counts = lost / effect, gained / effect, images / effect
    tail = (1 - confidence) / 2
    return PairedProportion(
        images,
        people,
        float(np.mean(right_reference)),
        float(np.mean(right_variant)),
        lost,
        gained,
        (lost - gained) / images,
        -most_lost(counts[1], counts[0], counts[2], tail),
        most_lost(*counts, tail),
        most_lost(*counts, 1 - confidence),
        _mcnemar(lost / effect, gained / effect),
        None,
        effect,
    )


def most_lost(lost: float, gained: float, images: float, tail: float) -> float:
    """The upper limit of the loss, exceeded with probability ``tail``; counts may be fractions."""
    from scipy.optimize import root_scalar
    from scipy.special import betaincinv, ndtri

    z = -float(ndtri(tail))
    measured = (lost - gained) / images
    limit = 1.0
    if measured < 1:
        found = root_scalar(lambda loss: score(lost, gained, images, loss) + z, bracket=(measured, 1 - 1e-12))
        limit = float(found.root)
    if gained == 0 and lost < images:
        limit = max(limit, float(betaincinv(lost + 1, images - lost, 1 - tail)))
    return limit


def score(lost: float, gained: float, images: float, loss: float) -> float:
    """Tango's statistic of the hypothesis that the loss is ``loss``, standard normal where it is; falling in it."""
    b = -lost - gained + (2 * images - lost + gained) * loss
    c = -gained * loss * (1 - loss)
    share_gained = (np.sqrt(max(0.0, b * b - 8 * images * c)) - b) / (4 * images)
    variance = images * (2 * share_gained + loss * (1 - loss))
    apart = lost - gained - images * loss
    return float(apart / np.sqrt(variance)) if variance > 0 else 0.0


def _design_effect(change: npt.NDArray[np.int8], whose: npt.NDArray[np.intp], people: int) -> float:
    images = len(change)
    if people == images:
        return 1.0
    sizes = np.bincount(whose)
    loss = float(change.mean())
    by_patient = np.bincount(whose, change, people) - sizes * loss
    usual = float(sizes @ sizes) / images
    clustered = float(by_patient @ by_patient) + usual**2
    apart = float(((change - loss) ** 2).sum()) + usual
    return max(1.0, clustered / apart)


def _mcnemar(lost: float, gained: float) -> float:
    """Exact; of fractions of images by the incomplete beta function, which the binomial's tail is of whole ones."""
    from scipy.special import betainc
    from scipy.stats import binomtest

    if not lost + gained:
        return 1.0
    if lost == int(lost) and gained == int(gained):
        return float(binomtest(int(lost), int(lost + gained)).pvalue)
    return min(1.0, 2 * float(betainc(max(lost, gained), min(lost, gained) + 1, 0.5)))
