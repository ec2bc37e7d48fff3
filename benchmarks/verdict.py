"""What follows from the evidence, margin by margin: pass, fail or inconclusive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from .statistics.agreement import Agreement
from .statistics.delong import AurocLoss
from .statistics.paired import PairedProportion
from .statistics.power import more_patients_for_auroc, more_patients_for_proportion
from .statistics.shift import Shift
from .tolerance import Tolerance

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive"]

NAMES = {
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ece": "calibration error",
    "flips": "the share of changed answers",
    "probability_change": "largest change of a probability",
}
# From the best to the worst.
GRAVITY: tuple[Outcome, ...] = ("pass", "inconclusive", "fail")
_SUCH = {"sensitivity": " with the finding", "specificity": " without it"}
# Times as many patients as these: what goes beyond is no advice.
_PRACTICAL = 50
# Reasons a sentence names; all stand in the criteria.
_REASONS = 3


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One margin, held against one loss.

    Attributes:
        figure: ``auroc``, ``sensitivity``, ``specificity``, ``ece``, ``flips`` or ``probability_change``.
        of: the class or finding; empty over all.
        loss: measured; positive is worse than the reference.
        bound: the loss is at most this, with the tolerance's confidence; None where nothing can be said, or where the
            margin is held against what was measured.
        margin: of the tolerance.
        outcome: ``pass``: the loss is shown to be within the margin. ``fail``: the measured loss is beyond it.
            ``inconclusive``: what was measured is within it, and a loss beyond it is not excluded; or there are too few
            images to judge by.
        method: how the bound was found.
        images, patients: that it was judged on: of sensitivity the diseased.
        more_patients: how many more patients (of those ``patients`` counts) would settle it, with the tolerance's
            power; None where it is settled, or where no number would.
        reason: the outcome in a sentence.
    """

    figure: str
    of: str
    loss: float | None
    bound: float | None
    margin: float
    outcome: Outcome
    method: str
    images: int
    patients: int
    more_patients: int | None
    reason: str

    @property
    def beyond(self) -> float:
        """Loss, or what is not excluded, in margins."""
        value = self.loss if self.bound is None else self.bound
        return float("inf") if value is None else value / max(self.margin, 1e-9)


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one variant: the worst outcome of its criteria.

    Attributes:
        identical: the outputs are those of the reference but for the last digits of float arithmetic, so that nothing
            remains to be shown.
        reason: in a sentence.
    """

    outcome: Outcome
    identical: bool
    criteria: tuple[Criterion, ...]
    reason: str

    @property
    def within(self) -> bool:
        """Whether no measured loss is beyond its margin: what has to be before anybody may accept it."""
        return all(each.loss is None or each.loss <= each.margin for each in self.criteria)


def of_auroc(loss: AurocLoss | None, images: int, fewest: int, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of the AUROC.

    Args:
        loss: over the classes; None where no class has images with and without.
        images, patients: it was judged on.
        fewest: images of the rarer side, of the rarest class.
    """
    margin = tolerance.auroc_drop
    if loss is None:
        return _held(_draft("auroc", "", None, None, margin, "none", images, patients), None, fewest, tolerance)
    more = more_patients_for_auroc(loss, margin, patients, tolerance.confidence, tolerance.power)
    draft = _draft("auroc", "", loss.loss, loss.bound, margin, loss.method, images, patients, more)
    return _held(draft, loss.low, fewest, tolerance)


def of_share(
    figure: Literal["sensitivity", "specificity"], of: str, found: PairedProportion, tolerance: Tolerance
) -> Criterion:
    """The margin of sensitivity or specificity, of one class."""
    margin = tolerance.sensitivity_drop if figure == "sensitivity" else tolerance.specificity_drop
    method = "Tango's score interval" + (
        f", design effect {found.design_effect:.2f}" if found.design_effect > 1 else ""
    )
    more = more_patients_for_proportion(found, margin, tolerance.confidence, tolerance.power)
    draft = _draft(figure, of, found.loss, found.bound, margin, method, found.images, found.patients, more)
    return _held(draft, found.low, found.images, tolerance)


