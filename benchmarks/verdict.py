"""What follows from the evidence, margin by margin: pass, fail or inconclusive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from .statistics.agreement import Agreement
from .statistics.assessment import SAME, Figure
from .statistics.delong import AurocLoss
from .statistics.paired import PairedProportion
from .statistics.power import more_patients_for_auroc, more_patients_for_proportion
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


def of_auroc(loss: AurocLoss | None, images: int, fewest: int, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of the AUROC.

    Args:
        loss: over the classes; None where no class has images with and without.
        images, patients: it was judged on.
        fewest: images of the rarer side, of the rarest class.
    """
    margin = tolerance.auroc_drop
    if loss is None:
        return _held(_draft("auroc", "", None, None, margin, "none", images, patients), fewest, tolerance)
    more = more_patients_for_auroc(loss, margin, patients, tolerance.confidence, tolerance.power)
    draft = _draft("auroc", "", loss.loss, loss.bound, margin, loss.method, images, patients, more)
    return _held(draft, fewest, tolerance)


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
    return _held(draft, found.images, tolerance)


def of_bootstrap(
    figure: str, loss: Figure, margin: float, images: int, fewest: int, patients: int, tolerance: Tolerance
) -> Criterion:
    """A margin of a figure whose paired loss was bootstrapped by patient.

    The bound is the upper end of the two-sided interval, so of a higher confidence than asked for.
    """
    bound = loss.value if loss.reason == SAME else loss.high
    more = None
    if loss.value is not None and bound is not None and loss.value < margin < bound:
        # The interval narrows with the root of the number of patients.
        more = math.ceil(patients * (((bound - loss.value) / (margin - max(loss.value, 0.0))) ** 2 - 1))
    draft = _draft(figure, "", loss.value, bound, margin, "bootstrap by patient", images, patients, more)
    return _held(draft, fewest, tolerance)


def of_flips(found: Agreement, patients: int, tolerance: Tolerance) -> Criterion:
    """The margin of changed answers."""
    share, bound, margin = found.share, found.bound, tolerance.flips
    more = None
    if share < margin < bound:
        more = math.ceil(patients * ((bound - share) / (margin - share)) ** 2) - patients
    draft = _draft("flips", "", share, bound, margin, "exact binomial bound", found.images, patients, more)
    return _held(draft, found.images, tolerance)


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
    """The worst outcome of the criteria; pass where the outputs are the reference's."""
    if identical:
        reason = "its outputs are those of the reference but for the last digits"
        same = tuple(
            msgspec.structs.replace(each, outcome="pass", more_patients=None, method="identical outputs", reason=reason)
            for each in criteria
        )
        return Verdict("pass", True, same, reason)
    worst = GRAVITY[max(GRAVITY.index(each.outcome) for each in criteria)]
    if worst == "pass":
        return Verdict("pass", False, tuple(criteria), "every loss is shown to be within its margin")
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


def _held(draft: Criterion, fewest: int, tolerance: Tolerance) -> Criterion:
    """The draft with its outcome; ``fewest``: images of the rarest kind it rests on."""
    name = NAMES[draft.figure] + (f" of {draft.of}" if draft.of else "")
    name += {"ece": " rises by", "flips": " is"}.get(draft.figure, " falls by")
    loss, bound, more, allowed = draft.loss, draft.bound, draft.more_patients, f"({draft.margin:g} allowed)"
    outcome: Outcome = "inconclusive"
    if draft.margin >= 1:
        outcome, reason, more = "pass", "every loss is allowed", None
    elif fewest < tolerance.minimum:
        reason = (
            f"{NAMES[draft.figure]}{f' of {draft.of}' if draft.of else ''}: {fewest} images are too few to judge by"
        )
        reason += f" ({tolerance.minimum} needed)"
        more = max(more or 0, math.ceil((tolerance.minimum - fewest) * draft.patients / max(1, draft.images)))
    elif loss is None:
        reason, more = f"{NAMES[draft.figure]} cannot be judged: no class has images with and without", None
    elif not loss <= draft.margin:  # NaN must not pass
        outcome, reason, more = "fail", f"{name} {loss:.4f} {allowed}", None
    elif bound is None or not bound <= draft.margin:
        possible = "no bound can be given" if bound is None else f"with these images up to {bound:.4f} is possible"
        reason = f"{name} {max(loss, 0.0):.4f} as measured, but {possible} {allowed}"
        if more:
            reason += f"; about {more} more patients{_SUCH.get(draft.figure, '')} would settle it"
    else:
        outcome, reason, more = "pass", f"{name} at most {bound:.4f} {allowed}", None
    return msgspec.structs.replace(draft, outcome=outcome, reason=reason, more_patients=more)
