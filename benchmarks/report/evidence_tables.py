"""One variant's evidence as tables; its losses stand in :mod:`medcompress.benchmarks.report.loss_tables`."""

from __future__ import annotations

from ..evidence import Evidence, Flip
from .headline import by_gravity, criterion_strip, explained, ran, reason_of, settled_by, title_of
from .record import Report
from .tables import Cell, Column, Table, filled, outcome_cell
from .words import FIGURES, HARM, KINDS, beside, interval, interval_title, number, percent, signed

FLIPS_SHOWN = 100
LOW_IS_BETTER = ("ece", "brier")


def criteria_table(report: Report, evidence: Evidence) -> Table:
    """Every margin and what became of it, the worst first."""
    columns = (
        Column("figure", words=True),
        Column("outcome", words=True),
        Column("loss"),
        Column(f"at most ({percent(report.tolerance.confidence, 0)})"),
        Column("margin"),
        Column("loss and bound against the margin", drawn=True),
        Column("images / patients"),
        Column("more patients to settle it", words=True),
        Column("how the bound was found", words=True),
    )
    rows = tuple(
        (
            title_of(each),
            outcome_cell(each.outcome),
            beside(each.loss, each.margin),
            beside(each.bound, each.margin),
            f"{each.margin:g}",
            Cell(strip=criterion_strip(each)),
            f"{each.images:,} / {each.patients:,}",
            settled_by(each),
            each.method if explained(each) else f"{each.method}; {reason_of(each)}",
        )
        for each in by_gravity(evidence.verdict.criteria)
    )
    caption = f"Losses of {ran(report, evidence.variant)} against the margins, the worst first"
    return filled(Table(caption, columns, rows, empty="no margin was held against it"))


def other_table(report: Report, evidence: Evidence) -> Table:
    """Figures over all images that have no table of their own, as losses too."""
    titles = ("reference", "variant", "loss", interval_title(report.tolerance))
    columns = (Column("figure", words=True), *map(Column, titles), Column("note", words=True))
    known = {"auroc", "sensitivity", "specificity"} if len(evidence.classes) == 1 else set()
    rows = []
    for name, each in evidence.changes.items():
        if name in known:
            continue
        value, low, high = each.difference.value, each.difference.low, each.difference.high
        if name not in LOW_IS_BETTER:
            value, low, high = (None if end is None else -end for end in (value, high, low))
        figures = (number(each.reference), number(each.variant), number(value), interval(low, high))
        rows.append((FIGURES.get(name, name), *figures, each.difference.reason))
    return filled(Table(f"Other figures over all images, {ran(report, evidence.variant)}", columns, tuple(rows)))


def agreement_table(report: Report, evidence: Evidence) -> Table:
    """How alike the two models answer, whatever the truth."""
    found = evidence.agreement
    rows = (
        ("kappa of the answers", number(found.kappa), "1: the same answers; a dash: both give one answer alone"),
        ("largest change of a probability", number(found.largest_change), "of any image"),
        ("change of a probability in 99 % of the images", number(found.p99_change), "at most this"),
        ("rank correlation", number(found.rank_correlation), "Spearman; 1: both put the images in the same order"),
    )
    columns = (Column("agreement", words=True), Column("value"), Column("what it says", words=True))
    return Table(f"Agreement of {ran(report, evidence.variant)} with the reference", columns, rows)


def operating_table(report: Report, evidence: Evidence) -> Table:
    """The locked thresholds, where there are several, beside those the variant's own validation scores would give."""
    decision = report.decision
    own = {} if evidence.operating is None else evidence.operating.thresholds
    places = [decision.positive_index] if decision.kind == "binary" else range(len(decision.classes))
    rows = []
    for c in places:
        locked, name = decision.threshold_of(c), decision.classes[c]
        found = own.get(name)
        moved = None if found is None or locked is None else found - locked
        rows.append((name, number(locked), number(found), number(moved)))
    columns = (Column("class", words=True), Column("locked"), Column("the variant's own"), Column("apart by"))
    shown = rows if own or len(rows) > 1 else []
    return filled(Table(f"Thresholds, {ran(report, evidence.variant)}", columns, tuple(shown)))


def flip_table(report: Report, evidence: Evidence, shown: int = FLIPS_SHOWN) -> Table:
    """Images whose answer changed, the gravest first; the rest is counted by the caller."""
    titles = ("reference", "variant", "threshold", "variant from it", "image")
    columns = (
        Column("case"),
        Column("what happened", words=True),
        Column("truth", words=True),
        Column("reference → variant", words=True),
        Column("probability of", words=True),
        *map(Column, titles),
    )
    rows = tuple(
        (
            str(flip.case),
            kind_cell(flip),
            flip.truth,
            f"{flip.reference} → {flip.variant}",
            flip.of,
            number(flip.reference_probability),
            number(flip.variant_probability),
            number(flip.threshold),
            signed(flip.variant_distance),
            f"#{flip.index} {flip.sha256[:10]}",
        )
        for flip in evidence.flips[:shown]
    )
    empty = "No answer changed: the variant answers every held-out image as the reference does."
    return filled(Table(f"Changed answers, {ran(report, evidence.variant)}", columns, rows, empty=empty))


def kind_cell(flip: Flip) -> Cell:
    """What happened to one image; what harms is marked."""
    harms = flip.kind in HARM
    return Cell(KINDS.get(flip.kind, (flip.kind,))[0], "fail" if harms else "", "✗" if harms else "")
