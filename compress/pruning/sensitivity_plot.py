"""The picture of a network's sensitivity: a row a group of channels, from the image to the answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks.report.plot_style import COLOURS, GREY, PALE, STYLE
from ...runtime.errors import InputError, MachineError, missing_package
from ...runtime.records import write_whole
from .group_losses import GroupLosses, Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
# Told apart by shape and by lightness, not by colour alone.
_MARKS = (("o", "white"), ("D", COLOURS[4]), ("s", COLOURS[0]), ("^", COLOURS[1]), ("v", COLOURS[6]))
# Losses up to this are drawn to scale, larger ones ever closer.
_LINEAR = 0.01
_ROW, _AROUND, _WIDTH, _TALL = 0.2, 1.6, 9.0, 40


def require_drawable(path: Path) -> None:
    """Ask before long work whether there can be a picture.

    Raises:
        InputError: a suffix that is none of ours, or a folder of that name.
        MachineError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {path}: cannot be drawn; end its name with {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; give a file's name")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing_package("matplotlib", "report") from error


def write_plot(path: Path, found: Sensitivity, title: str) -> None:
    """Draw, and write the file whole or not at all; the same bytes for the same figures.

    Raises:
        InputError, MachineError: see :func:`require_drawable`; or the file cannot be written.
    """
    require_drawable(path)
    data = _rendered(found, title, path.suffix.lower()[1:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror}); give another --out") from error


def _rendered(found: Sensitivity, title: str, kind: str) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    groups = found.groups
    metadata: Any = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    # A name may hold a $, which is no formula.
    style: Any = {**matplotlib.rcParamsDefault, **STYLE, "text.parse_math": False, "svg.hashsalt": "sensitivity"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(_WIDTH, _AROUND + _ROW * max(len(groups), 4)), dpi=150, layout="constrained")
        losses, saved = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        _draw_losses(losses, groups)
        _draw_saved(saved, groups)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        # On top, with the scale once more where that is out of sight below.
        tall = len(groups) > _TALL
        above = (0.35 if tall else 0.05) / (_ROW * max(len(groups), 4))
        losses.legend(loc="lower left", bbox_to_anchor=(0, 1 + above), ncols=6, fontsize=8.5, borderaxespad=0)
        if tall:
            for ax in (losses, saved):
                ax.tick_params(axis="x", top=True, labeltop=True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _draw_losses(ax: Axes, groups: Sequence[GroupLosses]) -> None:
    shares = [loss.share for loss in groups[0].losses]
    ends, dotted = [0.0], False
    ax.axvline(0, color=GREY, linewidth=1, zorder=1)
    for number, (share, (marker, fill)) in enumerate(zip(shares, _MARKS, strict=False)):
        # Apart by a little, so that marks and intervals of one group do not hide each other.
        apart = 0.5 * (number / max(1, len(shares) - 1) - 0.5) if len(shares) > 1 else 0.0
        at = [(place + apart, group.losses[number].auroc) for place, group in enumerate(groups)]
        known = [(y, area) for y, area in at if area is not None]
        for y, area in known:
            if area.low is not None and area.high is not None:
                # Where no image moved past another, only the number of images speaks, and it would outshout the rest.
                still = area.standard_error is None
                line: Any = {"linestyle": (0, (1, 2)), "linewidth": 0.7} if still else {"linewidth": 0.9, "alpha": 0.7}
                ax.plot([area.low, area.high], [y, y], color=GREY, zorder=2, **line)
                dotted = dotted or still
                ends += [area.low, area.high]
        ax.plot(
            [area.loss for _, area in known],
            [y for y, _ in known],
            linestyle="none",
            marker=marker,
            color="black",
            markerfacecolor=fill,
            markeredgewidth=0.7,
            markersize=4.5,
            label=f"{100 * share:g} % of units gone",
            zorder=3,
        )
        ends += [area.loss for _, area in known]
    if dotted:
        ax.plot([], [], color=GREY, linestyle=(0, (1, 2)), linewidth=0.9, label="no image changed places")
    ax.set_xscale("symlog", linthresh=_LINEAR, linscale=1.0)
    ticks = [-0.5, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 0.5]
    low, high = min(ends), max(ends)
    shown = [tick for tick in ticks if min(low, -_LINEAR) <= tick <= max(high, _LINEAR)]
    ax.set_xticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
    ax.minorticks_off()
    ax.set_xlabel("AUROC lost, with 95 % interval (right is worse; beyond 0.01 on a log scale)")
    ax.set_yticks(range(len(groups)), [group.name for group in groups], fontsize=8)
    ax.set_ylim(len(groups) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _draw_saved(ax: Axes, groups: Sequence[GroupLosses]) -> None:
    most = [100 * group.losses[-1].macs for group in groups]
    ax.barh(range(len(groups)), most, height=0.6, color=PALE, edgecolor=GREY, linewidth=0.6)
    ax.set_xlabel(f"% of MACs saved\nwith {100 * groups[0].losses[-1].share:g} % gone")
    ax.tick_params(axis="y", length=0, labelleft=False)
    ax.set_xlim(left=0)
    ax.grid(axis="y", visible=False)
