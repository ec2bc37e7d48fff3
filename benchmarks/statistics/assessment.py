"""How well a model answers, every figure with the interval that redrawing its patients gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ...runtime.decision import Decision
from .bootstrap import Counts, Floats, percentile_interval, under_draws
from .judged import Judged, confusion
from .measures import Figures, class_values, overall_values

DRAWS = 1000
CONFIDENCE = 0.95
# A figure that fewer of the draws have is of too few patients for an interval.
_LEAST_SHARE = 0.5
# Reasons of a figure that no draw moves: one has no interval, the other another one.
SAME = "every draw gives the same value"
EXACT = "exact binomial interval, which takes images of one patient for independent ones"


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number, and how far it is to be trusted.

    Attributes:
        value: None where it cannot be said.
        low, high: percentile interval over the draws of patients; None where it cannot be said. A share of images
            that is 0 or 1 in every draw has the exact one of Clopper and Pearson (Biometrika 26:404, 1934).
        draws: how many draws had a value; those that lacked one of the classes were left out.
        reason: why value or interval are missing, or the interval is another.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    draws: int = 0
    reason: str = ""


class ClassAssessment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class against the rest, or one finding.

    Attributes:
        support: images that have it.
        known: images of which it is known whether they have it.
        figures: by the names of :data:`medcompress.benchmarks.statistics.measures.OF_CLASS`.
    """

    name: str
    support: int
    known: int
    figures: dict[str, Figure]


