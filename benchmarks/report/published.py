"""The published table: architectures and their variants, from stored reports."""

from __future__ import annotations

from collections.abc import Sequence

from .markdown import escaped, padded
from .record import Report
from .words import NONE, count, megabytes, milliseconds, number, percent, verdict_word

BEGIN, END = "<!-- medcompress results -->", "<!-- /medcompress results -->"
_HEAD = (
    "model",
    "variant",
    "executed",
    "MB",
    "AUROC",
    "loss",
    "≤ bound",
    "sensitivity",
    "specificity",
    "flips",
    "p50 ms",
    "x ORT FP32",
    "verdict",
)
_WORDS = (True, True, True, *[False] * 9, True)


def results_table(reports: Sequence[Report]) -> str:
    """One Markdown table a machine: only figures of one machine, with one number of threads, may be compared."""
    machines: dict[tuple[str, str, int], list[Report]] = {}
    for report in reports:
        machines.setdefault((report.cpu.model, report.cpu.kind, report.threads), []).append(report)
    parts = []
    if len(machines) > 1:
        parts.append(
            f"Measured on {len(machines)} machines or numbers of threads: a table each, whose latencies are not to be "
            "compared with one another."
        )
    for (model, kind, threads), found in machines.items():
        parts.append(
            f"{escaped(model)} ({escaped(kind)}), {count(threads, 'thread')}, one image at a time; {_said(found)}"
        )
        parts.append(padded(_HEAD, [row for report in found for row in _rows(report)], _WORDS))
    return "\n\n".join(parts)


def replaced(text: str, table: str) -> str | None:
    """``text`` with what stands between the markers replaced; None unless each stands in it once, in order."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    once = text.count(BEGIN) == text.count(END) == 1
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}" if once and found and ended else None


def _said(reports: Sequence[Report]) -> str:
    chosen = "the chosen form is bold; loss is of AUROC, reference minus variant, and at most the bound"
    confidences = sorted({report.tolerance.confidence for report in reports})
    sure = " or ".join(percent(confidence, 0) for confidence in confidences)
    images = ", ".join(f"{escaped(_name(each))}: {count(each.held_out, 'image')}" for each in reports)
    return f"{chosen} with {sure} confidence. Held out: {images}."


def _rows(report: Report) -> list[list[str]]:
    rows = []
    for row in report.rows:
        evidence = next((each for each in report.evidence if each.variant == row.name), None)
        if row.p50_ms is None and evidence is None:
            continue
        auroc = None if evidence is None or row.name == report.reference else evidence.auroc
        word = row.status.partition(":")[0]
        chosen = row.name == report.chosen
        accepted = verdict_word("inconclusive", True).lower() if chosen and report.accepted else word
        cells = [
            escaped(_name(report)),
            escaped(row.name),
            escaped(row.runs_as),
            megabytes(row.size_bytes),
            number(row.auroc, 4),
            NONE if auroc is None else number(auroc.loss, 4),
            NONE if auroc is None else number(auroc.bound, 4),
            number(row.sensitivity),
            number(row.specificity),
            NONE if row.flips is None else str(row.flips),
            milliseconds(row.p50_ms),
            NONE if row.speedup_vs_reference is None else f"{row.speedup_vs_reference:.1f}",
            escaped(accepted),
        ]
        if chosen:
            cells[1] = f"**{cells[1]}**"
        rows.append(cells)
    return rows


def _name(report: Report) -> str:
    """The network and what it finds: one network may stand in several rows."""
    architecture, classes = report.model.partition(":")[0], report.decision.classes
    return f"{architecture}, {report.decision.positive or f'{len(classes)} classes'}"
