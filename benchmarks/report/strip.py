"""A loss, what these images leave possible, and the margin, on one line; drawn into a cell of a table."""

from __future__ import annotations

import html
from collections.abc import Iterable

import msgspec

WIDTH, HEIGHT, EDGE = 150, 22, 5


class Scale(msgspec.Struct, frozen=True):
    """Losses from ``low`` to ``high``; what lies outside is drawn as an arrow at the edge."""

    low: float
    high: float
    margin: float

    def place(self, value: float) -> float:
        """Horizontal place, within the edges."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(EDGE + share * (WIDTH - 2 * EDGE), 1)


class Strip(msgspec.Struct, frozen=True):
    """One loss.

    Attributes:
        low, high: the line around it; from the loss to its one-sided bound, or a two-sided interval.
        hollow: shown, and no ground for a decision.
        label: for who cannot see it.
    """

    value: float
    low: float
    high: float
    scale: Scale
    label: str
    hollow: bool = False


def scale_of(margin: float, values: Iterable[float | None] = ()) -> Scale:
    """Wide enough for the values, within four margins of nought: beyond that only the direction matters."""
    known = [value for value in values if value is not None]
    reach = _reach(margin, known)
    high = min(max([1.35 * reach, *(1.08 * value for value in known)]), 4 * reach)
    low = max(min([-0.35 * reach, *(1.08 * value for value in known)]), -4 * reach)
    return Scale(low, high, margin)


def margin_scale(margin: float, values: Iterable[float | None] = ()) -> Scale:
    """In margins, so that nought and the margin stand at one place in all strips of a table."""
    reach = _reach(margin, [value for value in values if value is not None])
    return Scale(-0.9 * reach, 2.1 * reach, margin)


def draw(strip: Strip) -> str:
    """As SVG; its colours are the page's."""
    scale, middle = strip.scale, HEIGHT / 2
    zero, margin, value = (scale.place(x) for x in (0, scale.margin, strip.value))
    low, high = scale.place(strip.low), scale.place(strip.high)
    label = html.escape(strip.label)
    parts = [
        f'<svg class="strip" role="img" aria-label="{label}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<rect class="beyond" x="{margin}" y="0" width="{round(WIDTH - margin, 1)}" height="{HEIGHT}"/>',
        f'<path class="zero" d="M{zero} 0V{HEIGHT}"/><path class="margin" d="M{margin} 0V{HEIGHT}"/>',
        f'<path class="reach" d="M{low} {middle:g}H{high}"/>',
    ]
    if strip.high > scale.high:
        parts.append(_arrow(high, middle, -5))
    elif strip.high >= scale.low and high != value:
        parts.append(f'<path class="reach" d="M{high} {middle - 4:g}V{middle + 4:g}"/>')
    if strip.low < scale.low:
        parts.append(_arrow(low, middle, 5))
    elif strip.low <= scale.high and low != value:
        parts.append(f'<path class="reach" d="M{low} {middle - 4:g}V{middle + 4:g}"/>')
    if scale.low <= strip.value <= scale.high:
        parts.append(f'<circle class="{"hollow" if strip.hollow else "dot"}" cx="{value}" cy="{middle:g}" r="4"/>')
    return "".join(parts) + "</svg>"


def draw_axis(scale: Scale) -> str:
    """The two marks all strips of a column share: nought and the margin."""
    zero, margin = scale.place(0), scale.place(scale.margin)
    close = margin - zero < 30
    return (
        f'<svg class="strip axis" aria-hidden="true" width="{WIDTH}" height="14" viewBox="0 0 {WIDTH} 14">'
        f'<text x="{zero}" y="11" text-anchor="{"end" if close else "middle"}">0</text>'
        f'<text x="{margin}" y="11" text-anchor="{"start" if close else "middle"}">{scale.margin:g}</text></svg>'
    )


def _arrow(place: float, middle: float, back: float) -> str:
    tail = round(place + back, 1)
    return f'<path class="reach" d="M{tail} {middle - 5:g}L{place} {middle:g}L{tail} {middle + 5:g}"/>'


def _reach(margin: float, values: list[float]) -> float:
    """The margin; where none at all is allowed, whatever was found."""
    return margin or max((abs(value) for value in values), default=0) or 1.0
