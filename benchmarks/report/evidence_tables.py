"""One variant's evidence as tables; its losses stand in :mod:`medcompress.benchmarks.report.loss_tables`."""

from __future__ import annotations

from ...runtime.decision import Decision
from ..evidence import Evidence, Flip
from ..tolerance import Tolerance
from ..verdict import Criterion
from .headline import by_gravity, criterion_strip
from .tables import Cell, Column, Table, outcome_cell
from .words import FIGURES, HARM, KINDS, NONE, interval, interval_title, number, percent

FLIPS_SHOWN = 100


def criteria_table(evidence: Evidence, tolerance: Tolerance) -> Table:
    """Every margin and what became of it, the worst first."""
    columns = (
        Column("margin of", words=True),
        Column("loss"),
        Column(f"at most ({percent(tolerance.confidence, 0)})"),
        Column("margin"),
        Column("outcome", words=True),
        Column("loss and bound against the margin", drawn=True),
        Column("images / patients"),
        Column("more patients to settle it"),
        Column("what was found, and how", words=True),
    )
    rows = tuple(
        (
            _of(each),
            number(each.loss),
            number(each.bound) if each.bound is not None else NONE,
            f"{each.margin:g}",
            outcome_cell(each.outcome),
            Cell(strip=criterion_strip(each)),
            f"{each.images:,} / {each.patients:,}",
            _settle(each),
            f"{_sentence(each.reason)} {_sentence(each.method)}",
        )
        for each in by_gravity(evidence.verdict.criteria)
    )
    return Table(f"Criteria, {evidence.variant}", columns, rows, empty="no margin was held against it")


def change_table(evidence: Evidence, tolerance: Tolerance) -> Table:
    """Every figure over all, of both, and the paired difference."""
    titles = ("reference", "variant", "difference", interval_title(tolerance))
    columns = (Column("figure", words=True), *map(Column, titles), Column("note", words=True))
    rows = tuple(
        (
            FIGURES.get(name, name),
            number(each.reference),
            number(each.variant),
            number(each.difference.value),
            interval(each.difference.low, each.difference.high),
            each.difference.reason,
        )
        for name, each in evidence.changes.items()
    )
    return Table(f"All figures, {evidence.variant} (difference: variant minus reference)", columns, rows)


def agreement_table(evidence: Evidence, tolerance: Tolerance) -> Table:
    """How alike the two models answer, whatever the truth."""
    found = evidence.agreement
    bound = f"at most {percent(found.bound)} with {percent(tolerance.confidence, 0)} confidence"
    rows = (
        ("changed answers", f"{found.flips} of {found.images:,} ({percent(found.share)})", bound),
        ("Cohen's kappa of the answers", number(found.kappa), "1: the same answers; – : both give one answer alone"),
        ("largest change of a probability", number(found.largest_change), "of any image"),
        ("the same, of 99 % of the images", number(found.p99_change), "without the most extreme one in a hundred"),
        ("largest change of a raw output", number(found.largest_logit_change), "before it becomes a probability"),
        ("rank correlation", number(found.rank_correlation), "Spearman; 1: both put the images in the same order"),
    )
    columns = (Column("agreement", words=True), Column("value"), Column("what it says", words=True))
    return Table(f"Agreement of {evidence.variant} with the reference", columns, rows)


def operating_table(evidence: Evidence, decision: Decision) -> Table:
    """The locked thresholds beside those the variant's own validation scores would give."""
    own = evidence.operating
    places = [decision.positive_index] if decision.kind == "binary" else range(len(decision.classes))
    rows = []
    for c in places:
        locked, name = decision.threshold_of(c), decision.classes[c]
        found = None if own is None else own.thresholds.get(name)
        moved = None if found is None or locked is None else found - locked
        rows.append((name, "likeliest" if locked is None else number(locked), number(found), number(moved)))
    columns = (Column("class", words=True), Column("locked"), Column("the variant's own"), Column("apart by"))
    return Table(f"Thresholds, {evidence.variant}", columns, tuple(rows))


def flip_table(evidence: Evidence, shown: int = FLIPS_SHOWN) -> Table:
    """Images whose answer changed, the gravest first; the rest is counted by the caller."""
    columns = (
        Column("case"),
        Column("what happened", words=True),
        Column("truth", words=True),
        Column("reference → variant", words=True),
        Column("probability of", words=True),
        Column("reference"),
        Column("variant"),
        Column("threshold"),
        Column("beyond it by"),
        Column("image"),
    )
    rows = tuple(
        (
            str(flip.case),
            kind_cell(flip),
            flip.truth,
            f"{flip.reference} → {flip.variant}",
            flip.of,
            number(flip.reference_probability, 3),
            number(flip.variant_probability, 3),
            NONE if flip.threshold is None else number(flip.threshold, 3),
            NONE if flip.threshold is None else number(abs(flip.variant_probability - flip.threshold), 3),
            f"#{flip.index} {flip.sha256[:10]}",
        )
        for flip in evidence.flips[:shown]
    )
    empty = "No answer changed: the variant answers every held-out image as the reference does."
    return Table(f"Changed answers, {evidence.variant}", columns, rows, empty=empty)


def kind_cell(flip: Flip) -> Cell:
    """What happened to one image; what harms is marked."""
    harms = flip.kind in HARM
    return Cell(KINDS.get(flip.kind, (flip.kind,))[0], "fail" if harms else "", "✗" if harms else "")


def _of(criterion: Criterion) -> str:
    return FIGURES.get(criterion.figure, criterion.figure) + (f": {criterion.of}" if criterion.of else "")


def _settle(criterion: Criterion) -> str:
    if criterion.more_patients is not None:
        return f"about {criterion.more_patients:,}"
    return "none would" if criterion.outcome == "inconclusive" else NONE


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}" if words else ""
