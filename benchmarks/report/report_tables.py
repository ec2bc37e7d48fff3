"""What the report says of all variants, of the margins and of itself, as tables."""

from __future__ import annotations

import msgspec

from ..evidence import Evidence
from ..row import Row
from ..statistics.operating import rule_words
from ..verdict import Outcome
from .record import Report
from .tables import Cell, Column, Table, outcome_cell
from .words import FIGURES, NONE, OUTCOMES, megabytes, moment, number, percent, plain


def variant_table(report: Report) -> Table:
    """The one table: every form, how well it answers and how fast."""
    bound = f"at most ({percent(report.tolerance.confidence, 0)})"
    titles = ("MB", "AUROC", "loss", bound, "sens.", "spec.", "largest Δp", "changed", "p50 ms", "p90 ms", "speed")
    columns = (Column("variant", words=True), Column("runs as"), *map(Column, titles), Column("outcome", words=True))
    rows = tuple(_variant(report, row) for row in report.rows)
    marked = tuple(place for place, row in enumerate(report.rows) if row.name == report.chosen)
    return Table("Every form that was tried", columns, rows, marked)


def latency_table(report: Report) -> Table:
    """Milliseconds a single image takes."""
    titles = ("runs", "p50", "95 % interval of p50", "p90", "p99", "against the reference", "against torch eager")
    columns = (Column("variant", words=True), *map(Column, titles))
    timed = [row for row in report.rows if row.p50_ms is not None]
    rows = tuple(
        (
            row.name,
            NONE if row.runs is None else f"{row.runs:,}",
            number(row.p50_ms, 2),
            NONE if row.p50_low_ms is None else f"{number(row.p50_low_ms, 2)} to {number(row.p50_high_ms, 2)}",
            number(row.p90_ms, 2),
            number(row.p99_ms, 2),
            _times(row.speedup_vs_reference),
            _times(row.speedup_vs_eager),
        )
        for row in timed
    )
    marked = tuple(place for place, row in enumerate(timed) if row.name == report.chosen)
    return Table("Latency in ms, one image at a time", columns, rows, marked, "No variant was timed.")


def operating_variants(report: Report) -> Table:
    """What each variant does at the locked threshold on the validation images, and what its own would have been."""
    several = report.decision.kind == "multiclass" or len(report.decision.classes) > 2
    columns = (Column("variant", words=True), Column("sensitivity"), Column("specificity"), Column("own temperature"))
    if not several:
        columns = (*columns, Column("own threshold"))
    rows = tuple(
        (
            each.variant,
            number(each.operating.sensitivity, 3),
            number(each.operating.specificity, 3),
            number(each.operating.temperature, 3),
            *(() if several else (number(next(iter(each.operating.thresholds.values()), None)),)),
        )
        for each in report.evidence
        if each.operating is not None
    )
    empty = "There were no validation images: the locked threshold was not checked on any but the held-out ones."
    return Table("On the validation images, at the locked threshold", columns, rows, empty=empty)


def margin_table(report: Report) -> Table:
    """The margins, and what they were held against."""
    margins = report.tolerance
    sure = f"the bound, at {percent(margins.confidence, 0)} confidence"
    of = "every class for itself" if margins.classes == "each" else "the mean of the classes"
    rows = (
        ("AUROC may fall by", f"{margins.auroc_drop:g}", sure),
        ("sensitivity may fall by", f"{margins.sensitivity_drop:g}", f"{sure}, {of}"),
        ("specificity may fall by", f"{margins.specificity_drop:g}", f"{sure}, {of}"),
        ("calibration error may rise by", f"{margins.ece_rise:g}", sure),
        ("answers that may change", percent(margins.flips), sure),
        ("a probability may move by", f"{margins.probability_change:g}", "what was measured, on any image"),
    )
    columns = (Column("margin", words=True), Column("value"), Column("held against", words=True))
    return Table("Margins", columns, rows)


