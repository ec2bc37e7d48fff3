"""How surely one model's AUROC is not lower than another's, both judged on the same images.

The covariance is that of DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated
receiver operating characteristic curves", Biometrics 44:837-845, computed by ranks in O(n log n) as in Sun and Xu
(2014), "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21:1389-1393.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt


class AurocDrop(msgspec.Struct, frozen=True):
    """Reference minus candidate.

    Attributes:
        drop: of the AUROC; negative where the candidate is better.
        standard_error: of the drop; 0 where both rank all images alike.
        upper_bound: one-sided: the drop is at most this with the asked confidence. None where a model separates the
            classes perfectly (or perfectly wrongly): its variance is then estimated as 0, which is no certainty.
    """

    drop: float
    standard_error: float
    upper_bound: float | None


def auroc_drop(
    positive: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.float64],
    candidate: npt.NDArray[np.float64],
    confidence: float = 0.95,
) -> AurocDrop:
    """The loss of AUROC from ``reference`` to ``candidate``, with its one-sided upper bound.

    Args:
        positive: (N,) whether the image is of the positive class; at least two on either side.
        reference, candidate: (N,) scores, higher for positive; ties count half.

    Raises:
        ValueError: fewer than two images on a side: there is no variance to estimate.
        MachineError: scipy is not installed.
    """
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ValueError("DeLong's covariance needs two images of each class")
    from .metrics import require_scikit_learn

    require_scikit_learn()  # brings scipy
    from scipy.stats import norm

    areas, covariance = _covariance(positive, np.stack([reference, candidate]))
    drop = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding leaves a variance of 1e-18, of either sign, where both rank all images alike.
    error = float(np.sqrt(variance)) if variance > 1e-15 else 0.0
    bound = drop + float(norm.ppf(confidence)) * error
    return AurocDrop(drop, error, None if {0.0, 1.0} & set(areas.tolist()) else bound)


def _covariance(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AUROC of each row of ``scores`` (K, N), and their covariance (K, K)."""
    from scipy.stats import rankdata

    diseased, healthy = scores[:, positive], scores[:, ~positive]
    m, n = diseased.shape[1], healthy.shape[1]
    # Mid-ranks among all images less those within the own class count the pairs in order, ties half.
    within_diseased = rankdata(diseased, axis=1)
    within_healthy = rankdata(healthy, axis=1)
    among_all = rankdata(np.concatenate([diseased, healthy], axis=1), axis=1)
    of_diseased = (among_all[:, :m] - within_diseased) / n
    of_healthy = 1 - (among_all[:, m:] - within_healthy) / m
    return of_diseased.mean(axis=1), np.cov(of_diseased) / m + np.cov(of_healthy) / n
