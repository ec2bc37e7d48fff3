"""What all plots have in common: size, colours, type, and the way to PNG bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...runtime.errors import missing_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), told apart by colour-blind readers: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#6B6B6B"
PALE = "#D9D9D9"
SIZE = (7.0, 5.25)
COLUMNS = 4
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def png(
    draw: Callable[[Sequence[Axes]], None],
    panels: int,
    caption: str,
    columns: int = COLUMNS,
    height: float | None = None,
) -> bytes:
    """Draw on so many axes, and render: 150 dots an inch, one width for all."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise missing_package("matplotlib", "report") from error
    across = min(panels, columns)
    down = math.ceil(panels / across)
    if height is None:
        height = SIZE[1] if down == 1 else 0.7 + 1.95 * down
    # Not pyplot: it keeps state, and asks for a display. A name may hold a $, which is no formula.
    style: Any = {**matplotlib.rcParamsDefault, **STYLE, "text.parse_math": False}
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(SIZE[0], height), dpi=150, layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.subplots(down, across, squeeze=False).ravel()
        for ax in axes[panels:]:
            ax.set_visible(False)
        draw(axes[:panels].tolist())
        if caption:
            canvas.suptitle(caption, x=0.01, ha="left", fontsize=11, fontweight="bold")
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def square(ax: Axes, small: bool) -> None:
    """Both axes from 0 to 1, alike; ``small`` is one panel of many."""
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    if small:
        ax.xaxis.set_ticks([0, 0.5, 1])
        ax.yaxis.set_ticks([0, 0.5, 1])
        ax.tick_params(labelsize=7)
        ax.title.set_fontsize(8)
        ax.xaxis.label.set_fontsize(8)
        ax.yaxis.label.set_fontsize(8)


def within_unit(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis around values, with room; no further than 0 and 1 where the values stay within."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.05)
    return max(low - room, 0.0 if low >= 0 else -math.inf), min(high + room, 1.0 if high <= 1 else math.inf)


def spread_wide(values: Sequence[float]) -> bool:
    """Whether what is small could not be told apart on an axis that begins at nought."""
    return min(values) > 0 and max(values) > 12 * min(values)


def log_axis(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis around values above nought, with plain numbers at it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values), max(values)
    ax.set_xscale("log")
    ax.set_xlim(low / 1.25, high * 1.25)
    # Close values have no 1, 2 or 5 between them.
    steps = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if high < 4 * low else (1, 2, 5) if high < 1000 * low else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def short_name(name: str, length: int = 20) -> str:
    """A class's name, cut where it would run into the next."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
