"""What the report says of all variants, of the margins and of itself, as tables."""

from __future__ import annotations

import hashlib

import msgspec

from ...runtime.records import to_json
from ..evidence import Evidence
from ..row import Row
from ..statistics.operating import rule_words
from ..verdict import Outcome
from .headline import marked_name, row_of
from .record import Report
from .tables import Cell, Column, Table, filled, outcome_cell
from .words import FIGURES, NONE, OUTCOMES, beside, machine, megabytes, milliseconds, moment, number, percent, plain

INTERVALS = (
    "In brackets stands a 95 % interval, between two of the measured runs: it holds whatever the runs are distributed "
    "like, if each is independent of the one before it, which they are only roughly. “At least”: there were too few "
    "runs for an upper end (99 % within takes 368)."
)
# What has a place of its own on the page.
_ELSEWHERE = ("data checks", "subgroups")


def variant_table(report: Report) -> Table:
    """The one table: every form, how well it answers and how fast."""
    bound = f"at most ({percent(report.tolerance.confidence, 0)})"
    titles = ("MB", "AUROC", "loss", bound, "sens.", "spec.", "largest Δp", "changed", "median ms", "speed")
    columns = (Column("variant", words=True), Column("runs as"), *map(Column, titles), Column("outcome", words=True))
    rows = tuple(_variant(report, row) for row in report.rows)
    marked = tuple(place for place, row in enumerate(report.rows) if row.name == report.chosen)
    return Table(f"Every form that was tried, {machine(report)}", columns, rows, marked)


def latency_table(report: Report) -> Table:
    """Milliseconds a single image takes."""
    titles = ("runs as", "runs", "median", "90 % within", "99 % within", "speed", "speed against PyTorch")
    columns = (Column("variant", words=True), *map(Column, titles))
    timed = [row for row in report.rows if row.p50_ms is not None]
    rows = tuple(
        (
            row.name,
            row.runs_as,
            NONE if row.runs is None else f"{row.runs:,}",
            _within(row.p50_ms, row.p50_low_ms, row.p50_high_ms),
            _within(row.p90_ms, row.p90_low_ms, row.p90_high_ms),
            _within(row.p99_ms, row.p99_low_ms, row.p99_high_ms),
            _times(row.speedup_vs_reference),
            _times(row.speedup_vs_eager),
        )
        for row in timed
    )
    marked = tuple(place for place, row in enumerate(timed) if row.name == report.chosen)
    caption = f"Latency in ms, one image at a time, {machine(report)}"
    return filled(Table(caption, columns, rows, marked, "No variant was timed."))


def latency_note(report: Report) -> str:
    """What its brackets are; empty where it has none."""
    return INTERVALS if any(row.p50_low_ms is not None for row in report.rows) else ""


def operating_variants(report: Report) -> Table:
    """What each variant does at the locked threshold on the validation images, and what its own would have been."""
    titles = ("runs as", "sensitivity", "specificity", "own temperature", "own threshold")
    columns = (Column("variant", words=True), *map(Column, titles))
    binary = report.decision.kind == "binary"
    rows = tuple(
        (
            each.variant,
            NONE if (row := row_of(report, each.variant)) is None else row.runs_as,
            number(each.operating.sensitivity),
            number(each.operating.specificity),
            number(each.operating.temperature),
            number(next(iter(each.operating.thresholds.values()), None)) if binary else NONE,
        )
        for each in report.evidence
        if each.operating is not None
    )
    empty = (
        "" if rows else "There were no validation images: the threshold was not checked on any but the held-out ones."
    )
    caption = f"On the validation images, at the locked threshold, {machine(report)}"
    return filled(Table(caption, columns, rows, empty=empty))


def margin_table(report: Report) -> Table:
    """The margins, and what they were held against."""
    margins = report.tolerance
    sure = f"the bound, at {percent(margins.confidence, 0)} confidence"
    rows = (
        ("AUROC may fall by", f"{margins.auroc_drop:g}", sure),
        ("sensitivity may fall by", f"{margins.sensitivity_drop:g}", f"{sure}, every class for itself"),
        ("specificity may fall by", f"{margins.specificity_drop:g}", f"{sure}, every class for itself"),
        ("calibration error may rise by", f"{margins.ece_rise:g}", sure),
        ("answers that may change", percent(margins.flips), sure),
        ("a probability may move by", f"{margins.probability_change:g}", "what was measured, on any image"),
    )
    columns = (Column("margin", words=True), Column("value"), Column("held against", words=True))
    return Table("How much worse than the reference a variant may be", columns, rows)


