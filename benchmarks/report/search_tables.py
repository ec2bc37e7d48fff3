"""What a search looked at, and why it went on or stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from ..networks import Trial, name_within
from .headline import row_of
from .record import Report
from .report_tables import status_cell
from .tables import Cell, Column, Table, filled
from .words import NONE, OUTCOMES, count, interval, machine, megabytes, milliseconds, number, percent

TRIED = (
    "The search looked for the fastest form that is good enough: each network was pruned, taught and timed on this "
    "machine as far as it was worth it. It compared them on validation images alone; the best went on to the gate, "
    "which judged them on the held-out images. A figure here is of the images the search chose by, and so looks "
    "better than it would on others: no verdict rests on it."
)


def is_dense(trial: Trial) -> bool:
    """Whether nothing was taken out of it."""
    return trial.macs_share >= 1


def chosen_trial(report: Report) -> Trial | None:
    """Of whose forms one was chosen; None where the search did not look at that network."""
    name = name_within(report.chosen, (each.name for each in report.trials))
    return next((each for each in report.trials if (each.name == name if name else is_dense(each))), None)


def by_latency(trials: Iterable[Trial]) -> list[Trial]:
    """The fastest first, what was not timed last."""
    return sorted(trials, key=lambda each: math.inf if each.p50_ms is None else each.p50_ms)


def trial_table(report: Report) -> Table:
    """Every network, the fastest first."""
    bound = f"loss at most ({percent(report.tolerance.confidence, 0)})"
    columns = (
        Column("network", words=True),
        Column("MACs left"),
        Column("looks at, px"),
        Column("fastest form (runs as)", words=True),
        Column("median ms"),
        Column("MB"),
        Column("epochs"),
        Column("AUROC (95 % interval)"),
        Column(bound),
        Column("changed"),
        Column("what became of it", words=True),
    )
    found = by_latency(report.trials)
    chosen = chosen_trial(report)
    rows = tuple(_trial(report, each, each is chosen) for each in found)
    marked = tuple(place for place, each in enumerate(found) if each is chosen)
    caption = f"What the search tried, the fastest first: accuracy on validation images; latency on {machine(report)}"
    return filled(Table(caption, columns, rows, marked))


def search_words(report: Report) -> str:
    """How many were looked at, and how many of them judged; empty where no search was made."""
    if not report.trials:
        return ""
    judged = sum(each.state == "judged" for each in report.trials)
    minutes = sum(each.seconds for each in report.trials) / 60
    tried = count(len(report.trials), "network")
    return f"{tried} tried, {judged} of them went on to the gate; {minutes:.0f} minutes of work"


def auroc_words(trial: Trial) -> str:
    """With its interval, where there is one."""
    known = trial.auroc_low is not None and trial.auroc_high is not None
    return number(trial.auroc) + (f" ({interval(trial.auroc_low, trial.auroc_high)})" if known else "")


def marked_trial(report: Report, trial: Trial, chosen: bool) -> str:
    """Its name, and what it is."""
    kept = "chosen" if report.verdict == "pass" or report.accepted else "kept"
    told = [*(["dense"] if is_dense(trial) and trial.name != "dense" else []), *([kept] if chosen else [])]
    return f"{trial.name} ({', '.join(told)})" if told else trial.name


def _trial(report: Report, trial: Trial, chosen: bool) -> tuple[Cell | str, ...]:
    row, form = row_of(report, trial.form), trial.form.removeprefix(f"{trial.name}-") or NONE
    return (
        marked_trial(report, trial, chosen),
        percent(trial.macs_share),
        f"{trial.looks_at[0]} × {trial.looks_at[1]}",
        form if row is None else f"{form} ({row.precision})",
        milliseconds(trial.p50_ms),
        megabytes(trial.size_bytes or 0),
        str(trial.epochs),
        auroc_words(trial),
        number(trial.drop_bound),
        NONE if trial.flips is None else str(trial.flips),
        _outcome(report, trial),
    )


def _outcome(report: Report, trial: Trial) -> Cell:
    word, _, why = trial.outcome.partition(": ")
    if word == "judged":
        return _judged(report, trial)
    if word == "error":
        return Cell("error", "fail", "!", why)
    return Cell({"short": "fell short"}.get(word, word), "muted", note=why)


def _judged(report: Report, trial: Trial) -> Cell:
    """What the gate said of its fastest form, else of the one of its forms that fared best."""
    names = [each.name for each in report.trials]
    of = "" if is_dense(trial) else trial.name
    rows = [row for row in report.rows if name_within(row.name, names) == of]
    judged = [row for row in rows if row.state in OUTCOMES]
    if not judged:
        return Cell("went on to the gate", "muted", "→")
    best = min(judged, key=lambda row: (row.name != trial.form, row.state == "fail", row.state != "pass"))
    of = "" if best.name == trial.form else f"{best.name}, "
    return msgspec.structs.replace(status_cell(best, None), note=f"{of}at the gate")