def of_calibration(rise: float | None, moved: Shift, images: int, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of the calibration error: its measured ``rise``, held by what the probabilities moved."""
    bound, margin = moved.bound, tolerance.ece_rise
    more = None
    if bound is not None and moved.mean < margin < bound:
        half = (bound - moved.mean) * _for_power(tolerance)
        more = math.ceil(patients * (half / (margin - moved.mean)) ** 2) - patients
    method = "mean change of a probability, which bounds it"
    return _held(_draft("ece", "", rise, bound, margin, method, images, patients, more), None, images, tolerance)


def of_flips(found: Agreement, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of changed answers."""
    share, bound, margin = found.share, found.bound, tolerance.flips
    more = None
    if not found.flips and 0 < margin < bound:
        more = math.ceil(math.log(1 - tolerance.confidence) / math.log1p(-margin)) - patients
    elif share < margin < bound:
        more = math.ceil(patients * ((bound - share) * _for_power(tolerance) / (margin - share)) ** 2) - patients
    draft = _draft("flips", "", share, bound, margin, "exact binomial bound", found.images, patients, more)
    return _held(draft, None, found.images, tolerance)


def of_probability(found: Agreement, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of the largest change of a probability: of a maximum there is no bound."""
    change, margin = found.largest_change, tolerance.probability_change
    draft = _draft("probability_change", "", change, None, margin, "as measured", found.images, patients)
    outcome: Outcome = "pass" if change <= margin else "fail"
    return msgspec.structs.replace(
        draft,
        outcome=outcome,
        reason=f"largest change of a probability: {change:.3f} ({margin:g} allowed)",
    )


def judge(criteria: Sequence[Criterion], *, identical: bool) -> Verdict:
    """The worst outcome of the criteria; where nothing failed and the outputs are the reference's, pass."""
    worst = GRAVITY[max(GRAVITY.index(each.outcome) for each in criteria)]
    if identical and worst != "fail":
        reason = "its outputs are those of the reference but for the last digits"
        same = tuple(
            msgspec.structs.replace(
                each, outcome="pass", bound=each.loss, more_patients=None, method="identical outputs", reason=reason
            )
            for each in criteria
        )
        return Verdict("pass", True, same, reason)
    if worst == "pass":
        held = any(each.margin < 1 for each in criteria)
        kept = "every loss that has a margin is shown to be within it" if held else "nothing was judged: no margin set"
        return Verdict("pass", False, tuple(criteria), kept)
    reasons = [each.reason for each in criteria if each.outcome == worst]
    told = [*reasons[:_REASONS], *([f"and {len(reasons) - _REASONS} more"] if len(reasons) > _REASONS else [])]
    return Verdict(worst, False, tuple(criteria), "; ".join(told))


def _draft(
    figure: str,
    of: str,
    loss: float | None,
    bound: float | None,
    margin: float,
    method: str,
    images: int,
    patients: int,
    more: int | None = None,
) -> Criterion:
    return Criterion(figure, of, loss, bound, margin, "inconclusive", method, images, patients, more, "")


def _held(draft: Criterion, low: float | None, fewest: int, tolerance: Tolerance) -> Criterion:
    """The draft with its outcome.

    Args:
        low: of the loss's interval, where it has one.
        fewest: images of the rarest kind it rests on.
    """
    name = NAMES[draft.figure] + (f" of {draft.of}" if draft.of else "")
    verb = {"ece": "rises by", "flips": "is"}.get(draft.figure, "falls by")
    loss, bound, margin, more = draft.loss, draft.bound, draft.margin, draft.more_patients
    outcome: Outcome = "inconclusive"
    if margin >= 1:
        outcome, reason, more = "pass", f"{name} is not judged: every loss is allowed", None
    elif loss is None:
        reason, more = f"{name} cannot be judged: no class has images with and without", None
    # NaN must not pass: it is neither within a margin nor beyond it.
    elif not loss <= margin and (fewest >= tolerance.minimum or (low is not None and low > margin)):
        outcome, reason, more = "fail", f"{name} {verb} {loss:.4f} ({margin:g} allowed)", None
    elif fewest < tolerance.minimum:
        more = max(more or 0, math.ceil((tolerance.minimum / max(1, fewest) - 1) * draft.patients))
        reason = f"{name} {verb} {max(loss, 0.0):.4f} as measured, and {fewest} images are too few to judge by"
        reason += f" ({tolerance.minimum} needed)"
    elif bound is None or not bound <= margin:
        possible = "no bound can be given" if bound is None else f"with these images up to {bound:.4f} is possible"
        reason = f"{name} {verb} {max(loss, 0.0):.4f} as measured, but {possible} ({margin:g} allowed)"
    else:
        outcome, reason, more = "pass", f"{name} {verb} at most {bound:.4f} ({margin:g} allowed)", None
    if more is not None and more > _PRACTICAL * max(1, draft.patients):
        more = None
        reason += "; no practical number of more patients would settle it"
    elif more:
        reason += f"; about {more} more patients{_SUCH.get(draft.figure, '')} would settle it"
    return msgspec.structs.replace(draft, outcome=outcome, reason=reason, more_patients=more)


def _for_power(tolerance: Tolerance) -> float:
    """By how much wider than the bound the room must be, so that it is kept with the tolerance's power."""
    from scipy.special import ndtri

    z = float(ndtri(tolerance.confidence))
    return (z + float(ndtri(tolerance.power))) / z if z > 0 else 1.0
