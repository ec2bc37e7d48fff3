"""Losses by class and by subgroup as tables, each with its interval drawn against the margin."""

from __future__ import annotations

from collections.abc import Iterable

from ..evidence import ClassEvidence, Evidence
from ..statistics.delong import AurocLoss
from ..statistics.paired import PairedProportion
from ..tolerance import Tolerance
from .headline import ran
from .record import Report
from .strip import Scale, Strip, margin_scale, scale_of
from .tables import Cell, Column, Table
from .words import FIGURES, NONE, interval, interval_title, noun, number, p_value

PROPORTIONS = ("sensitivity", "specificity")


def class_tables(report: Report, evidence: Evidence) -> tuple[Table, ...]:
    """Losses: one table for one class, one a figure for several."""
    tolerance, of = report.tolerance, ran(report, evidence.variant)
    if len(evidence.classes) == 1:
        (only,) = evidence.classes
        rows = tuple(_loss_row(FIGURES[name], only, name, tolerance) for name in ("auroc", *PROPORTIONS))
        return (Table(f"Losses, {only.name}, {of}", _loss_columns("figure", tolerance, "p"), rows),)
    each_one = noun(report.decision)
    tables = []
    for name in ("auroc", *PROPORTIONS):
        rows = tuple(_loss_row(each.name, each, name, tolerance) for each in evidence.classes)
        title = f"{FIGURES[name][0].upper()}{FIGURES[name][1:]} by {each_one}, {of}"
        tables.append(Table(title, _loss_columns(each_one, tolerance), rows))
    return tuple(tables)


def group_table(report: Report, evidence: Evidence) -> Table:
    """The forest: losses of AUROC, sensitivity and specificity in every subgroup on one scale each."""
    tolerance, decision = report.tolerance, report.decision
    several = decision.kind != "binary"
    margins = (tolerance.auroc_drop, tolerance.sensitivity_drop, tolerance.specificity_drop)
    parts = [(each.auroc, each.sensitivity, each.specificity) for each in evidence.groups]
    scales = [
        scale_of(margin, [end for part in parts if (found := part[place]) for end in (found.low, found.high)])
        for place, margin in enumerate(margins)
    ]
    shown = [place for place in range(3) if any(part[place] is not None for part in parts)]
    notes = any(each.descriptive or each.note for each in evidence.groups)
    right = "share answered right, loss" if decision.kind == "multiclass" else "sensitivity loss"
    titles = ("AUROC loss", right, "specificity loss")
    columns = (
        Column("group", words=True),
        Column("images"),
        *(() if several else (Column("with / without"),)),
        *(Column(titles[place], scale=scales[place], drawn=True) for place in shown),
        Column("changed"),
        *((Column("to be read as", words=True),) if notes else ()),
    )
    rows = tuple(
        (
            f"{each.by}: {each.name}",
            f"{each.images:,}",
            *(() if several else (f"{each.positive} / {each.negative}",)),
            *(_loss_cell(part[place], scales[place], each.descriptive) for place in shown),
            str(each.flips),
            *((Cell("descriptive only", "muted", "○", each.note) if each.descriptive else each.note,) if notes else ()),
        )
        for each, part in zip(evidence.groups, parts, strict=True)
    )
    whole = _whole(evidence, several)
    top = (
        "all images",
        f"{evidence.images:,}",
        *(() if several else (_balance(evidence),)),
        *(_loss_cell(whole[place], scales[place], False) for place in shown),
        str(evidence.agreement.flips),
        *(("",) if notes else ()),
    )
    empty = "No subgroups were asked for: whether the loss is the same for all kinds of patients is not known."
    caption = f"Losses by subgroup, {ran(report, evidence.variant)}"
    return Table(caption, columns, (top, *rows) if rows else (), (0,) if rows else (), empty)


def _whole(
    evidence: Evidence, several: bool
) -> tuple[AurocLoss | None, PairedProportion | None, PairedProportion | None]:
    """Over all images, to be laid beside the groups; of several classes no one sensitivity stands for all."""
    if several or not evidence.classes:
        return evidence.auroc, None, None
    only = evidence.classes[0]
    return evidence.auroc, only.sensitivity, only.specificity


def _balance(evidence: Evidence) -> str:
    if not evidence.classes:
        return NONE
    return f"{evidence.classes[0].sensitivity.images} / {evidence.classes[0].specificity.images}"


def _loss_columns(first: str, tolerance: Tolerance, p: str = "p (Holm)") -> tuple[Column, ...]:
    titles = ("images", "reference", "variant", "loss", interval_title(tolerance), p)
    tail = (Column("lost / gained"), Column("loss and its interval", drawn=True))
    return (Column(first, words=True), *map(Column, titles), *tail)


def _loss_row(name: str, found: ClassEvidence, figure: str, tolerance: Tolerance) -> tuple[Cell | str, ...]:
    images = {
        "auroc": f"{found.sensitivity.images} / {found.specificity.images}",
        "sensitivity": f"{found.sensitivity.images:,}",
        "specificity": f"{found.specificity.images:,}",
    }[figure]
    part: AurocLoss | PairedProportion | None = getattr(found, figure)
    if part is None or part.loss is None:
        return (name, images, *([NONE] * 5), NONE, Cell("no image has it, or every one has", "muted"))
    changed = f"{part.lost} / {part.gained}" if isinstance(part, PairedProportion) else ""
    margin = getattr(tolerance, f"{figure}_drop")
    return (
        name,
        images,
        number(part.reference),
        number(part.variant),
        number(part.loss),
        interval(part.low, part.high),
        p_value(part.p_value if part.p_adjusted is None else part.p_adjusted),
        changed,
        Cell(strip=_strip(part, margin_scale(margin, _ends([part])), False)),
    )


def _loss_cell(part: AurocLoss | PairedProportion | None, scale: Scale, hollow: bool) -> Cell:
    if part is None or part.loss is None:
        return Cell(NONE, "muted")
    text = number(part.loss) + ("" if part.low is None else f" ({interval(part.low, part.high)})")
    return Cell(text, strip=_strip(part, scale, hollow))


def _strip(part: AurocLoss | PairedProportion, scale: Scale, hollow: bool) -> Strip | None:
    if part.loss is None:
        return None
    low, high = (part.loss if end is None else end for end in (part.low, part.high))
    words = f"loss {number(part.loss)}, interval {interval(part.low, part.high)}, margin {scale.margin:g}"
    return Strip(part.loss, low, high, scale, words + (", descriptive only" if hollow else ""), hollow)


def _ends(parts: Iterable[AurocLoss | PairedProportion | None]) -> list[float | None]:
    return [end for part in parts if part is not None for end in (part.low, part.high)]
