"""Figures as words: one way to write each, in every form of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.decision import Decision
from ..tolerance import Tolerance
from ..verdict import Outcome
from .record import Report

NONE = "–"
RESEARCH_USE = (
    "Research use only. This is not a medical device; no figure here replaces a clinical evaluation or the judgement "
    "of the person who signs."
)
OUTCOMES: dict[Outcome, str] = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
SHAPES: dict[Outcome, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
FIGURES = {
    "auroc": "AUROC",
    "auprc": "AUPRC (area under precision and recall)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "kappa": "kappa with the truth",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "flips": "share of changed answers",
    "probability_change": "largest change of a probability",
}
# What became of one image, and of several; those that harm stand first.
KINDS = {
    "lost finding": ("finding lost", "findings lost"),
    "lost": ("right answer lost", "right answers lost"),
    "new false alarm": ("new false alarm", "new false alarms"),
    "changed": ("answer changed, neither right", "answers changed, neither right"),
    "found finding": ("finding gained", "findings gained"),
    "false alarm mended": ("false alarm mended", "false alarms mended"),
    "mended": ("wrong answer mended", "wrong answers mended"),
}
HARM = ("lost finding", "lost", "new false alarm")


def number(value: float | None, digits: int = 4) -> str:
    """With so many digits; a dash where there is none, and never minus nought."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Of a hundred."""
    return NONE if value is None else f"{number(100 * value, digits)}\N{NO-BREAK SPACE}%"


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """Both ends; a dash where one is unknown."""
    return NONE if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def interval_title(tolerance: Tolerance) -> str:
    """Of a column of two-sided intervals."""
    return f"{percent(tolerance.confidence, 0)} interval"


def p_value(value: float | None) -> str:
    """Three digits, and no more than can be believed."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(number_of: int, noun: str, many: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{number_of:,} {noun if number_of == 1 else many or noun + 's'}"


def megabytes(size: int) -> str:
    """In MB of a million bytes; a dash for a form that has no file."""
    return f"{size / 1e6:.2f}" if size else NONE


def verdict_word(outcome: Outcome, accepted: bool) -> str:
    """PASS, FAIL or INCONCLUSIVE; and whether the last was let through."""
    return OUTCOMES[outcome] + (", accepted by the maker" if accepted else "")


def meaning(report: Report) -> str:
    """The verdict in a sentence for who does not know the words."""
    if report.accepted:
        return (
            "These images do not suffice to show that the compressed form keeps within the margins. Its maker let it "
            "through all the same (--accept-inconclusive): the proof is missing."
        )
    if report.verdict == "pass" and report.chosen == report.reference:
        return "The uncompressed model itself is what was chosen: there is nothing to show, and nothing was gained."
    return {
        "pass": "On these images the chosen form is shown to keep within the margins.",
        "inconclusive": "These images do not suffice: they neither show nor rule out that a compressed form keeps "
        "within the margins. Do not use one on this evidence.",
        "fail": "No compressed form kept within the margins. Do not use one.",
    }[report.verdict]


def moment(time: str) -> str:
    """ISO 8601 for people."""
    return time.replace("T", " ").replace("+00:00", " UTC")


def plain(value: Any) -> str:
    """Whatever provenance holds, in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def noun(decision: Decision) -> str:
    """What the classes are called."""
    return "finding" if decision.kind == "multilabel" else "class"


def plural(word: str) -> str:
    """``classes``, ``findings``."""
    return f"{word}es" if word.endswith("s") else f"{word}s"


def locked_rule(rule: str, decision: Decision) -> str:
    """Threshold and temperature as they are locked, and how they came about."""
    warmth = (
        "Probabilities are as the network gives them (temperature 1)."
        if decision.temperature == 1
        else f"Raw outputs are divided by the temperature {decision.temperature:.4g} before they become probabilities."
    )
    if decision.kind == "multiclass":
        return f"The likeliest class is the answer; there is no threshold. {warmth}"
    answer = decision.positive or "that the finding is there"
    where = (
        "a threshold a finding, in the table"
        if decision.thresholds
        else f"{decision.threshold:.4g}, at or above which the answer is {answer}"
    )
    return f"Locked threshold: {where}. Rule: {rule}. {warmth}"


GLOSSARY = (
    ("reference", "the uncompressed model in 32-bit floating point, on ONNX Runtime; all others are compared with it"),
    ("AUROC", "the chance that an image with the disease scores higher than one without; 1 is perfect, 0.5 is chance"),
    ("sensitivity", "of the images with the disease, the share that is recognised"),
    ("specificity", "of the images without, the share that is left alone"),
    ("loss", "reference minus variant on the same images; above 0 the variant is worse"),
    ("at most, bound", "the loss is not greater than this, with the confidence that is named, for patients like these"),
    ("margin", "the loss that was allowed before the images were answered"),
    ("PASS", "the bound is within the margin: shown to be no worse than allowed"),
    ("FAIL", "the loss that was measured is already beyond the margin"),
    ("INCONCLUSIVE", "the loss that was measured is within the margin, but more is not excluded: too few patients"),
    ("changed answer", "reference and variant answer an image differently; finding lost: only the reference saw it"),
    ("calibration error", "how far predicted probabilities lie from what really happens, on average; 0 is the best"),
    ("Holm", "an adjustment of p values for having tested several classes at once"),
)
