"""The page's pictures: the reference and one variant laid over each other, and all variants side by side.

What is given for what, speed or size for accuracy, is drawn in :mod:`medcompress.benchmarks.report.pareto`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..evidence import Curve, Evidence
from ..row import Row
from ..timing.latency import QUANTILES
from .headline import marked_name
from .plot_style import log_axis, short_name, spread_wide, square
from .record import Report
from .svg import LINE, MUTED, REFERENCE, VARIANT, inline_svg
from .words import megabytes, milliseconds, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 5


def roc_figure(key: str, reference: Evidence | None, variant: Evidence) -> str:
    """ROC curves of both, a panel a class, with the operating points; empty where there is no curve."""
    areas = {each.name: each.auroc for each in variant.classes}
    told = []
    for curve in variant.roc:
        area = areas.get(curve.name)
        told.append(f"{curve.name}: " + ("no area" if area is None else _areas(area.reference, area.variant)))
    title = f"ROC curves of the reference and of {variant.variant}"
    described = f"Areas under the curve. {'; '.join(told)}."
    return _overlay(key, title, described, "1 − specificity", "sensitivity", _of(reference, "roc"), variant.roc)


def reliability_figure(key: str, reference: Evidence | None, variant: Evidence) -> str:
    """Share of true ones over predicted probability, of both; the diagonal is right."""
    title = f"Calibration of the reference and of {variant.variant}"
    change = variant.changes.get("ece")
    told = "" if change is None else f" Calibration error: {_areas(change.reference, change.variant)}."
    described = f"Share that have it over the predicted probability, in bins of equally many images.{told}"
    y = (
        "share of right answers"
        if [curve.name for curve in variant.reliability] == ["answer"]
        else "share that have it"
    )
    return _overlay(key, title, described, "predicted", y, _of(reference, "reliability"), variant.reliability)


def latency_figure(key: str, report: Report, shown: str) -> str:
    """Every timed variant's distribution: a box from 25 to 75 %, whiskers from 5 to 95 %, dots at 1 and 99 %.

    Args:
        shown: the variant that the page is about has the colour it has in all figures.
    """
    rows = [row for row in report.rows if len(row.quantiles_ms) == len(QUANTILES)]
    if not rows:
        return ""
    ends = [end for row in rows for end in (row.quantiles_ms[0], row.quantiles_ms[-1])]

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        for place, row in enumerate(rows):
            at = dict(zip(QUANTILES, row.quantiles_ms, strict=True))
            colour = _colour(row, report, shown)
            ax.plot([at[5], at[95]], [place, place], color=colour, linewidth=1.4)
            ax.plot([at[25], at[75]], [place, place], color=colour, linewidth=9, solid_capstyle="butt", alpha=0.55)
            ax.plot([at[50]] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2.4)
            ax.plot([at[1], at[99]], [place, place], ".", color=colour, markersize=4)
        _names(ax, [marked_name(report, row.name) for row in rows])
        if spread_wide([row.quantiles_ms[len(QUANTILES) // 2] for row in rows]):
            log_axis(ax, ends)
            ax.set_xlabel("ms for one image, log scale")
        else:
            ax.set_xlim(0, 1.04 * max(ends))
            ax.set_xlabel("ms for one image")

    told = "; ".join(
        f"{row.name}: median {milliseconds(row.p50_ms)} ms, 99 % within {milliseconds(row.p99_ms)} ms" for row in rows
    )
    return inline_svg(key, "Latency of every variant", f"{told}.", draw, _size(report, rows))


def size_figure(key: str, report: Report, shown: str) -> str:
    """Size on disk of every variant that has a file."""
    rows = [row for row in report.rows if row.size_bytes and not row.status.startswith(("not run", "error"))]
    if not rows:
        return ""

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        for place, row in enumerate(rows):
            colour = _colour(row, report, shown)
            ax.barh(place, row.size_bytes / 1e6, height=0.55, color=colour)
            ax.annotate(
                megabytes(row.size_bytes),
                (row.size_bytes / 1e6, place),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        _names(ax, [marked_name(report, row.name) for row in rows])
        ax.set_xlim(0, 1.16 * max(row.size_bytes for row in rows) / 1e6)
        ax.set_xlabel("MB on disk")

    told = "; ".join(f"{row.name}: {megabytes(row.size_bytes)} MB" for row in rows)
    return inline_svg(key, "Size of every variant", f"{told}.", draw, _size(report, rows))


def _overlay(
    key: str, title: str, described: str, x: str, y: str, reference: Sequence[Curve], variant: Sequence[Curve]
) -> str:
    if not variant:
        return ""
    across = min(len(variant), _COLUMNS)
    down = math.ceil(len(variant) / across)
    small = len(variant) > 1
    before = {curve.name: curve for curve in reference}

    def draw(axes: Sequence[Axes]) -> None:
        for ax in axes[len(variant) :]:
            ax.set_visible(False)
        for place, (ax, curve) in enumerate(zip(axes, variant, strict=False)):
            ax.plot([0, 1], [0, 1], color=LINE, linewidth=1.2, zorder=1)
            if curve.name in before:
                _draw(ax, before[curve.name], REFERENCE, "-", 2.6)
            _draw(ax, curve, VARIANT, (0, (4, 2)), 1.6)
            square(ax, small)
            if small:
                ax.set_title(short_name(curve.name, 20), fontsize=10.5)
                ax.tick_params(labelsize=9)
            last = place + across >= len(variant)
            ax.set_xlabel(x if last else "", fontsize=10 if small else 12)
            ax.set_ylabel(y if place % across == 0 else "", fontsize=10 if small else 12)
            if not small:
                ax.plot([], [], color=REFERENCE, linewidth=2.6, label="reference")
                ax.plot([], [], color=VARIANT, linewidth=1.6, linestyle=(0, (4, 2)), label="variant")
                ax.legend(loc="lower right", fontsize=11)

    size = (2.55 * across, 0.6 + 2.5 * down) if small else (6.0, 5.6)
    return inline_svg(key, title, described, draw, size, (down, across))


def _draw(ax: Axes, curve: Curve, colour: str, style: str | tuple[int, tuple[int, int]], width: float) -> None:
    ax.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=width, clip_on=False, zorder=2)
    if curve.weight:
        marker = "s" if colour == REFERENCE else "o"
        ax.plot(curve.x, curve.y, marker, color=colour, markersize=4, clip_on=False, zorder=3)
    if curve.at is not None:
        marker = "s" if colour == REFERENCE else "o"
        size, fill = (9, "none") if colour == REFERENCE else (5, colour)
        ax.plot(
            *curve.at, marker, color=colour, markerfacecolor=fill, markersize=size, markeredgewidth=1.6, clip_on=False,
            zorder=4,
        )  # fmt: skip


def _names(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _size(report: Report, rows: Sequence[Row]) -> tuple[float, float]:
    """Inches: a long name takes its room beside the drawing, not from it."""
    longest = max(len(marked_name(report, row.name)) for row in rows)
    return 6.8 + 0.085 * max(0, longest - 30), 0.8 + 0.38 * len(rows)


def _colour(row: Row, report: Report, shown: str) -> str:
    return VARIANT if row.name == shown else REFERENCE if row.name == report.reference else MUTED


def _of(evidence: Evidence | None, name: str) -> Sequence[Curve]:
    return () if evidence is None else getattr(evidence, name)


def _areas(reference: float | None, variant: float | None) -> str:
    return f"{number(reference)} of the reference, {number(variant)} of the variant"
