"""A contact sheet: images beside their heat maps, with what is true and what the network answered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ...runtime.preprocessing import Preprocessing
from ...runtime.records import write_whole

# Longer side of one panel, pixels.
PANEL = 224
# Of the overlay, where the heat is 1.
OPACITY = 0.65
# Perceptually uniform, and legible without colour vision: brightness rises with the heat.
COLOUR_MAP = "inferno"
# The overlay's line around what is at least half as warm as the warmest: stands out from image and colours alike.
CONTOUR = (0, 229, 238)
# Okabe and Ito's blue and vermillion, which no colour blindness confuses; the words say the same.
RIGHT, WRONG, UNKNOWN = (0, 114, 178), (213, 94, 0), (110, 110, 110)
_INK, _FAINT, _PAPER, _LINE = (25, 25, 25), (100, 100, 100), (255, 255, 255), (225, 225, 225)
_MARGIN, _GAP, _TEXT = 24, 12, 300


class Row(msgspec.Struct, frozen=True):
    """One image of a sheet.

    Attributes:
        path: of the image.
        truth, answer: class names; an empty truth is not known, an empty answer is no finding.
        probability: of the class the heat map explains, 0..1.
        explained: the class the heat map is of.
        right: None where the truth is not known.
    """

    path: Path
    truth: str
    answer: str
    probability: float
    explained: str
    right: bool | None


def draw_sheet(
    rows: Sequence[Row], heat: npt.NDArray[np.float32], preprocessing: Preprocessing, title: str, note: str
) -> Image.Image:
    """One row an image: as the network saw it, its heat map, both; and in words what came of it.

    Args:
        rows: at least one.
        heat: (N, H, W), 0..1, of the same images.
        preprocessing: renders the images, larger than the network sees them.
        title, note: two lines above.

    Raises:
        ImageError: an image that cannot be read.
    """
    fonts = {size: ImageFont.truetype(_font("DejaVuSans.ttf"), size) for size in (13, 15)}
    bold = {size: ImageFont.truetype(_font("DejaVuSans-Bold.ttf"), size) for size in (13, 15, 20)}
    shown = _enlarged(preprocessing)
    height, width = shown.size
    left = _MARGIN + 3 * (width + _GAP)
    top, step = 112, height + _GAP
    sheet = Image.new("RGB", (left + _TEXT + _MARGIN, top + len(rows) * step + 62), _PAPER)
    draw = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * _MARGIN
    draw.text((_MARGIN, 20), _fit(title, bold[20], room), _INK, bold[20])
    draw.text((_MARGIN, 50), _fit(note, fonts[13], room), _FAINT, fonts[13])
    for column, name in enumerate(("image", "heat map", "overlay")):
        draw.text((_MARGIN + column * (width + _GAP), top - 24), name, _FAINT, bold[13])

    for index, row in enumerate(rows):
        y = top + index * step
        pixels = shown.render(row.path)
        for column, panel in enumerate(_panels(pixels, heat[index])):
            sheet.paste(Image.fromarray(panel), (_MARGIN + column * (width + _GAP), y))
        word, colour = {True: ("RIGHT", RIGHT), False: ("WRONG", WRONG), None: ("NOT LABELLED", UNKNOWN)}[row.right]
        draw.rectangle((left, y, left + 5, y + height - 1), colour)
        lines = [
            (row.path.name, fonts[13], _FAINT),
            (word, bold[15], colour),
            (f"truth: {row.truth or 'not known'}", fonts[15], _INK),
            (f"answer: {row.answer or 'no finding'}", fonts[15], _INK),
            (f"p({row.explained}) {_probability(row.probability)}", fonts[15], _INK),
        ]
        if not heat[index].any():
            lines.append((f"nothing spoke for {row.explained}", fonts[13], _FAINT))
        for line, (text, font, ink) in enumerate(lines):
            draw.text((left + 16, y + 2 + line * 25), _fit(text, font, _TEXT - 16), ink, font)
        if index + 1 < len(rows):
            draw.line((_MARGIN, y + height + _GAP // 2, sheet.width - _MARGIN, y + height + _GAP // 2), _LINE)
    _legend(sheet, draw, fonts[13], top + len(rows) * step + 8, (width, 2 * width + _GAP))
    return sheet


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Write it as PNG, whole or not at all."""
    data = io.BytesIO()
    sheet.save(data, "PNG")
    write_whole(path, data.getvalue())


def _panels(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], ...]:
    """Image, heat map and overlay, each uint8 (H, W, 3) at the size of ``pixels``."""
    grown = Image.fromarray(heat).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    warmth = np.clip(np.asarray(grown), 0, 1)[:, :, None]
    colours = _colours(warmth[:, :, 0])
    image = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    # The cold stays as it is: an even veil would hide the image where nothing is to be shown.
    opacity = OPACITY * warmth
    overlay = (image * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    overlay[_contour(warmth[:, :, 0] >= 0.5)] = CONTOUR
    return image, colours, overlay


def _contour(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels just within the edge of an area; the image's own edge is none."""
    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _colours(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """0..1 (H, W) to uint8 (H, W, 3)."""
    import matplotlib

    return matplotlib.colormaps[COLOUR_MAP](values, bytes=True)[..., :3]


def _legend(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, y: int, columns: tuple[int, int]
) -> None:
    """The colour scale, under the heat maps."""
    x, width = _MARGIN + columns[0] + _GAP, columns[0]
    ramp = np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], 12, axis=0)
    sheet.paste(Image.fromarray(_colours(ramp)), (x, y))
    draw.text((x, y + 16), "nothing", _FAINT, font)
    draw.text((x + width, y + 16), "most of this image", _FAINT, font, anchor="ra")
    x = _MARGIN + columns[1] + 2 * _GAP
    draw.line((x, y + 6, x + 18, y + 6), CONTOUR, 2)
    draw.text((x + 26, y - 3), "half of the strongest or more", _FAINT, font)
    draw.text((x, y + 16), "Warm spoke for the class named beside it. Each map has its own scale.", _FAINT, font)


def _enlarged(preprocessing: Preprocessing) -> Preprocessing:
    """The same view of an image, at the size it is shown."""
    scale = PANEL / max(preprocessing.size)
    height, width = (max(1, round(side * scale)) for side in preprocessing.size)
    shorter = max(height, width, round(preprocessing.shorter_side * scale)) if preprocessing.shorter_side else 0
    return msgspec.structs.replace(preprocessing, size=(height, width), shorter_side=shorter)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shortened in the middle until it fits: of a file name both ends tell it apart."""
    kept = len(text)
    while kept > 2 and font.getlength(text) > width:
        kept -= 1
        text = f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
    return text


def _probability(value: float) -> str:
    """Three places, and never rounded to certainty."""
    return "> 0.999" if value > 0.9995 else "< 0.001" if value < 0.0005 else f"= {value:.3f}"


def _font(name: str) -> str:
    # Matplotlib brings DejaVu: the same letters on every machine, Greek and Cyrillic too.
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)
