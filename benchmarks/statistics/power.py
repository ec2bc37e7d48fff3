"""How many more patients would settle what these could not.

Both take what was observed for the truth: the loss (none, where the variant looks better), its covariance, the share
of changed answers, the images a patient has. So they are as sure as those are: from few patients a rough guide.
"""

from __future__ import annotations

import math

from .delong import AurocLoss
from .paired import PairedProportion, score


def more_patients_for_auroc(
    loss: AurocLoss, margin: float, patients: int, confidence: float, power: float
) -> int | None:
    """So that the bound falls within the margin with probability ``power``.

    The standard error shrinks with the root of the patients, and what the bound's quantile has above the normal one
    with it. Where the bound is the exact one of pairs that all kept their order, it is taken that they go on so.

    Args:
        loss: with the bound at ``confidence``.
        margin: that the loss may have.
        patients: that were judged.

    Returns:
        0 where the bound is within the margin already; None where the loss is at the margin or beyond, so that no
        number settles it, or where there is no bound.
    """
    from scipy.special import ndtri

    expected = max(loss.loss, 0.0)
    if loss.bound is not None and loss.bound <= margin:
        return 0
    if loss.bound is None or expected >= margin:
        return None
    if loss.standard_error is None:
        return math.ceil(patients * (math.log1p(-loss.bound) / math.log1p(-margin) - 1)) if loss.bound < 1 else None
    z, spare = float(ndtri(confidence)), float(ndtri(power))
    # With r = sqrt(patients / total): (z + spare) r + above r^2 standard errors must fit between loss and margin.
    above = (loss.bound - loss.loss) / loss.standard_error - z
    room = (margin - expected) / loss.standard_error
    linear = z + spare
    r = 2 * room / (linear + math.sqrt(max(0.0, linear**2 + 4 * above * room)))
    return max(1, math.ceil(patients / r**2) - patients)


def more_patients_for_proportion(found: PairedProportion, margin: float, confidence: float, power: float) -> int | None:
    """So that the bound of :func:`medcompress.benchmarks.statistics.paired.paired_proportion` is within the margin.

    Liu, Hsueh, Hsieh and Chen (2002), "Tests for equivalence or non-inferiority for paired binary data", Statistics in
    Medicine 21:231-245: the variance of Tango's statistic at the margin, and at what is expected. Where no answer
    changed, half a one is taken to have; and no fewer images are asked for than would show the margin if none were
    lost. Patients have as many images as these had, with the same design effect.

    Returns:
        as :func:`more_patients_for_auroc`; None without images too.
    """
    from scipy.special import ndtri

    if found.loss is None or found.bound is None:
        return None
    if found.bound <= margin:
        return 0
    if max(found.loss, 0.0) >= margin:
        return None
    changed = max(found.lost + found.gained, 0.5) / found.images
    expected = max(found.loss, 0.0)
    lost, gained = (changed + expected) / 2, (changed - expected) / 2
    z, spare = float(ndtri(confidence)), float(ndtri(power))
    # Of one image: how far what is expected lies from the margin, in the statistic's own standard errors.
    apart = -score(lost, gained, 1.0, margin)
    spread = math.sqrt(changed - expected**2) * apart / (margin - expected)
    least = math.log(1 - confidence) / math.log1p(-margin) if margin < 1 else 1.0
    images = max(((z + spare * spread) / apart) ** 2, least)
    return max(1, math.ceil(found.patients * images * found.design_effect / found.images) - found.patients)
