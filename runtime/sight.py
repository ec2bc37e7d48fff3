"""What the input guard sees of an image: two small pictures of it, and a few measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

# Sides of the two pictures. Of thumbnails, 8 pixels see fewer brains among chests than 12 or 16 do.
SIDE = 16
_COARSE = 8
_TINTS = 4
TEXTURE = 2 * _COARSE**2 + 16 + 2 * _TINTS**2
# All are taken from the rendered image in grey, but the last five: these from the decoded one, whose colour and shape
# rendering throws away.
MEASURES = (
    "brightness",  # mean grey level
    "contrast",  # their standard deviation
    "black",  # share of pixels at 0 to 2
    "white",  # share of pixels at 253 to 255
    "detail",  # log2 of the mean difference of neighbours
    "sharpness",  # log2 of that over the same at half the size, less 0.48: a smooth image has a half of it
    "colour",  # log2 of 1 + the mean distance of the largest from the smallest of red, green and blue
    "red",  # mean of red less green
    "blue",  # mean of blue less green
    "shape",  # log2 of width / height
    "pixels",  # log2 of the shorter side
)
_COLOUR_SAMPLES = 32
# Grey levels: below it a thumbnail is all but blank, and its contrast is not taken out.
_LEAST_CONTRAST = 4.0
# Grey levels that weigh as much as one doubling of the texture.
_LEVELS = 64.0

_Floats = npt.NDArray[np.float32]
# Mistakes in how an image is handed over, as they change thumbnails of shape (..., SIDE, SIDE). Each undoes itself but
# for the two quarter turns, which undo each other.
POSTURES: dict[str, Callable[[_Floats], _Floats]] = {
    "upside down": lambda seen: seen[..., ::-1, ::-1],
    "flipped": lambda seen: seen[..., ::-1, :],
    "turned left": lambda seen: np.rot90(seen, 1, (-2, -1)),
    "turned right": lambda seen: np.rot90(seen, -1, (-2, -1)),
    "negative": lambda seen: -seen,
    "mirrored": lambda seen: seen[..., ::-1],
}
UNDONE_BY = {name: name for name in POSTURES} | {"turned left": "turned right", "turned right": "turned left"}


class Seen(NamedTuple):
    """What is seen of one image.

    Attributes:
        thumbnail: its grey levels at SIDE x SIDE, mean 0, deviation 1: float32 (SIDE * SIDE,).
        texture: what that leaves out: grey levels at 8 x 8, the roughness there, the histogram, and the colours at
            4 x 4: float32 (TEXTURE,).
        measures: float64, in the order of MEASURES.
    """

    thumbnail: _Floats
    texture: _Floats
    measures: npt.NDArray[np.float64]


def observe(image: Image.Image, pixels: npt.NDArray[np.uint8]) -> Seen:
    """Look at an image.

    Args:
        image: decoded, ``L`` or ``RGB``.
        pixels: what :class:`medcompress.runtime.preprocessing.Preprocessing` rendered of it, (H, W) or (H, W, 3).
    """
    rendered = Image.fromarray(pixels)
    grey = rendered if rendered.mode == "L" else rendered.convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    coarse = small.reshape(_COARSE, 2, _COARSE, 2).mean(axis=(1, 3))
    share = np.asarray(grey.histogram(), dtype=np.float64) / (grey.width * grey.height)
    across, down = _differences(grey)
    larger = np.maximum(across, down[:, :-1]) if grey.width > 1 else down
    rough = np.asarray(Image.fromarray(larger).resize((_COARSE, _COARSE), Image.Resampling.BOX), dtype=np.float32)
    fine, half = _mean((across, down)), _mean(_differences(grey.reduce(2)))
    tints, colour, red, blue = _colour(image)
    levels = np.arange(256)
    brightness = float(share @ levels)
    measures = (
        brightness,
        math.sqrt(max(0.0, float(share @ (levels - brightness) ** 2))),
        float(share[:3].sum()),
        float(share[253:].sum()),
        math.log2(0.1 + fine),
        math.log2(max(0.02, (0.1 + fine) / (0.1 + half) - 0.48)),
        math.log2(1 + colour),
        red,
        blue,
        math.log2(image.width / image.height),
        math.log2(min(image.size)),
    )
    # A share's square root scatters alike wherever it stands (Bartlett 1936); 8 brings that to the rest's.
    tones = 8 * np.sqrt(share.reshape(16, 16).sum(axis=1))
    texture = np.concatenate([coarse.ravel() / _LEVELS, np.log2(1 + rough.ravel()), tones, tints / _LEVELS])
    thumbnail = (small - small.mean()).ravel()
    thumbnail /= max(_LEAST_CONTRAST, float(small.std()))
    return Seen(thumbnail, texture.astype(np.float32), np.array(measures))


def posed(thumbnails: _Floats, posture: str) -> _Floats:
    """Thumbnails (N, SIDE * SIDE) as if their images had been handed over so."""
    squares = thumbnails.reshape(-1, SIDE, SIDE)
    return POSTURES[posture](squares).reshape(thumbnails.shape)


def _differences(grey: Image.Image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The differences of neighbours, across and down, in every second row: there are enough of them."""
    levels = np.asarray(grey)
    even, odd = levels[: max(1, levels.shape[0] // 2 * 2) : 2], levels[1::2]
    odd = odd if len(odd) else even
    # In 8 bits, by the larger less the smaller: many times faster than signed differences.
    across = np.maximum(even[:, 1:], even[:, :-1]) - np.minimum(even[:, 1:], even[:, :-1])
    return across, np.maximum(even, odd) - np.minimum(even, odd)


def _mean(differences: tuple[npt.NDArray[np.uint8], ...]) -> float:
    return sum(int(each.sum(dtype=np.uint32)) for each in differences) / max(1, sum(each.size for each in differences))


def _colour(image: Image.Image) -> tuple[_Floats, float, float, float]:
    """Red less green and blue less green at 4 x 4, and the measures of colour."""
    if image.mode == "L":
        return np.zeros(2 * _TINTS**2, np.float32), 0.0, 0.0, 0.0
    # The nearest pixels, not their means: this has to be quick for 20 megapixels too.
    some = image.resize((_COLOUR_SAMPLES, _COLOUR_SAMPLES), Image.Resampling.NEAREST)
    levels = np.asarray(some).astype(np.int16)
    spread = levels.max(axis=2) - levels.min(axis=2)
    off = levels[..., (0, 2)] - levels[..., 1:2]
    block = _COLOUR_SAMPLES // _TINTS
    tints = off.reshape(_TINTS, block, _TINTS, block, 2).mean(axis=(1, 3)).ravel().astype(np.float32)
    red, blue = off.mean(axis=(0, 1))
    return tints, float(spread.mean()), float(red), float(blue)
