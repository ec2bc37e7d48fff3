"""``summary.md``: the page a person reads first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks.statistics.assessment import EXACT, SAME, Figure
from ...runtime.decision import Decision

if TYPE_CHECKING:
    from .run_report import RunReport

# How the figures are called in tables and plots.
LABELS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity (recall)",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "kappa": "Cohen's kappa",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
}
_OPTIONS = ("weights", "strategy", "size", "epochs", "batch_size", "learning_rate", "schedule", "loss", "augmentation")


# Marks of figures that no draw moves, and what they say below the tables.
_MARKS = {
    SAME: ("*", "Every draw of patients gives this value, so it has no interval: nothing says how far it would move."),
    EXACT: (
        "†",
        "Every draw of patients gives this value; the interval is the exact binomial one (Clopper and Pearson), which "
        "takes images of one patient for independent ones, and so is too narrow where patients have several.",
    ),
}


def label(name: str, decision: Decision) -> str:
    """How a figure over all is called."""
    if name == "accuracy" and decision.kind == "multilabel" and len(decision.classes) > 1:
        return "accuracy (all findings right)"
    return LABELS.get(name, name)


def duration(seconds: float) -> str:
    """``34 s``, ``1.2 min``."""
    return f"{seconds:.0f} s" if seconds < 59.5 else f"{seconds / 60:.1f} min"


def told(figure: Figure, digits: int = 3) -> str:
    """``0.957 [0.934, 0.976]``, or why not; a mark stands for what :func:`footnotes` say."""
    if figure.value is None:
        return f"- ({figure.reason})"
    mark = _MARKS[figure.reason][0] if figure.reason in _MARKS else ""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}" + (mark or f" ({figure.reason})")
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]{mark}"


def footnotes(figures: Iterable[Figure]) -> list[str]:
    """What the marks of these figures say."""
    reasons = {figure.reason for figure in figures}
    return [f"{mark} {text}" for reason, (mark, text) in _MARKS.items() if reason in reasons]


def summary(report: RunReport, part: str) -> str:
    """Markdown: what was trained, on what, and how well ``part`` was answered."""
    found = report.parts[part]
    training, data = report.training, report.data
    options = training.options
    lines = [f"# {'/'.join(Path(report.model).parts[-2:])}: {report.architecture.rpartition('/')[2]}", ""]
    lines += [f"> {warning}." for warning in (*report.warnings, *found.notes)]
    if report.warnings or found.notes:
        lines.append("")
    positive = f", the finding {report.decision.positive}" if report.decision.positive else ""
    facts: dict[str, Any] = {
        "made": report.created,
        "network": report.architecture,
        "classes": f"{', '.join(report.decision.classes)} ({report.decision.kind}{positive})",
        "input": f"{report.preprocessing.size[0]} x {report.preprocessing.size[1]}, {report.preprocessing.colour}",
        "data": data.folder,
        **{
            f"{name} images": f"{_count(counts)}; {data.patients.get(name, 0)} patients"
            for name, counts in data.images.items()
        },
        **{name.replace("_", " "): options[name] for name in _OPTIONS if name in options},
    }
    if training.history:
        facts["epochs run"] = f"{len(training.history)}, the best of them {training.epoch}"
    if training.seconds is not None:
        facts["time"] = f"{duration(training.seconds)} on {report.machine.gpu or report.machine.cpu.model}"
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()), ""]

    percent = f"{found.confidence:.0%}".replace("%", " %")
    names = list(report.parts)
    names.sort(key=lambda name: name != part)
    lines += [f"## How well it answers ({percent} intervals, patients redrawn {found.draws} times)", ""]
    lines += [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name in found.figures:
        cells = " | ".join(_marked(told(report.parts[other].figures[name])) for other in names)
        lines.append(f"| {label(name, report.decision)} | {cells} |")
    lines += [
        "",
        "| " + part + " | images | sensitivity | specificity | precision | AUROC |",
        "|---|---|---|---|---|---|",
    ]
    columns = ("sensitivity", "specificity", "precision", "auroc")
    for entry in found.by_class:
        cells = " | ".join(_marked(told(entry.figures[column])) for column in columns)
        lines.append(f"| {_cell(entry.name)} | {entry.support} | {cells} |")
    shown = [figure for other in names for figure in report.parts[other].figures.values()]
    shown += [entry.figures[column] for entry in found.by_class for column in columns]
    for note in footnotes(shown):
        lines += ["", note.replace("*", "\\*", 1)]
    if "val" in report.parts and part != "val":
        lines += ["", "The validation images chose the epoch, so their figures flatter; the test images chose nothing."]
    lines += [
        "",
        "Figures over all are of the finding, of two classes, and means over the classes otherwise. An interval says "
        "how far the figure would move with other patients of the same kind, not in another hospital.",
    ]
    curves = "![learning curves](curves.png) " if training.history else ""
    lines += [
        "",
        "## Plots",
        "",
        f"{curves}![ROC](roc.png) ![precision and recall](pr.png) ![confusion](confusion.png) "
        "![reliability](reliability.png)",
        "",
    ]
    if training.command:
        lines += ["## Again", "", f"    {training.command}", ""]
    lines += [
        "`predictions.csv` names files and patients: it is patient data and stays on this machine. "
        "Research use only: not a medical device.",
        "",
    ]
    return "\n".join(lines)


def _count(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _marked(text: str) -> str:
    """A cell whose mark is no emphasis."""
    return _cell(text.replace("*", "\\*"))


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
