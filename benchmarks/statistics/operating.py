"""Where the threshold is put: by a rule, on the validation images.

``youden`` is the threshold of the highest sensitivity + specificity - 1 (Youden 1950, "Index for rating diagnostic
tests", Cancer 3:32-35). A cost is of the validation images as they are, so at their prevalence. Of thresholds that the
rule likes equally, the lowest is taken: it misses the fewest. A sensitivity that no threshold inside (0, 1) reaches (a
diseased image has probability 0) takes the lowest there is, a specificity the highest.

Between two neighbouring probabilities every threshold gives the same answers. The middle is taken, so that no image
lies on the threshold, where the last digit of another engine would change its answer.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError
from ..tolerance import OperatingPoint
from .metrics import require_scikit_learn

Rule: TypeAlias = float | Literal["keep", "youden"] | OperatingPoint
Floats: TypeAlias = npt.NDArray[np.float64]


def lock(decision: Decision, rule: Rule, target: npt.NDArray[np.int8], logits: npt.NDArray[Any]) -> Decision:
    """The decision with the rule's threshold, or of findings with one each.

    Args:
        decision: its temperature is applied before the threshold is looked for.
        target: (N, classes) of the validation images, see :func:`medcompress.benchmarks.statistics.metrics.truth`;
            no images are needed to ``keep`` the threshold or to set it to a number.
        logits: (N, classes) of the same images.

    Raises:
        DataError: several classes, which have no threshold; no validation images with or without the class or a
            finding; or the two do not line up.
        MachineError: scikit-learn is not installed.
    """
    found = own_thresholds(decision, rule, target, logits)
    if not found:
        return decision
    if decision.kind == "multilabel":
        return msgspec.structs.replace(decision, thresholds=tuple(found.values()))
    return msgspec.structs.replace(decision, threshold=found[decision.positive])


def own_thresholds(
    decision: Decision, rule: Rule, target: npt.NDArray[np.int8], logits: npt.NDArray[Any]
) -> dict[str, float]:
    """What the rule makes of these outputs: the threshold of the positive class, or of each finding; none to ``keep``.

    Arguments and errors are those of :func:`lock`.
    """
    if rule == "keep":
        return {}
    if decision.kind == "multiclass":
        raise DataError("a threshold was asked for, but of several classes the likeliest is the answer; leave it out")
    columns = [decision.positive_index] if decision.kind == "binary" else range(len(decision.classes))
    if isinstance(rule, float | int):
        return {decision.classes[c]: float(rule) for c in columns}
    require_scikit_learn()
    if target.shape != logits.shape or not np.isfinite(logits).all():
        raise DataError("validation labels and outputs do not line up, or an output is not a number; answer them again")
    probabilities = decision.probabilities(logits)
    thresholds = {}
    for c in columns:
        name, known = decision.classes[c], target[:, c] >= 0
        positive = target[known, c] == 1
        for missing, side in ((not positive.any(), "with"), (positive.all(), "without")):
            if missing:
                raise DataError(f"no validation image {side} {name} to put its threshold by; add some, or keep it")
        thresholds[name] = _threshold(rule, positive, probabilities[known, c])
    return thresholds


def rule_words(rule: Rule) -> str:
    """The rule for the reader."""
    if isinstance(rule, OperatingPoint):
        if rule.cost is not None:
            found = f"the lowest cost, one missed disease counting as {rule.cost:g} false alarms"
        elif rule.sensitivity is not None:
            found = f"the highest threshold with a sensitivity of at least {rule.sensitivity:g}"
        else:
            found = f"the lowest threshold with a specificity of at least {rule.specificity:g}"
    elif rule == "keep":
        return "kept as the checkpoint has it"
    elif rule == "youden":
        found = "the highest sum of sensitivity and specificity (Youden)"
    else:
        return f"fixed at {rule:g}"
    return f"{found}, of the reference on the validation images"


def _threshold(rule: Literal["youden"] | OperatingPoint, positive: npt.NDArray[np.bool_], scores: Floats) -> float:
    cuts, true, false = _cuts(positive, scores)
    diseased, healthy = int(positive.sum()), int((~positive).sum())
    if rule == "youden":
        # In whole numbers, so that ties are ties.
        return float(cuts[_last_best(true * healthy - false * diseased)])
    if rule.cost is not None:
        return float(cuts[_last_best(-(rule.cost * (diseased - true) + false))])
    # Cuts fall: sensitivity rises along them, specificity falls. Where none reaches the target, the nearest is taken.
    if rule.sensitivity is not None:
        reached = np.flatnonzero(true / diseased >= rule.sensitivity)
        return float(cuts[reached[0] if len(reached) else -1])
    reached = np.flatnonzero((healthy - false) / healthy >= (rule.specificity or 0))
    return float(cuts[reached[-1] if len(reached) else 0])


def _cuts(
    positive: npt.NDArray[np.bool_], scores: Floats
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One threshold for each way that thresholds inside (0, 1) divide the images, from the highest to the lowest, and
    how many of the diseased and of the healthy images lie at or above it.
    """
    from sklearn.metrics import roc_curve

    false, true, observed = roc_curve(positive, scores, drop_intermediate=False)
    # The first is above all images.
    upper, lower = np.append(1.0, observed[1:]), np.append(observed[1:], 0.0)
    middle = (upper + lower) / 2
    # Neighbours without a number between them.
    cuts = np.where(middle > lower, middle, upper)
    inside = (cuts > 0) & (cuts < 1)
    counts = (np.rint(share * side.sum()).astype(np.int64) for share, side in ((true, positive), (false, ~positive)))
    found, alarms = (count[inside] for count in counts)
    return cuts[inside], found, alarms


def _last_best(values: npt.NDArray[Any]) -> int:
    return int(np.flatnonzero(values == values.max())[-1])
