"""How alike two models answer, whatever the truth.

The bound of the share of changed answers is that of Clopper and Pearson (1934), "The use of confidence or fiducial
limits illustrated in the case of the binomial", Biometrika 26:404-413. Several images of one patient may change
together, so they count no more than the patients do: the images are as many independent ones as (sum of m)^2 /
(sum of m^2) of the m images of each patient, which is their number where each patient has one, and that of the patients
where each has equally many (Kish 1965, Survey Sampling; with images of a patient that change all or none;
fractions of a count as in Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of
positive counts estimated from survey data", Survey Methodology 24:193-201). The correlation is not estimated: of the
few answers that change nothing could be. In simulated studies (4000 each; 100 and 600 patients of 4 images, or of 3 on
average, 0.5 and 3 % changed) the 95 % bound held in at least 94.9 %, whatever the correlation. Images as if they were
independent held in as few as 76 % where all of a patient change together; and the share of patients with any changed
answer is another number, which no number of patients brings down to the share of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError
from .metrics import require_scikit_learn


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the reference's answers to the variant's, over the same images.

    Attributes:
        images: compared.
        flips: images whose answer changed (of findings: any of them).
        share: of the images; ``bound``: it is at most this, one-sided, images of one patient taken together.
        kappa: Cohen's, of the answers; None where both give one answer alone. Of findings the mean of those that have
            one.
        largest_change, p99_change: of any probability of an image: the largest, and that of all but 1 % of the images.
        largest_logit_change: of any raw output.
        rank_correlation: Spearman's, of the positive class's probability; of several classes the mean of those that
            have one; None where a model gives the same to all.
    """

    images: int
    flips: int
    share: float
    bound: float
    kappa: float | None
    largest_change: float
    p99_change: float
    largest_logit_change: float
    rank_correlation: float | None


def agreement(
    decision: Decision,
    reference_logits: npt.NDArray[Any],
    variant_logits: npt.NDArray[Any],
    patients: Sequence[str],
    confidence: float = 0.95,
) -> Agreement:
    """Compare raw outputs image by image.

    Args:
        reference_logits, variant_logits: (N, classes).
        patients: N names, whose image each is.
        confidence: of the bound.

    Raises:
        DataError: no images, the three do not line up, or an output is not a number.
        MachineError: scikit-learn is not installed.
    """
    require_scikit_learn()  # brings scipy
    shapes, images = (reference_logits.shape, variant_logits.shape), len(patients)
    if not images or set(shapes) != {(images, len(decision.classes))}:
        raise DataError(
            f"outputs of shape {shapes[0]} and {shapes[1]} and {images} patients do not line up; "
            f"each image needs {len(decision.classes)} outputs of either model and a patient"
        )
    if not (np.isfinite(reference_logits).all() and np.isfinite(variant_logits).all()):
        raise DataError("a model's outputs are not all numbers, so nothing can be said of it; leave the variant out")
    before, after = decision.probabilities(reference_logits), decision.probabilities(variant_logits)
    answers = decision.answers(before), decision.answers(after)
    flips = int((answers[0] != answers[1]).any(axis=1).sum())
    change = np.abs(after - before).max(axis=1)
    apart = np.abs(variant_logits.astype(np.float64) - reference_logits.astype(np.float64))
    columns = [decision.positive_index] if decision.kind == "binary" else range(len(decision.classes))
    return Agreement(
        images=images,
        flips=flips,
        share=flips / images,
        bound=_bound(flips / images, patients, confidence),
        kappa=_mean([_kappa(*pair) for pair in _answered(decision, *answers)]),
        largest_change=float(change.max()),
        p99_change=float(np.quantile(change, 0.99, method="higher")),
        largest_logit_change=float(apart.max()),
        rank_correlation=_mean([_rank_correlation(before[:, c], after[:, c]) for c in columns]),
    )


def _bound(share: float, patients: Sequence[str], confidence: float) -> float:
    from scipy.stats import beta

    if share == 1:
        return 1.0
    sizes = np.unique(np.asarray(patients), return_counts=True)[1]
    count = len(patients) ** 2 / float(sizes @ sizes)
    return float(beta.ppf(confidence, share * count + 1, (1 - share) * count))


def _answered(
    decision: Decision, reference: npt.NDArray[np.bool_], variant: npt.NDArray[np.bool_]
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Of each question both models' answers: a finding is a question of its own."""
    if decision.kind == "multilabel":
        return list(zip(reference.T, variant.T, strict=True))
    return [(reference.argmax(axis=1), variant.argmax(axis=1))]


def _kappa(reference: npt.NDArray[Any], variant: npt.NDArray[Any]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(reference, variant)) < 2:
        return None
    return float(cohen_kappa_score(reference, variant))


def _rank_correlation(reference: npt.NDArray[np.float64], variant: npt.NDArray[np.float64]) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(reference) == 0 or np.ptp(variant) == 0:
        return None
    found: Any = spearmanr(reference, variant)
    # Rounding leaves 0.9999999999999999 of the same order.
    return round(float(found.statistic), 12)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
