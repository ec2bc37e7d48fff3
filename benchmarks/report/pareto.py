"""What is given for what: accuracy over latency, and over size, of every form and of every network a search tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from ..networks import Trial
from ..row import Row
from .headline import marked_name
from .plot_style import log_axis, spread_wide
from .record import Report
from .search_tables import auroc_words, by_latency, chosen_trial, is_dense, marked_trial
from .svg import GROUND, LINE, MUTED, OUTCOME, REFERENCE, TEXT, VARIANT, inline_svg
from .words import OUTCOMES, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cost: TypeAlias = Literal["latency", "size"]
# What a search tried that is good enough, and what is not: shape, and whether it is filled.
_TRIED = {"judged": ("o", True), "slower": ("D", True), "short": ("o", False), "stopped": ("^", False)}
_MARKERS = {
    "reference": ("s", REFERENCE),
    "pass": ("o", OUTCOME["pass"]),
    "inconclusive": ("^", OUTCOME["inconclusive"]),
    "fail": ("X", OUTCOME["fail"]),
    "measured": ("D", MUTED),
}
_BROKEN, _DOTTED = (0, (4, 3)), (0, (2, 2))
# Of more than so many points only those that matter are named: the lines to the names would hide the points.
_NAMED = 12


class _Point(msgspec.Struct, frozen=True):
    """One network a search tried: its cost in ms or in MB, and its AUROC on validation images."""

    trial: Trial
    name: str
    cost: float
    auroc: float
    dense: bool
    chosen: bool

    @property
    def low(self) -> float:
        return self.auroc if self.trial.auroc_low is None else self.trial.auroc_low

    @property
    def high(self) -> float:
        return self.auroc if self.trial.auroc_high is None else self.trial.auroc_high

    @property
    def marker(self) -> tuple[str, bool]:
        return ("s", True) if self.dense else _TRIED.get(self.trial.state, ("^", False))

    @property
    def good(self) -> bool:
        return self.dense or self.chosen or self.marker[1]

    @property
    def colour(self) -> str:
        return VARIANT if self.chosen else REFERENCE if self.dense else TEXT if self.marker[1] else MUTED


def trade_figure(key: str, report: Report) -> str:
    """AUROC over latency of every variant that has both; the line joins those no other is better than in both."""
    found = [(row.p50_ms, row.auroc, row) for row in report.rows if row.p50_ms is not None and row.auroc is not None]
    if len(found) < 2:
        return ""
    best = _front([(ms, auroc) for ms, auroc, row in found if _outcome(row) != "fail"])
    times = [ms for ms, _, _ in found]
    named = found
    if len(found) > _NAMED:
        known = {report.reference, report.chosen}
        named = [each for each in found if each[2].name in known or each[:2] in best or _outcome(each[2]) == "fail"]

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        _draw_front(ax, best)
        for ms, auroc, row in found:
            marker, colour = _MARKERS[_outcome(row)]
            ax.plot(ms, auroc, marker, color=colour, markersize=8, zorder=3, clip_on=False)
        values = [auroc for _, auroc, _ in found]
        room = max(0.15 * (max(values) - min(values)), 0.0005)
        base, margin = report.reference_row.auroc, report.tolerance.auroc_drop
        if base is not None:
            # Without the margin in sight, differences that mean nothing fill the picture.
            ax.axhline(base - margin, color=OUTCOME["fail"], linewidth=1.2, linestyle=_DOTTED, zorder=1)
            values += [base - margin, base + margin / 2]
            room = max(room, 0.15 * margin)
        ax.set_ylim(max(0, min(values) - room), min(1, max(values) + room))
        if spread_wide(times):
            log_axis(ax, times)
        else:
            ax.set_xlim(0, 1.08 * max(times))
        ax.set_xlabel(f"median ms for one image{', log scale' if spread_wide(times) else ''} (left is faster)")
        ax.set_ylabel("AUROC (up is better)")
        ax.ticklabel_format(axis="y", useOffset=False)
        _labels_beside(ax, [(ms, auroc, marked_name(report, row.name)) for ms, auroc, row in named])

    told = "; ".join(f"{row.name}: {ms:.2f} ms, AUROC {auroc:.4f}, {_outcome(row)}" for ms, auroc, row in found)
    size = _size([marked_name(report, row.name) for _, _, row in named])
    return inline_svg(key, "Latency against AUROC of every variant", f"{told}.", draw, size)


def search_figure(key: str, report: Report, cost: Cost) -> str:
    """AUROC on validation images, with its interval, over latency or size of every network a search tried.

    What lies far below those that are good enough stands at the lower edge, with its AUROC beside its name.
    """
    found = _points(report, cost)
    if len(found) < 2:
        return ""
    front = _front([(each.cost, each.auroc) for each in found])
    base = next((each.auroc for each in found if each.dense), None)
    least = None if base is None else base - report.tolerance.auroc_drop
    floor, ceiling = _reach(found, least)
    named = found
    if len(found) > _NAMED:
        named = [each for each in found if each.dense or each.chosen or (each.cost, each.auroc) in front]
    unit = "ms" if cost == "latency" else "MB"

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        _draw_front(ax, front)
        if least is not None:
            ax.axhline(least, color=OUTCOME["fail"], linewidth=1.2, linestyle=_DOTTED, zorder=1)
        for each in found:
            _draw_point(ax, each, floor)
        log_axis(ax, [each.cost for each in found])
        ax.set_ylim(floor, ceiling)
        what = "median ms for one image, log scale (left is faster)"
        ax.set_xlabel(what if cost == "latency" else "MB on disk, log scale (left is smaller)")
        ax.set_ylabel("AUROC, validation (up is better)")
        ax.ticklabel_format(axis="y", useOffset=False)
        labels = [(each.cost, max(each.auroc, floor), _label(each, floor)) for each in named]
        _labels_beside(ax, labels, next((each.name for each in found if each.chosen), ""))

    told = "; ".join(
        f"{each.name}: {number(each.cost)} {unit}, AUROC {auroc_words(each.trial)}, {each.trial.state}"
        for each in found
    )
    size = _size([_label(each, floor) for each in named])
    return inline_svg(key, f"{cost.capitalize()} against AUROC of every network tried", f"{told}.", draw, size)


def _points(report: Report, cost: Cost) -> list[_Point]:
    chosen = chosen_trial(report)
    found = []
    for trial in by_latency(report.trials):
        paid = trial.p50_ms if cost == "latency" else (trial.size_bytes or 0) / 1e6
        if paid and trial.auroc is not None and trial.state != "error":
            name = marked_trial(report, trial, trial is chosen)
            found.append(_Point(trial, name, paid, trial.auroc, is_dense(trial), trial is chosen))
    return found


def _reach(found: Sequence[_Point], least: float | None) -> tuple[float, float]:
    """Ends of the AUROC axis: around what is good enough, so that one far behind does not flatten the rest."""
    good = [each for each in found if each.good] or found
    low, high = min(each.low for each in good), max(each.high for each in found)
    low = low if least is None else min(low, least)
    room = max(0.08 * (high - low), 0.001)
    deepest = low - max(high - low, 0.02)
    floor = max(min([low, *(each.low for each in found)]) - room, deepest, 0)
    return floor, min(high + room, 1 + room / 4)


def _draw_point(ax: Axes, each: _Point, floor: float) -> None:
    marker, filled = each.marker
    if each.auroc < floor:
        marker, filled = "v", False
    else:
        ax.plot(
            [each.cost] * 2, [max(each.low, floor), each.high], color=each.colour, linewidth=1.4, alpha=0.6, zorder=2
        )
    if each.chosen:
        ax.plot(each.cost, each.auroc, "o", color=VARIANT, markerfacecolor="none", markersize=15, markeredgewidth=1.8)
    ax.plot(
        each.cost,
        max(each.auroc, floor),
        marker,
        color=each.colour,
        markerfacecolor=each.colour if filled else GROUND,
        markeredgewidth=1.6,
        markersize=7,
        zorder=3,
        clip_on=False,
    )


def _label(each: _Point, floor: float) -> str:
    return f"{each.name}: {number(each.auroc)}" if each.auroc < floor else each.name


def _size(names: Sequence[str]) -> tuple[float, float]:
    """Inches: room for the names beside the drawing."""
    return 7.0 + 0.085 * max(map(len, names)), max(4.2, 1.2 + 0.28 * len(names))


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other beats in both: costs less and answers better."""
    return sorted(
        (cost, auroc)
        for cost, auroc in points
        if not any((a < cost and b >= auroc) or (a <= cost and b > auroc) for a, b in points)
    )