def registration_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """When the margins were written down, and how the statistics were made."""
    found, margins = report.registration, report.tolerance
    groups = ", ".join(group.title for group in margins.subgroups) or "none"
    return (
        ("source", found.source or "the defaults of medcompress"),
        ("sha256", found.sha256),
        ("written", moment(found.written) or "with the software"),
        ("images first answered", moment(found.measured) or "not known"),
        ("older than the results", age(report)),
        ("threshold asked for", rule_words(margins.threshold)),
        ("temperature", "refit on the validation images" if margins.temperature == "refit" else "kept"),
        ("fewest images a class, with and without", str(margins.minimum)),
        ("power of the patients that would settle it", percent(margins.power, 0)),
        ("bootstrap", f"{margins.draws:,} draws of patients, seed {margins.seed}"),
        ("subgroups", groups),
    )


def age(report: Report) -> str:
    """Whether the margins are older than the results, in words."""
    if not report.registration.source:
        return "yes: the defaults, which are older than any run"
    if not report.registration.written or not report.registration.measured:
        return "not known"
    return "yes" if report.registration.before else "NO: they were changed after the images had been answered"


def provenance_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Hashes, versions and the machine; the ladder has a section of its own."""
    cpu = report.cpu
    return (
        ("report made", moment(report.created)),
        ("schema of report.json", str(report.schema)),
        *((name, plain(value)) for name, value in report.provenance.items() if name != "ladder"),
        ("CPU", f"{cpu.model} ({cpu.kind}), {cpu.cores} cores to use"),
        ("CPU features", ", ".join(cpu.features) or "none of those that matter"),
        ("threads", str(report.threads)),
    )


def ladder_steps(report: Report) -> tuple[str, ...]:
    """What was tried, step by step, where the run left a trace of it."""
    found = report.provenance.get("ladder")
    if isinstance(found, dict):
        return tuple(f"{name}: {plain(value)}" for name, value in found.items())
    if isinstance(found, list | tuple):
        return tuple(map(plain, found))
    return (plain(found),) if found else ()


def check_facts(report: Report) -> tuple[str, ...]:
    """What was found out about the images themselves, a sentence each."""
    checks = report.checks
    if checks is None:
        return ("The images were not checked for leaks here: whether training images are among them is not known.",)
    compared = f"{checks.held_out:,} held-out images were compared with {checks.train:,} of training and validation."
    nothing = () if checks.leaks else ("No copy of an image, and no patient, was found on both sides.",)
    accepted = "Accepted on the maker's word (--accept-leaks): these figures are not those on unseen patients."
    alone = (
        f"Caution: {checks.confounding}."
        if checks.confounding
        else "The files alone (format, size, compression) do not tell the classes apart, or are too few to say."
    )
    return (
        compared,
        *nothing,
        *(f"{leak}." for leak in checks.leaks),
        *((accepted,) if checks.accepted else ()),
        alone,
    )


def status_cell(row: Row, evidence: Evidence | None) -> Cell:
    """The word of a row's status with its shape, and what it is due to: of what was judged the figures' names."""
    word, _, why = row.status.partition(": ")
    outcome: Outcome | None = next((each for each in OUTCOMES if each == word), None)
    if outcome is None:
        return Cell(word, "fail" if word == "error" else "muted", "!" if word == "error" else "", why)
    if evidence is not None and outcome != "pass":
        due = (each.figure for each in evidence.verdict.criteria if each.outcome == outcome)
        why = ", ".join(dict.fromkeys(FIGURES.get(figure, figure) for figure in due))
    return msgspec.structs.replace(outcome_cell(outcome), note=why)


def _variant(report: Report, row: Row) -> tuple[Cell | str, ...]:
    evidence = next((each for each in report.evidence if each.variant == row.name), None)
    auroc = None if evidence is None or row.name == report.reference else evidence.auroc
    return (
        f"{row.name} (chosen)" if row.name == report.chosen else row.name,
        row.precision,
        megabytes(row.size_bytes),
        number(row.auroc),
        number(row.auroc_drop),
        number(row.auroc_drop_bound if auroc is None else auroc.bound),
        number(row.sensitivity, 3),
        number(row.specificity, 3),
        number(row.probability_change, 3),
        NONE if row.flips is None else str(row.flips),
        number(row.p50_ms, 2),
        number(row.p90_ms, 2),
        _times(row.speedup_vs_reference),
        status_cell(row, evidence),
    )


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}×"
