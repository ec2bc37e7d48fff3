"""How the INT8 forms were found, step by step, and what of them a CPU without VNNI would cut off."""

from __future__ import annotations

import msgspec

from ..trace import LayerOverflow, Step
from .headline import ran, row_of
from .record import Report
from .tables import Cell, Column, Table, filled
from .words import NONE, count, milliseconds, number, percent

STEPS = (
    "An INT8 form is found by trying, the simplest way first, until one answers closely enough like the uncompressed "
    "model; that step, or where none came so close the nearest, is the form that was then judged. The steps were "
    "compared on validation images, never on the held-out images that the verdict rests on."
)
STEPS_PRUNED = (
    "A form of a pruned network is compared here with that network in 32-bit floating point, to see what INT8 alone "
    "changes; the verdict compares it with the dense one."
)
FIGURES = (
    "Loss, changes and milliseconds are against the network in 32-bit floating point and beside the fastest float "
    "form, timed in turn with each step. A logit is what the network computes for a class before it becomes a "
    "probability; RMS: the root of the mean square over all images and classes."
)
OVERFLOW = (
    "A CPU without VNNI adds the products of 8-bit numbers in pairs, and what is too large for 16 bits is cut off: it "
    "would give other answers than those judged here. A form with the full range of 8-bit weights is therefore refused "
    "on such a CPU when it is loaded; the forms with 7-bit weights are for it, and their pairs always fit."
)
LAYERS_SHOWN = 10


class Trail(msgspec.Struct, frozen=True):
    """The steps of one form.

    Attributes:
        reached: one of them reached the goal.
        said: which became the form, and at what cost, in a sentence.
    """

    form: str
    reached: bool
    said: str
    table: Table


def steps_words(report: Report) -> str:
    """How the steps are to be read."""
    pruned = any(report.network_of(step.form) is not None for step in report.steps)
    return f"{STEPS} {STEPS_PRUNED}" if pruned else STEPS


def trails(report: Report) -> tuple[Trail, ...]:
    """One for each form, in the order they were tried."""
    forms = dict.fromkeys(step.form for step in report.steps)
    return tuple(_trail(report, [step for step in report.steps if step.form == form]) for form in forms)


def fallback(report: Report) -> str:
    """What is kept where no step of any form reached the goal; empty where one did, or nothing was tried."""
    found = trails(report)
    if not found or any(each.reached for each in found):
        return ""
    if any(each.form == report.chosen for each in found):
        return f"Every step fell short of the goal. {report.chosen} was judged all the same: see the verdict."
    row = row_of(report, report.chosen)
    kept = report.chosen if row is None else f"{report.chosen}, which runs as {row.precision}"
    return f"Every step fell short of the goal. Kept is {kept}."


def overflow_words(report: Report) -> str:
    """In how many layers sums would be cut off; empty where it was not counted."""
    if not report.overflows:
        return ""
    cut, images = _cut_off(report), max(each.images for each in report.overflows)
    on = f"on {count(images, 'calibration image')}" if images else "on the calibration images"
    form = report.overflows[0].form
    no, pairs = (f"In {form}: no", f"In {form}: pairs") if form else ("No", "Pairs")
    if not cut:
        return f"{no} pair was too large {on}, which is no proof for other images."
    layers = f"{len(cut)} of {count(len(report.overflows), 'layer')} with 8-bit weights"
    rest = len(cut) - LAYERS_SHOWN
    more = f" The {LAYERS_SHOWN} worst are shown, {rest} more are in report.json." if rest > 0 else ""
    return f"{pairs} were too large in {layers}, {on}; this was computed here, not run on such a CPU.{more}"


def overflow_table(report: Report) -> Table:
    """The layers that would be cut off most, the worst first."""
    titles = ("pairs of products", "too large", "share of them", "error of the layer's sums")
    columns = (Column("layer", words=True), *map(Column, titles))
    rows = tuple(
        (each.layer, f"{each.pairs:,}", f"{each.overflows:,}", _small(each.overflows / each.pairs), _small(each.error))
        for each in _cut_off(report)[:LAYERS_SHOWN]
    )
    return Table("Layers whose sums a CPU without VNNI would cut off, the worst first", columns, rows)


def _trail(report: Report, steps: list[Step]) -> Trail:
    form = steps[0].form
    place = max((place for place, step in enumerate(steps) if step.kept), default=None)
    kept = None if place is None else steps[place]
    reached = kept is not None and kept.outcome == "reached"
    cost = f"{count(len(steps), 'step')}, {sum(step.seconds for step in steps):.0f} s"
    if kept is None:
        said = f"no step reached the goal, and none is kept ({cost})"
    elif reached:
        said = f"goal reached with: {kept.title} ({cost})"
    else:
        said = f"no step reached the goal; nearest came: {kept.title} ({cost})"
    return Trail(form, reached, said, _step_table(report, steps, place))


def _step_table(report: Report, steps: list[Step], place: int | None) -> Table:
    titles = ("AUROC loss", "changed answers", "largest logit change", "logit change, RMS", "ms", "fastest float, ms")
    columns = (
        Column("what was changed", words=True),
        Column("outcome", words=True),
        *map(Column, titles),
        Column("kept"),
        Column("seconds"),
    )
    rows = tuple(
        (
            step.title,
            _outcome(step.outcome),
            number(step.auroc_drop, 4),
            NONE if step.flips is None else f"{step.flips} of {step.images:,}",
            number(step.logit_change, 2),
            number(step.logit_error),
            milliseconds(step.p50_ms),
            milliseconds(step.float_p50_ms),
            "the form" if number_of == place else "for a while" if step.kept else "no",
            f"{step.seconds:.0f}",
        )
        for number_of, step in enumerate(steps)
    )
    marked = () if place is None else (place,)
    return filled(Table(f"Steps of {ran(report, steps[0].form)}, on validation images", columns, rows, marked))


def _outcome(outcome: str) -> Cell:
    word, _, why = outcome.partition(": ")
    if word == "reached":
        return Cell("goal reached", "pass", "✓")
    return Cell("error", "fail", "!", why) if word == "error" else Cell("fell short", "muted", note=why)


def _cut_off(report: Report) -> list[LayerOverflow]:
    found = [each for each in report.overflows if each.overflows]
    return sorted(found, key=lambda each: (each.error, each.overflows / each.pairs), reverse=True)


def _small(share: float) -> str:
    """A share that may be tiny and is not nought."""
    return percent(share, 3) if share >= 0.00001 or not share else f"< {percent(0.00001, 3)}"
