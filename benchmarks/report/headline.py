"""What the first screen says: of which variant, and the handful of figures that matter."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..evidence import Evidence, nearest
from ..row import Row
from ..verdict import GRAVITY, Criterion, Outcome
from .record import Report
from .strip import Strip, margin_scale
from .words import KINDS, count, megabytes, number, percent


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

    The chosen variant's; where the verdict is no, of those that were refused the one that came nearest: the reader is
    to see what the no rests on, and the chosen one is then a float form that nobody doubts.
    """
    if report.verdict == "pass" or report.accepted:
        return report.chosen_evidence
    return nearest(report.evidence) or report.chosen_evidence


def row_of(report: Report, name: str) -> Row | None:
    """The row of that name."""
    return next((row for row in report.rows if row.name == name), None)


def by_gravity(criteria: tuple[Criterion, ...]) -> list[Criterion]:
    """What failed first, then what is open; within each in the order they were judged."""
    return sorted(criteria, key=lambda each: -GRAVITY.index(each.outcome))


def standing(report: Report, evidence: Evidence) -> str:
    """What the variant is to the verdict, in a sentence."""
    name = evidence.variant
    if name == report.chosen and name == report.reference:
        return f"{name}, the uncompressed reference, is what is left; it is compared with itself here"
    if name == report.chosen:
        return f"the figures are those of {name}, the form that was chosen"
    return (
        f"the figures are those of {name}, the form that came nearest and was refused; kept instead is {report.chosen}"
    )


def key_figures(report: Report, evidence: Evidence) -> tuple[KeyFigure, ...]:
    """AUROC, sensitivity, specificity, changed answers, latency, size: those that are known."""
    found = [_auroc(report, evidence)]
    found += [_proportion(report, evidence, figure) for figure in ("sensitivity", "specificity")]
    found += [_changed(report, evidence), *_cost(report, evidence)]
    return tuple(found)


def flip_counts(evidence: Evidence) -> str:
    """How many changed answers of each kind, those that harm first."""
    kinds = Counter(flip.kind for flip in evidence.flips)
    return ", ".join(count(kinds[kind], *words) for kind, words in KINDS.items() if kinds[kind])


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
    at_most = "" if criterion.bound is None else f", at most {number(bound)}"
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
    if several and not judged.of:
        title, mean = f"{title}, mean of {len(evidence.classes)}", evidence.changes.get(figure)
        if mean is None:
            return KeyFigure(title, "not known", detail, outcome, strip)
        return KeyFigure(title, f"{number(mean.reference, 3)} → {number(mean.variant, 3)}", detail, outcome, strip)
    title = f"{title}, worst of {len(evidence.classes)}" if several else title
    part = next((getattr(each, figure) for each in evidence.classes if judged.of in ("", each.name)), None)
    if part is None or part.reference is None:
        return KeyFigure(title, "not known", (judged.of, judged.reason), outcome)
    changed = f"{part.lost} lost, {part.gained} gained, of {part.images:,} images"
    detail = (*((judged.of,) if several else ()), *detail, changed)
    return KeyFigure(title, f"{number(part.reference, 3)} → {number(part.variant, 3)}", detail, outcome, strip)


def _changed(report: Report, evidence: Evidence) -> KeyFigure:
    judged, agreement = _worst(evidence, "flips"), evidence.agreement
    value = f"{agreement.flips} of {agreement.images:,} ({percent(agreement.share)})"
    detail = [flip_counts(evidence) or "no answer changed"]
    if judged is not None:
        detail.append(f"margin {percent(judged.margin)}")
    return KeyFigure("Changed answers", value, tuple(detail), None if judged is None else judged.outcome)


def _cost(report: Report, evidence: Evidence) -> list[KeyFigure]:
    row, base = row_of(report, evidence.variant), row_of(report, report.reference)
    if row is None or base is None:
        return []
    found = []
    if row.p50_ms and base.p50_ms:
        times = f"{base.p50_ms / row.p50_ms:.1f} times as fast"
        how = f"median, one image, {count(report.threads, 'thread')}"
        found.append(KeyFigure("Latency", f"{base.p50_ms:.2f} → {row.p50_ms:.2f} ms", (times, how)))
    else:
        found.append(KeyFigure("Latency", "not measured", ("this form was not timed",)))
    share = f"{100 * row.size_bytes / base.size_bytes:.0f} % of the reference" if base.size_bytes else ""
    value = f"{megabytes(base.size_bytes)} → {megabytes(row.size_bytes)} MB"
    return [*found, KeyFigure("Size", value, (share,))]


def _against(report: Report, judged: Criterion | None) -> tuple[tuple[str, ...], Outcome | None, Strip | None]:
    if judged is None:
        return ("no margin was held against it",), None, None
    if judged.loss is None:
        return (judged.reason,), judged.outcome, None
    bound = (
        "no bound can be given"
        if judged.bound is None
        else f"at most {number(judged.bound)} with {percent(report.tolerance.confidence, 0)} confidence"
    )
    detail = (f"loss {number(judged.loss)}", bound, f"margin {judged.margin:g}")
    return detail, judged.outcome, criterion_strip(judged)