class Assessment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found on labelled images.

    Attributes:
        images, patients: that were counted.
        unknown: images left out, for nothing is known of them.
        confidence, draws, seed: of the intervals.
        confusion: truth in the rows, answers in the columns: one matrix, or one a finding (absent, present).
        figures: by the names of :data:`medcompress.benchmarks.statistics.measures.OVERALL`, which says what each is.
        by_class: in the order of the classes.
        notes: what a reader must know beside the figures, a sentence each.
    """

    decision: Decision
    images: int
    patients: int
    unknown: int
    confidence: float
    draws: int
    seed: int
    confusion: tuple[tuple[tuple[int, ...], ...], ...]
    figures: dict[str, Figure]
    by_class: tuple[ClassAssessment, ...]
    notes: tuple[str, ...] = ()


def assess_judged(found: Judged, draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE) -> Assessment:
    """All figures with their intervals.

    Patients are drawn with replacement, each with all its images. The interval of the calibration error is
    centred on its value: every draw repeats images, and so has an error of its own on top.
    """
    people = len(set(found.patients))
    names = found.decision.classes
    columns = range(len(names))
    overall, by_class = [], [[] for _ in columns]
    if people > 1 and draws:
        for of_all, of_each in under_draws(found.patients, draws, seed, Figures(found).under):
            overall.append(of_all)
            for c in columns:
                by_class[c].append(of_each[c])
    why = _nothing_to_redraw(people)

    def with_intervals(
        values: dict[str, float], drawn: list[dict[str, Floats]], missing: str, images: dict[str, int]
    ) -> dict[str, Figure]:
        return {
            name: _figure(value, [part[name] for part in drawn], name, confidence, why, missing, images.get(name, 0))
            for name, value in values.items()
        }

    of_classes = tuple(
        ClassAssessment(
            names[c],
            int((found.target[:, c] == 1).sum()),
            int((found.target[:, c] >= 0).sum()),
            with_intervals(class_values(found, c), by_class[c], _missing(found, [c]), _images_of(found, c)),
        )
        for c in columns
    )
    return Assessment(
        found.decision,
        len(found),
        people,
        found.unknown,
        confidence,
        draws,
        seed,
        confusion(found),
        with_intervals(overall_values(found), overall, _missing(found, found.columns), _images(found)),
        of_classes,
        _notes(found),
    )


def mean_figures(
    models: Sequence[Judged],
    minus: Sequence[Judged] = (),
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, Figure]:
    """The mean of each figure over models, less its mean over others, with the interval of that.

    All models answered the same images in the same order, and are judged under the same draws of their patients: so
    the interval of a difference is a paired one.
    """
    values = _mean_of([overall_values(model) for model in models], [overall_values(model) for model in minus])
    found = models[0]
    people = len(set(found.patients))
    drawn: list[dict[str, Any]] = []
    if people > 1 and draws:
        ready, others = [Figures(model) for model in models], [Figures(model) for model in minus]

        def under(weights: Counts) -> dict[str, Any]:
            return _mean_of([each.under(weights)[0] for each in ready], [each.under(weights)[0] for each in others])

        drawn = under_draws(found.patients, draws, seed, under)
    why, missing = _nothing_to_redraw(people), _missing(found, found.columns)
    images = _images(found) if len(models) == 1 and not minus else {}
    called = {name: "difference" if minus else name for name in values}
    return {
        name: _figure(
            float(value),
            [part[name] for part in drawn],
            called[name],
            confidence,
            why,
            missing,
            images.get(name, 0),
        )
        for name, value in values.items()
    }


def _mean_of(models: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    means = {name: np.mean([model[name] for model in models], axis=0) for name in models[0]}
    if not others:
        return means
    return {name: mean - np.mean([other[name] for other in others], axis=0) for name, mean in means.items()}


def _nothing_to_redraw(people: int) -> str:
    return "no draws were asked for" if people > 1 else "one patient: nothing to redraw"


def _figure(
    value: float, drawn: list[Floats], name: str, confidence: float, why: str, missing: str, images: int
) -> Figure:
    """``images``: how many the figure is a share of; 0 where it is none."""
    if np.isnan(value):
        return Figure(None, reason=missing)
    value = _whole(value)
    if not drawn:
        return Figure(value, reason=why)
    values = np.concatenate(drawn)
    usable = values[~np.isnan(values)]
    if len(usable) < _LEAST_SHARE * len(values):
        return Figure(value, draws=len(usable), reason=f"only {len(usable)} of {len(values)} draws have a value")
    if np.ptp(usable) < 1e-12:
        if not images or value not in (0, 1):
            return Figure(value, draws=len(usable), reason=SAME)
        from scipy.stats import binomtest

        exact = binomtest(round(value * images), images).proportion_ci(confidence, method="exact")
        return Figure(value, float(exact.low), float(exact.high), len(usable), EXACT)
    low, high = percentile_interval(usable, confidence)
    if name == "ece":
        shift = value - float(usable.mean())
        low, high = max(0.0, low + shift), high + shift
    return Figure(value, _whole(low), _whole(high), len(usable))


def _whole(value: float) -> float:
    """Without the rounding that leaves 0.9999999999999999 of a perfect figure, or 1 and a bit."""
    return float(round(value)) if abs(value - round(value)) < 1e-12 else value


def _images_of(found: Judged, c: int) -> dict[str, int]:
    """Of how many images the figures of a class are shares."""
    present, absent = (int((found.target[:, c] == value).sum()) for value in (1, 0))
    return {"sensitivity": present, "specificity": absent, "accuracy": present + absent}


def _images(found: Judged) -> dict[str, int]:
    """The same of the figures over all; a mean of several classes is no share."""
    of_class = _images_of(found, found.columns[0]) if len(found.columns) == 1 else {}
    return {**of_class, "accuracy": len(found)}


def _missing(found: Judged, columns: Sequence[int]) -> str:
    """Why a figure over these classes has no value."""
    if not len(found):
        return "no images"
    present, absent = ((found.target[:, list(columns)] == value).any(axis=0) for value in (1, 0))
    if (present & absent).any():
        return "never answered"
    if len(columns) > 1:
        return "no class has images with and without"
    return f"{'every' if present[0] else 'no'} image has {found.decision.classes[columns[0]]}"


def _notes(found: Judged) -> tuple[str, ...]:
    notes = []
    if found.unknown:
        notes.append(f"{found.unknown} images of unknown truth were left out")
    left_out = [found.decision.classes[c] for c in found.columns if c not in found.judgeable]
    if left_out and len(found):
        notes.append(f"no images with and without {', '.join(left_out)}: the figures over all are without it")
    return tuple(notes)
