"""Threshold and temperature, found with the reference on the validation images and locked in the bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from ..runtime.decision import Decision
from ..runtime.errors import DataError
from .cautions import LEAST_IMAGES_A_CLASS
from .data.labelled import Labelled
from .evaluation import Logits
from .statistics.operating import lock
from .statistics.temperature import LEAST, MOST, fit_temperature
from .tolerance import Tolerance


def check_rule(decision: Decision, rule: object) -> None:
    """Refuse a rule for the threshold where there is none, before anything is measured."""
    if decision.kind == "multiclass" and rule != "keep":
        raise DataError(
            "the tolerance names a threshold, and of several classes the likeliest is the answer; leave it out"
        )


def locked(decision: Decision, tolerance: Tolerance, validation: Labelled | None, logits: Logits | None) -> Decision:
    """The decision with the threshold and the temperature that the reference's answers on validation images give.

    Raises:
        DataError: the rule needs validation images and there are none, or cannot be followed on them.
    """
    rule = tolerance.threshold
    if tolerance.temperature == "keep" and isinstance(rule, float):
        return lock(decision, rule, np.zeros((0, len(decision.classes)), np.int8), np.zeros((0, len(decision.classes))))
    if tolerance.temperature == "keep" and rule == "keep":
        return decision
    if validation is None or logits is None:
        raise DataError("the tolerance locks threshold or temperature on validation images, and there are none")
    if tolerance.temperature == "refit":
        found = fit_temperature(decision, validation.target, logits)
        decision = _at_temperature(decision, found)
    return lock(decision, rule, validation.target, logits)


def cautions_of_lock(
    tolerance: Tolerance, decision: Decision, validation: Labelled, classes: Sequence[str]
) -> tuple[str, ...]:
    """What keeps the locked threshold and temperature from meaning much, a sentence each."""
    if tolerance.temperature == "keep" and (tolerance.threshold == "keep" or isinstance(tolerance.threshold, float)):
        return ()
    counts = (validation.target == 1).sum(axis=0).tolist()
    few = [f"{count} of {name}" for name, count in zip(classes, counts, strict=True) if count < LEAST_IMAGES_A_CLASS]
    said = []
    if few:
        said.append(f"Threshold or temperature were found on few validation images ({', '.join(few)}).")
    if tolerance.temperature == "refit" and not LEAST * 1.01 < decision.temperature < MOST * 0.99:
        said.append(f"The temperature is at the end of its range ({decision.temperature:.2f}).")
    return tuple(said)


def _at_temperature(decision: Decision, temperature: float) -> Decision:
    """The decision at another temperature, its thresholds moved along: no answer of it changes."""

    def moved(threshold: float) -> float:
        odds = math.log(threshold / (1 - threshold)) * decision.temperature / temperature
        return 1 / (1 + math.exp(-odds))

    thresholds = tuple(map(moved, decision.thresholds))
    return msgspec.structs.replace(
        decision, temperature=temperature, threshold=moved(decision.threshold), thresholds=thresholds
    )
