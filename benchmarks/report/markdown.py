"""The report as text: the same words and tables, to be read in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..evidence import Evidence
from . import device_tables, evidence_tables, int8_tables, network_tables, search_tables
from .headline import KeyFigure, changed_answers, key_figures, reasons, settling, standing, subject
from .limits import limits
from .loss_tables import class_tables, group_table
from .record import Report
from .report_tables import (
    age,
    check_facts,
    latency_note,
    latency_table,
    margin_table,
    operating_variants,
    provenance_facts,
    registration_facts,
    ungrouped,
    variant_table,
)
from .tables import Table, text_of
from .words import (
    GLOSSARY,
    LOSSES,
    OUTCOMES,
    QUESTION,
    RESEARCH_USE,
    SETTLED,
    count,
    descriptive,
    locked_rule,
    meaning,
    moment,
    sentence,
    verdict_word,
)

_FLIPS_OF_OTHERS = 20


def render_markdown(report: Report) -> str:
    """What the page says, without its pictures."""
    evidence = subject(report)
    images = ", ".join(f"{number} {name}" for name, number in report.images.items())
    judged = f"Judged on {count(report.held_out, 'held-out image')} of {count(report.patients, 'patient')}: {images}."
    parts = [
        f"# {escaped(report.model)}",
        f"**Research use only.** {QUESTION} Evidence of {moment(report.created)}.",
        *(f"**Caution:** {escaped(caution)}" for caution in report.cautions),
        f"## {verdict_word(report.verdict, report.accepted)}",
        f"**{escaped(meaning(report))}**",
        *map(escaped, reasons(report, evidence)),
    ]
    if found := settling(evidence):
        parts += [SETTLED, bullets(map(escaped, found))]
    if evidence is not None:
        parts.append(escaped(f"{standing(report, evidence)}:"))
        parts.append(bullets(_key(each) for each in key_figures(report, evidence)))
    parts += [
        escaped(judged),
        f"Margins set before the results: {age(report)}.",
        "Decision of the reviewer: [ ] yes  [ ] no   Reviewer: ____________  Date: __________  Signature: ____________",
    ]
    if evidence is not None:
        parts += ["## Criteria", LOSSES]
        parts.append(text_table(evidence_tables.criteria_table(report, evidence)))
    parts += ["## All variants", text_table(variant_table(report))]
    if evidence is not None:
        parts += ["## Accuracy", *_accuracy(report, evidence)]
    parts += ["## Calibration and threshold", escaped(locked_rule(report.rule, report.decision))]
    if evidence is not None and report.decision.kind != "multiclass":
        parts.append(text_table(evidence_tables.operating_table(report, evidence)))
    parts += [text_table(operating_variants(report)), "## Speed", text_table(latency_table(report))]
    parts += [latency_note(report), text_table(device_tables.device_table(report)), device_tables.device_note(report)]
    parts += [*_networks(report), *_search(report), *_found(report), *_other_cpus(report)]
    if evidence is not None:
        parts += _changed(report, evidence, evidence_tables.FLIPS_SHOWN)
    parts += [
        "## Data and leaks",
        bullets(map(escaped, check_facts(report))),
        "## Margins",
        text_table(margin_table(report)),
        facts(registration_facts(report)),
        "## What this does not show",
        bullets(map(escaped, limits(report))),
        "## Provenance",
        facts(provenance_facts(report)),
        "## The other variants",
        *_others(report, evidence),
        "## Words",
        facts((*GLOSSARY, *network_tables.network_glossary(report))),
        RESEARCH_USE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def text_table(table: Table) -> str:
    """A Markdown table under its caption, padded so that it reads as one in a terminal; drawings are left out."""
    if not table.rows:
        return escaped(table.empty)
    shown = [place for place, column in enumerate(table.columns) if not column.drawn or _has_text(table, place)]
    words = [table.columns[place].words or number == 0 for number, place in enumerate(shown)]
    head = [escaped(table.columns[place].title) for place in shown]
    rows = [[escaped(text_of(row[place])) for place in shown] for row in table.rows]
    return f"{escaped(table.caption)}:\n\n{padded(head, rows, words)}"


def padded(head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[bool]) -> str:
    """Rows of escaped cells as a Markdown table; ``words`` to the left, numbers to the right."""
    widths = [max(3, *(len(row[place]) for row in (head, *rows))) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        parts = (
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, words, strict=True)
        )
        return f"| {' | '.join(parts)} |"

    rule = ("-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, words, strict=True))
    return "\n".join((line(head), f"| {' | '.join(rule)} |", *map(line, rows)))


def escaped(text: str) -> str:
    """Names from outside as text: no table, link, markup or line of their own."""
    text = re.sub(r"&(?=[\w#])", "&amp;", " ".join(text.split()))
    text = re.sub(r"<(?=[\w/!?])", "&lt;", text)
    return re.sub(r"([\\|`*\[\]])", r"\\\1", text)


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, a line each."""
    return "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in pairs)


