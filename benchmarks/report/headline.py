"""What the first screen says: of which variant, and the handful of figures that matter."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..evidence import Evidence, nearest
from ..row import Row
from ..verdict import GRAVITY, Criterion, Outcome
from .record import Report
from .strip import Strip, margin_scale
from .words import FIGURES, KINDS, about, beside, count, machine, megabytes, milliseconds, number, percent, shift

# Open questions that the first screen names; all stand in the criteria.
_OPEN = 3
# Beyond so many times as many patients no study will settle it.
_OUT_OF_REACH = 100


class KeyFigure(msgspec.Struct, frozen=True):
    """One figure of the variant beside the reference's.

    Attributes:
        outcome: None where no margin is set for it.
        detail: what makes it mean something, phrases in their order.
    """

    title: str
    value: str
    detail: tuple[str, ...]
    outcome: Outcome | None = None
    strip: Strip | None = None


def subject(report: Report) -> Evidence | None:
    """Whose figures the page is about.

    The chosen variant's; where it passed and the verdict is no all the same, of those that were refused the one that
    came nearest: the reader is to see what the no rests on, and the chosen one is then a float form that nobody doubts.
    """
    chosen = report.chosen_evidence
    if report.verdict == "pass" or (chosen is not None and chosen.verdict.outcome != "pass"):
        return chosen
    return nearest(report.evidence) or chosen


def row_of(report: Report, name: str) -> Row | None:
    """The row of that name."""
    return next((row for row in report.rows if row.name == name), None)


def ran(report: Report, name: str) -> str:
    """The form, the precision it executed in, and on what: what a figure is a figure of."""
    row = row_of(report, name)
    return f"{name} ({'' if row is None else f'{row.runs_as}, '}{machine(report)})"


def by_gravity(criteria: tuple[Criterion, ...]) -> list[Criterion]:
    """What failed first, then what is open; within each in the order they were judged."""
    return sorted(criteria, key=lambda each: -GRAVITY.index(each.outcome))


def standing(report: Report, evidence: Evidence) -> str:
    """Whose figures are shown, and what the variant is to the verdict."""
    name = evidence.variant
    if name == report.reference:
        return f"{name}, the uncompressed reference, beside itself"
    what = "the chosen form" if name == report.chosen else "refused, the one that came nearest"
    network = report.network_of(name)
    if network is not None and network.macs[0]:
        what += f", of a network pruned to {percent(network.macs[1] / network.macs[0])} of its MACs"
    return f"{report.reference} (uncompressed) → {name} ({what})"


def reasons(report: Report, evidence: Evidence | None) -> tuple[str, ...]:
    """Why the verdict is what it is, a sentence or two; what would settle an open one says :func:`settling`."""
    if evidence is None or evidence.variant == report.chosen:
        return (report.reason,)
    outcome, kept = evidence.verdict.outcome, f"Kept is {report.chosen}, which is not compressed."
    why = "" if outcome == "inconclusive" else f": {evidence.verdict.reason}"
    return (f"Nearest came {evidence.variant}{why}. {kept}",)


def settling(evidence: Evidence | None) -> tuple[str, ...]:
    """Of every criterion left open, what these images can show and how many more patients are needed."""
    if evidence is None or evidence.verdict.outcome != "inconclusive":
        return ()
    open_ = [each for each in evidence.verdict.criteria if each.outcome == "inconclusive"]
    open_.sort(key=lambda each: -(each.more_patients or 0))
    rest = len(open_) - _OPEN
    return (*map(_open, open_[:_OPEN]), *((f"{rest} more stand in the criteria",) if rest > 0 else ()))


def explained(criterion: Criterion) -> bool:
    """Whether loss, bound and margin alone tell the outcome; else its reason must be read."""
    loss, margin = criterion.loss, criterion.margin
    if loss is None or margin >= 1:
        return False
    bound = loss if criterion.bound is None else criterion.bound
    return criterion.outcome == ("fail" if loss > margin else "pass" if bound <= margin else "inconclusive")


def reason_of(criterion: Criterion) -> str:
    """Without the number of patients, which :func:`settled_by` says with its limits."""
    return criterion.reason.partition("; about ")[0]


def title_of(criterion: Criterion) -> str:
    """Figure and class."""
    return FIGURES.get(criterion.figure, criterion.figure) + (f" of {criterion.of}" if criterion.of else "")


def settled_by(criterion: Criterion) -> str:
    """How many more patients, and of which kind, would settle what is open; empty where nothing is."""
    more = criterion.more_patients
    if criterion.outcome != "inconclusive":
        return ""
    if more is None:
        return "no number would"
    if more > _OUT_OF_REACH * max(1, criterion.patients):
        return f"out of reach: more than {_OUT_OF_REACH} times as many"
    of = criterion.of or "the finding"
    kind = {"sensitivity": f" with {of}", "specificity": f" without {of}"}.get(criterion.figure, "")
    return about(more) + (kind if explained(criterion) or kind else " of the rarest class")


def marked_name(report: Report, name: str) -> str:
    """With what became of it."""
    if name != report.chosen:
        return name
    return f"{name} ({'chosen' if report.verdict == 'pass' or report.accepted else 'kept'})"


def _open(criterion: Criterion) -> str:
    shown = reason_of(criterion)
    if explained(criterion) and criterion.bound is not None:
        most = beside(criterion.bound, criterion.margin)
        shown = f"{title_of(criterion)}: these images can show a margin of {most}, {criterion.margin:g} was asked for"
    return f"{shown}; more patients needed: {settled_by(criterion)} (now {criterion.patients:,})"


def key_figures(report: Report, evidence: Evidence) -> tuple[KeyFigure, ...]:
    """AUROC, sensitivity, specificity, changed answers, latency, size: those that are known."""
    found = [_auroc(report, evidence)]
    found += [_proportion(report, evidence, figure) for figure in ("sensitivity", "specificity")]
    found += [_changed(report, evidence), *_cost(report, evidence)]
    return tuple(found)


def flip_counts(evidence: Evidence) -> str:
    """How many changed answers of each kind, those that harm first."""
    kinds = Counter(flip.kind for flip in evidence.flips)
    return "; ".join(count(kinds[kind], *words) for kind, words in KINDS.items() if kinds[kind])


def changed_answers(evidence: Evidence) -> str:
    """A heading: how many answers changed, and how."""
    answers = count(len(evidence.flips), "changed answer")
    if len(evidence.flips) != evidence.agreement.flips:
        answers += f" in {count(evidence.agreement.flips, 'image')}"
    return f"{answers}: {flip_counts(evidence)}"


def criterion_strip(criterion: Criterion) -> Strip | None:
    """Loss and bound against the margin; None where there is no loss."""
    if criterion.loss is None:
        return None
    bound = criterion.loss if criterion.bound is None else criterion.bound
    at_most = "" if criterion.bound is None else f", at most {beside(bound, criterion.margin)}"
    label = f"loss {number(criterion.loss)}{at_most}, margin {criterion.margin:g}: {criterion.outcome}"
    scale = margin_scale(criterion.margin, (criterion.loss, bound))
    return Strip(criterion.loss, criterion.loss, bound, scale, label)


def _worst(evidence: Evidence, figure: str) -> Criterion | None:
    found = [each for each in evidence.verdict.criteria if each.figure == figure]
    return max(found, key=lambda each: (GRAVITY.index(each.outcome), each.beyond), default=None)


def _auroc(report: Report, evidence: Evidence) -> KeyFigure:
    judged, loss = _worst(evidence, "auroc"), evidence.auroc
    title = "AUROC" if len(evidence.classes) < 2 else f"AUROC, mean of {len(evidence.classes)}"
    if loss is None:
        return KeyFigure(title, "not known", ("no class has images with and without it",))
    value = f"{number(loss.reference)} → {number(loss.variant)}"
    return KeyFigure(title, value, *_against(report, judged))


def _proportion(report: Report, evidence: Evidence, figure: str) -> KeyFigure:
    judged, title = _worst(evidence, figure), figure.capitalize()
    if judged is None:
        return KeyFigure(title, "not judged", ("no margin was held against it",))
    detail, outcome, strip = _against(report, judged)
    several = len(evidence.classes) > 1
    title = f"{title} of {judged.of}" if several else title
    part = next((getattr(each, figure) for each in evidence.classes if judged.of in ("", each.name)), None)
    if part is None or part.reference is None:
        return KeyFigure(title, "not known", (judged.of, judged.reason), outcome)
    changed = f"{part.lost} lost, {part.gained} gained, of {part.images:,} images"
    worst = f"of {len(evidence.classes)} the one that is worst against its margin"
    detail = (*detail, changed, *((worst,) if several else ()))
    return KeyFigure(title, f"{number(part.reference)} → {number(part.variant)}", detail, outcome, strip)


def _changed(report: Report, evidence: Evidence) -> KeyFigure:
    judged, agreement = _worst(evidence, "flips"), evidence.agreement
    value = f"{agreement.flips:,} of {agreement.images:,} ({percent(agreement.share)})"
    detail = [flip_counts(evidence) or "no answer changed"]
    if judged is not None:
        sure = percent(report.tolerance.confidence, 0)
        detail.append(f"at most {percent(judged.bound)} ({sure} confidence), {percent(judged.margin)} allowed")
    return KeyFigure("Changed answers", value, tuple(detail), None if judged is None else judged.outcome)


def _cost(report: Report, evidence: Evidence) -> list[KeyFigure]:
    row, base = row_of(report, evidence.variant), row_of(report, report.reference)
    if row is None or base is None:
        return []
    found = []
    if row.p50_ms and base.p50_ms:
        times = f"{base.p50_ms / row.p50_ms:.1f} times as fast"
        how = f"median, one image; {base.runs_as} → {row.runs_as}, {machine(report)}"
        found.append(KeyFigure("Latency", f"{milliseconds(base.p50_ms)} → {milliseconds(row.p50_ms)} ms", (times, how)))
    else:
        found.append(KeyFigure("Latency", "not measured", ("this form was not timed",)))
    share = f"{_of_size(row.size_bytes / base.size_bytes)} of the reference" if base.size_bytes else ""
    value = f"{megabytes(base.size_bytes)} → {megabytes(row.size_bytes)} MB"
    return [*found, KeyFigure("Size", value, (share,))]


def _of_size(share: float) -> str:
    """A digit more for what is much smaller: 0.7 % is no 1 %."""
    return percent(share, 0 if share >= 0.1 else 1)


def _against(report: Report, judged: Criterion | None) -> tuple[tuple[str, ...], Outcome | None, Strip | None]:
    if judged is None:
        return ("no margin was held against it",), None, None
    if judged.loss is None:
        return (reason_of(judged),), judged.outcome, None
    sure = percent(report.tolerance.confidence, 0)
    bound = "no bound can be given"
    if judged.bound is not None:
        worst = beside(abs(judged.bound), judged.margin)
        bound = f"{'at most' if judged.bound >= 0 else 'at least'} {worst} {'worse' if judged.bound >= 0 else 'better'}"
        bound += f" ({sure} confidence)"
    told = () if explained(judged) else (reason_of(judged),)
    detail = (f"measured: {shift(judged.loss)}", bound, f"{judged.margin:g} worse is allowed", *told)
    return detail, judged.outcome, criterion_strip(judged)