def _draw_front(ax: Axes, front: Sequence[tuple[float, float]]) -> None:
    x, y = [cost for cost, _ in front], [auroc for _, auroc in front]
    ax.plot(x, y, color=MUTED, linewidth=1.2, linestyle=_BROKEN, zorder=1)


def _labels_beside(ax: Axes, points: Sequence[tuple[float, float, str]], bold: str = "") -> None:
    """Names in a column to the right, joined to their points: close points would write over each other."""
    low, high = ax.get_ylim()
    gap = (high - low) / max(len(points), 8)
    points = sorted(points, key=lambda point: point[1])
    places: list[float] = []
    for _, y, _ in points:
        places.append(max(y, places[-1] + gap) if places else max(y, low + gap / 2))
    ceiling = high
    for at in reversed(range(len(places))):
        places[at] = ceiling = min(places[at], ceiling)
        ceiling -= gap
    right = ax.get_xlim()[1]
    for (x, y, name), place in zip(points, places, strict=True):
        ax.annotate(
            name,
            (x, y),
            (1.04, (place - low) / (high - low)),
            textcoords="axes fraction",
            va="center",
            fontsize=11,
            fontweight="bold" if name == bold else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.9, "shrinkB": 5, "shrinkA": 1},
        )
    ax.set_xlim(right=right)


def _outcome(row: Row) -> str:
    word = row.status.partition(":")[0]
    return word if word in {"reference", *OUTCOMES} else "measured"