def registration_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """When the margins were written down, and how the statistics were made."""
    found, margins = report.registration, report.tolerance
    groups = ", ".join(group.title for group in margins.subgroups) or "none"
    return (
        ("source", found.source or "the defaults of medcompress"),
        ("sha256", found.sha256),
        ("written", f"{moment(found.written)} (date of the file)" if found.written else "with the software"),
        ("images first answered", moment(found.measured) or "not known"),
        ("threshold asked for", rule_words(margins.threshold)),
        ("temperature", "refit on the validation images" if margins.temperature == "refit" else "kept"),
        ("fewest images a class, with and without", str(margins.minimum)),
        (
            "chance that so many more patients settle it",
            f"{percent(margins.power, 0)} (AUROC, sensitivity, specificity)",
        ),
        ("bootstrap", f"{margins.draws:,} draws of patients, seed {margins.seed}"),
        ("subgroups", groups),
    )


def age(report: Report) -> str:
    """Whether the margins are older than the results, in words."""
    if not report.registration.source:
        return "yes: the defaults, which are older than any run"
    if not report.registration.written or not report.registration.measured:
        return "not known"
    return (
        "yes, as far as the file's time and this folder tell"
        if report.registration.before
        else "NO: they were changed after the images had been answered"
    )


def provenance_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Hashes, versions and the machine."""
    cpu, known = report.cpu, report.provenance
    return (
        ("measured and written", moment(report.created)),
        ("report.json", f"schema {report.schema}, sha256 {hashlib.sha256(to_json(report)).hexdigest()}"),
        *((name, plain(value)) for name, value in known.items() if name not in _ELSEWHERE),
        *(() if "command" in known else (("made by, and with which command", "not recorded"),)),
        ("CPU", f"{cpu.model} ({cpu.kind}), {cpu.cores} cores to use"),
        ("CPU features", ", ".join(cpu.features) or "none of those that matter"),
        ("threads", str(report.threads)),
        (
            "to check it",
            "medcompress verify BUNDLE: files and answers on this machine; medcompress benchmark BUNDLE "
            "--data FOLDER: all of this anew on your images; medcompress report BUNDLE: these pages from report.json",
        ),
    )


def ungrouped(report: Report) -> tuple[str, ...]:
    """Images that are in no subgroup, a sentence a way to divide them."""
    found = report.provenance.get("subgroups")
    return tuple(f"By {name}: {plain(said)}." for name, said in found.items()) if isinstance(found, dict) else ()


def check_facts(report: Report) -> tuple[str, ...]:
    """What was found out about the images themselves, a sentence each."""
    checks = report.checks
    if checks is None:
        return ("The images were not checked for leaks here: whether training images are among them is not known.",)
    compared = f"{checks.held_out:,} held-out images were compared with {checks.train:,} of training and validation."
    nothing = "No image, no changed copy of one, and no patient was found on both sides."
    if checks.notes:
        nothing = f"{nothing[:-1]}, as patients are named here; but see the notes below."
    accepted = "Accepted on the maker's word (--accept-leaks): these figures are not those on unseen patients."
    alone = f"Caution: {checks.confounding}."
    if not checks.confounding and checks.confounding_auroc is None:
        alone = "Whether the files alone (format, size, compression) tell the classes apart was not found out."
    elif not checks.confounding:
        guessed = f"AUROC {checks.confounding_auroc:.2f}, 0.5 is chance"
        alone = f"The files alone (format, size, compression) do not tell the classes apart ({guessed})."
    return (
        compared,
        *(() if checks.leaks else (nothing,)),
        *(f"{leak}." for leak in checks.leaks),
        *((accepted,) if checks.accepted else ()),
        alone,
        *(f"Note: {note}." for note in checks.notes),
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
        marked_name(report, row.name),
        row.runs_as,
        megabytes(row.size_bytes),
        number(row.auroc),
        number(row.auroc_drop),
        beside(row.auroc_drop_bound if auroc is None else auroc.bound, report.tolerance.auroc_drop),
        number(row.sensitivity),
        number(row.specificity),
        number(row.probability_change),
        NONE if row.flips is None else str(row.flips),
        milliseconds(row.p50_ms),
        _times(row.speedup_vs_reference),
        status_cell(row, evidence),
    )


def _within(value: float | None, low: float | None, high: float | None) -> str:
    """Milliseconds and their interval; the upper end is unknown where the runs were too few."""
    text = milliseconds(value)
    if low is None:
        return text
    ends = f"at least {milliseconds(low)}" if high is None else f"{milliseconds(low)} to {milliseconds(high)}"
    return f"{text} ({ends})"


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}×"
