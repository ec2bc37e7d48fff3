"""How far a network's answers on the validation images are from passing, before the gate judges it on others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ...benchmarks.data.labelled import Labelled
from ...benchmarks.evaluation import Answers, Logits
from ...benchmarks.row import Row
from ...benchmarks.statistics.assessment import assess_judged
from ...benchmarks.statistics.judged import judged
from ...benchmarks.tolerance import Tolerance
from ...benchmarks.verdict import NAMES, Criterion
from ...benchmarks.weighing import weigh
from ...runtime.decision import Decision

# Of each margin so much may be used up, as measured on these images. What is left is for the bounds, which the gate
# holds against the margin in place of the measured loss, and for INT8, whose own goal is a fifth of the AUROC's margin
# and a third of the answers' (medcompress.compress.int8.attempt.goal_of). The calibration's figure is a bound already.
_USED = {"auroc": 0.5, "sensitivity": 0.5, "specificity": 0.5, "flips": 0.5, "ece": 0.8}
_REFERENCE, _VARIANT = "dense", "variant"
_DRAWS = 400
# In place of infinity, which JSON has not.
FAR = 1e6


class Figures(msgspec.Struct, frozen=True):
    """Of one network, on the validation images.

    Attributes:
        auroc: with ``auroc_low`` and ``auroc_high``, its 95 % interval; None where no class has images with and
            without.
        auroc_drop: dense minus this one; it is at most ``auroc_drop_bound``, one-sided, paired.
        flips: of ``images`` whose answer changes.
        shortfall: the largest loss, in what may be used of its margin: up to 1 is good enough.
        worst: which loss that is.
    """

    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    auroc_drop: float | None
    auroc_drop_bound: float | None
    flips: int
    images: int
    shortfall: float
    worst: str

    @property
    def passes(self) -> bool:
        return self.shortfall <= 1

    @property
    def words(self) -> str:
        """The figures a reader of the progress wants."""
        lost = "AUROC not known" if self.auroc_drop is None else f"AUROC lost {self.auroc_drop:.4f}"
        return f"{lost}, {self.flips} of {self.images} answers changed"


def figures_of(decision: Decision, images: Labelled, dense: Logits, outputs: Logits, tolerance: Tolerance) -> Figures:
    """Judge raw outputs (N, classes) against the dense network's by the gate's own measures.

    Args:
        decision: locked.
    """
    rows = tuple(Row(name, "torch", "fp32", 0, "measured") for name in (_REFERENCE, _VARIANT))
    answers = Answers(rows, {"test": {_REFERENCE: dense, _VARIANT: outputs}})
    # Without draws: no interval of the bootstrap is a criterion.
    plain = msgspec.structs.replace(tolerance, draws=0)
    weighed, evidence = weigh(answers, _REFERENCE, decision, images, None, plain, hashed=False)
    row, found = weighed[1], evidence[1]
    own = judged(decision, images.target, decision.probabilities(outputs), images.patients)
    area = assess_judged(own, _DRAWS).figures["auroc"]
    shortfall, worst = shortfall_of(found.verdict.criteria, tolerance)
    return Figures(
        auroc=row.auroc,
        auroc_low=area.low,
        auroc_high=area.high,
        auroc_drop=row.auroc_drop,
        auroc_drop_bound=row.auroc_drop_bound,
        flips=row.flips or 0,
        images=found.images,
        shortfall=shortfall,
        worst=worst,
    )


def shortfall_of(criteria: Sequence[Criterion], tolerance: Tolerance) -> tuple[float, str]:
    """The largest loss in what may be used of its margin, and what it is of, in words.

    What counts are the losses as measured: whether so few images prove them is asked of the test images. The largest
    change of any one probability is left out: another network answers some image otherwise. Of a class too rare to be
    judged nothing is said, and one changed answer alone is no loss.
    """
    worst, words = 0.0, "no loss"
    for each in criteria:
        if each.figure not in _USED or each.margin >= 1 or each.loss is None:
            continue
        loss = each.loss
        if each.figure == "ece" and each.bound is not None:
            loss = each.bound
        elif each.figure in {"sensitivity", "specificity"}:
            if each.images < tolerance.minimum and each.outcome != "fail":
                continue
            loss -= 1 / max(1, each.images)
        used = max(_USED[each.figure] * each.margin, 1e-9)
        ratio = FAR if math.isnan(loss) else min(FAR, max(loss, 0.0) / used)
        if ratio > worst:
            name = NAMES[each.figure] + (f" of {each.of}" if each.of else "")
            verb = {"flips": "is", "ece": "rises by up to"}.get(each.figure, "falls by")
            worst, words = ratio, f"{name} {verb} {loss if each.figure == 'ece' else each.loss:.4f}"
    return worst, words
