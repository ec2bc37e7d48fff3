"""Figures as words: one way to write each, in every form of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...runtime.decision import Decision
from ..evidence import Evidence
from ..tolerance import Tolerance
from ..verdict import Outcome
from .record import Report

NONE = "–"
RESEARCH_USE = (
    "Research use only. This is not a medical device; no figure here replaces a clinical evaluation or the judgement "
    "of the person who signs."
)
QUESTION = "Is the compressed model no worse than the uncompressed one, within the margins?"
SETTLED = "What would settle it, if further patients are like these:"
LOSSES = (
    "A loss is how much worse the variant is than the reference: reference minus variant, of the calibration error the "
    "rise. Below 0 the variant is better."
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


def number(value: float | None, digits: int = 3) -> str:
    """With so many digits; a dash where there is none, and never minus nought."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", "−")


def signed(value: float | None) -> str:
    """With a plus too, for a distance from something."""
    text = number(value)
    return f"+{text}" if value and value > 0 and float(text) else text


def beside(value: float | None, margin: float) -> str:
    """As :func:`number`, with a digit more where three would hide on which side of the margin it lies."""
    hidden = value is not None and value != margin and number(value) == number(margin)
    return number(value, 4 if hidden else 3)


def shift(loss: float) -> str:
    """A loss without a sign to be puzzled over."""
    if not loss:
        return "no difference"
    size = number(abs(loss)) if abs(loss) >= 0.0005 else "less than 0.001"
    return f"{size} {'worse' if loss > 0 else 'better'}"


def about(patients: int) -> str:
    """Two digits, rounded up: an estimate says no more."""
    unit = 10 ** max(0, len(str(patients)) - 2)
    return f"about {math.ceil(patients / unit) * unit:,}"


def percent(value: float | None, digits: int = 1) -> str:
    """Of a hundred."""
    return NONE if value is None else f"{number(100 * value, digits)}\N{NO-BREAK SPACE}%"


def interval(low: float | None, high: float | None) -> str:
    """Both ends; a dash where one is unknown."""
    return NONE if low is None or high is None else f"{number(low)} to {number(high)}"


def interval_title(tolerance: Tolerance) -> str:
    """Of a column of two-sided intervals."""
    return f"{percent(tolerance.confidence, 0)} interval"


