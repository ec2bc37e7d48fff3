"""A plot as SVG that stands inside the page: its colours follow the page's, its words are words."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...runtime.errors import missing_package
from .plot_style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sentinels that matplotlib is given -> what the page's style sheet calls them.
TEXT, MUTED, LINE, GROUND = "#010101", "#020202", "#030303", "#040404"
REFERENCE, VARIANT = "#050505", "#060606"
OUTCOME = {"pass": "#070707", "inconclusive": "#080808", "fail": "#090909", "": MUTED}
_COLOURS = {
    TEXT: "text",
    MUTED: "muted",
    LINE: "line",
    GROUND: "ground",
    REFERENCE: "reference",
    VARIANT: "variant",
    OUTCOME["pass"]: "pass",
    OUTCOME["inconclusive"]: "inconclusive",
    OUTCOME["fail"]: "fail",
}
_PAGE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.titlesize": 12,
    "svg.fonttype": "none",
    "text.parse_math": False,
}


def inline_svg(
    key: str,
    title: str,
    description: str,
    draw: Callable[[Sequence[Axes]], None],
    size: tuple[float, float],
    panels: tuple[int, int] = (1, 1),
) -> str:
    """Draw on rows x columns of axes, and render an ``<svg>`` to be put into a page.

    Args:
        key: unique among the page's figures; the ids inside begin with it.
        title, description: for who cannot see it.
        size: inches, at 72 of the page's units an inch.

    Raises:
        MachineError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("matplotlib", "report") from error
    style: Any = {**matplotlib.rcParamsDefault, **STYLE, **_PAGE, "svg.hashsalt": key}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(*panels, squeeze=False).ravel().tolist()
        draw(axes)
        buffer = io.StringIO()
        nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _for_page(buffer.getvalue(), key, title, description)


def _for_page(svg: str, key: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    # Names go in as text, so only matplotlib's own attributes are touched from here on: a "<" in text is "&lt;".
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r"<[^>]+>", lambda tag: _tag(tag[0], used, key), svg)
    opening, _, rest = svg.partition(">")
    opening = re.sub(r'\s(width|height|version)="[^"]*"', "", opening)
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', opening)[0])
    named = f'role="img" aria-labelledby="{key}-title {key}-desc" style="max-width: {width / 16:g}rem"'
    words = (
        f'<title id="{key}-title">{html.escape(title)}</title><desc id="{key}-desc">{html.escape(description)}</desc>'
    )
    return re.sub(r"\n\s*", "\n", f'{opening.rstrip()} class="plot" {named}>{words}{rest}').strip()


def _tag(tag: str, used: set[str], key: str) -> str:
    tag = re.sub(r'\sid="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", tag)
    for colour, name in _COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    if not tag.startswith("<text"):
        tag = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", tag)
    return tag.replace("'DejaVu Sans'", "system-ui, sans-serif").replace("\n", " ")