def _key(each: KeyFigure) -> str:
    outcome = "" if each.outcome is None else f" ({OUTCOMES[each.outcome]})"
    return escaped(f"{each.title}: {each.value}{outcome}; {'; '.join(part for part in each.detail if part)}")


def _accuracy(report: Report, evidence: Evidence) -> list[str]:
    tables = class_tables(report, evidence)
    return [*map(text_table, tables), text_table(evidence_tables.other_table(report, evidence))]


def _networks(report: Report) -> list[str]:
    if not report.networks:
        return []
    tables = network_tables.network_table(report), network_tables.round_table(report)
    return ["## What was taken out", network_tables.TAKEN_OUT, *map(text_table, tables)]


def _search(report: Report) -> list[str]:
    if not report.trials:
        return []
    said = sentence(search_tables.search_words(report))
    return ["## What the search tried", search_tables.TRIED, said, text_table(search_tables.trial_table(report))]


def _found(report: Report) -> list[str]:
    found = int8_tables.trails(report)
    if not found:
        return []
    parts = ["## How the INT8 form was found", int8_tables.steps_words(report), escaped(int8_tables.fallback(report))]
    for each in found:
        parts += [f"### {escaped(each.form)}", escaped(sentence(each.said)), text_table(each.table)]
    return parts


def _other_cpus(report: Report) -> list[str]:
    if not report.overflows:
        return []
    said = int8_tables.overflow_words(report)
    return ["## On other CPUs", int8_tables.OVERFLOW, said, text_table(int8_tables.overflow_table(report))]


def _changed(report: Report, evidence: Evidence, shown: int) -> list[str]:
    groups = text_table(group_table(report, evidence))
    notes = [descriptive(report, evidence), *map(escaped, ungrouped(report))]
    agreement = text_table(evidence_tables.agreement_table(report, evidence))
    parts = ["## Subgroups", *notes, groups, "## Agreement and changed answers", agreement]
    return [*parts, *_flips(report, evidence, shown)]


def _flips(report: Report, evidence: Evidence, shown: int) -> list[str]:
    counted = f"{changed_answers(evidence)}." if evidence.flips else ""
    rest = len(evidence.flips) - shown
    more = f"{rest} more are in report.json." if rest > 0 else ""
    return [counted, text_table(evidence_tables.flip_table(report, evidence, shown)), more]


def _others(report: Report, evidence: Evidence | None) -> list[str]:
    parts = []
    for each in report.evidence:
        if each is evidence or each.variant == report.reference:
            continue
        parts.append(f"### {escaped(each.variant)}: {OUTCOMES[each.verdict.outcome]}")
        parts.append(escaped(sentence(each.verdict.reason)))
        if not each.verdict.identical:
            parts.append(text_table(evidence_tables.criteria_table(report, each)))
            parts += _flips(report, each, _FLIPS_OF_OTHERS)
    return parts or ["There are none."]


def _has_text(table: Table, place: int) -> bool:
    return any(text_of(row[place]) for row in table.rows)