def p_value(value: float | None) -> str:
    """Three digits, and no more than can be believed."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(number_of: int, noun: str, many: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{number_of:,} {noun if number_of == 1 else many or noun + 's'}"


def machine(report: Report) -> str:
    """What a figure was measured on: the class of the CPU, and threads."""
    return f"{report.cpu.kind}, {count(report.threads, 'thread')}"


def megabytes(size: int) -> str:
    """In MB of a million bytes, two digits at least; a dash for a form that has no file."""
    return number(size / 1e6, 2 if size >= 100_000 else 3) if size else NONE


def milliseconds(value: float | None) -> str:
    """Two digits behind the point, below a millisecond three."""
    return number(value, 3 if value is not None and value < 1 else 2)


def verdict_word(outcome: Outcome, accepted: bool) -> str:
    """PASS, FAIL or INCONCLUSIVE; and whether the last was let through."""
    return OUTCOMES[outcome] + (", accepted by the maker" if accepted else "")


def meaning(report: Report) -> str:
    """The verdict in a sentence for who does not know the words."""
    chosen = report.chosen_evidence
    sure = percent(report.tolerance.confidence, 0)
    if report.accepted:
        return (
            "These images do not suffice to show that the compressed form keeps within the margins. Its maker let it "
            "through all the same (--accept-inconclusive): the proof is missing."
        )
    if report.verdict == "pass" and report.chosen == report.reference:
        return "The uncompressed model itself is what was chosen: there is nothing to show, and nothing was gained."
    if report.verdict == "pass":
        if chosen is not None and chosen.verdict.identical:
            return f"{report.chosen} gives the outputs of the uncompressed model, but for the last digits."
        return (
            f"Compared with the uncompressed model, {report.chosen} loses no more than the margins allow ({sure} "
            "confidence, for patients like these). Whether the uncompressed model is good enough is another question."
        )
    # On a kiosk the bundle's own form is judged; else what is left after a no is an uncompressed one.
    alone = chosen is not None and chosen.verdict.outcome != "pass"
    which = report.chosen if alone else "a compressed form"
    if report.verdict == "inconclusive":
        return (
            f"These images are too few: they neither show nor rule out that {which} keeps within the margins. Do not "
            "use it on this evidence."
        )
    if alone:
        return f"{report.chosen} is not within the margins. Do not use it."
    return "No compressed form is within the margins. Do not use one."


def descriptive(report: Report, evidence: Evidence) -> str:
    """How subgroups are to be read; empty where there are none."""
    if not evidence.groups:
        return ""
    confidence = report.tolerance.confidence
    return (
        f"Descriptive only: no subgroup is part of the verdict. {count(len(evidence.groups), 'group')} "
        f"{'is' if len(evidence.groups) == 1 else 'are'} shown, each with its own {percent(confidence, 0)} intervals, "
        f"not adjusted for their number: by chance about one interval in {round(1 / (1 - confidence))} misses the true "
        f"loss. A hollow dot (○) marks groups of fewer than {report.tolerance.minimum} images, or of one class alone."
    )


def sentence(words: str) -> str:
    """With a capital and a stop."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}" if words else ""


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
    ("variant, form", "one way to store and run the model: uncompressed, or compressed for one engine and CPU"),
    ("reference", "the uncompressed model in 32-bit floating point, on ONNX Runtime; all others are compared with it"),
    ("fp32, tf32, bf16, fp16, int8", "numbers of 32, 19, 16 or 8 bits: fewer are smaller and faster, and less exact"),
    ("vnni, avx2, amx", "instructions of a CPU that such a form is made for; x86-vnni: a CPU that has them"),
    ("held-out image", "one the model was neither trained nor tuned on"),
    ("logit", "what the network computes for a class, before it becomes a probability"),
    ("loss", "how much worse the variant is than the reference on the same images; below 0 it is better"),
    ("margin", "the largest loss that is allowed"),
    ("at most, bound", "the loss is not greater than this, with the confidence that is named, for patients like these"),
    ("PASS", "every bound is within its margin, and so is the largest change of a probability that was measured"),
    ("FAIL", "a loss that was measured is already beyond its margin"),
    ("INCONCLUSIVE", "what was measured is within the margins, but more is not excluded: too few patients"),
    ("AUROC", "the chance that an image with the disease scores higher than one without; 1 is perfect, 0.5 is chance"),
    ("sensitivity", "of the images with the disease, the share that is recognised"),
    ("specificity", "of the images without, the share that is left alone"),
    ("threshold, operating point", "the probability from which the answer is yes, and what it gives on the ROC curve"),
    ("changed answer", "reference and variant answer an image differently; finding lost: only the reference saw it"),
    ("calibration error", "how far predicted probabilities lie from what really happens, on average; 0 is the best"),
    ("Brier score", "the mean squared distance of probabilities from the truth; 0 is the best"),
    ("precision, F1, AUPRC", "the share of positive answers that are right; its mean with sensitivity; its area"),
    ("kappa", "agreement beyond what chance would give; 1 is full"),
    ("95 % interval", "two-sided, so its upper end lies above the one-sided bound of the same loss"),
    (
        "p",
        "how often so large a difference, either way, would come by chance alone; no verdict rests on it",
    ),
    ("Holm", "an adjustment of p for having tested several classes at once"),
    ("design effect", "by how many times images of one patient tell less than those of as many patients"),
    ("DeLong, Obuchowski, Tango, Clopper and Pearson", "who published the bounds; the papers are named in the source"),
    ("bootstrap", "the study repeated on a computer with patients drawn at random from these"),
)
