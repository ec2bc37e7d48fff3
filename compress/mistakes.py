"""How an image comes to be other than it should: what the input guard is tried on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

_Pixels = npt.NDArray[np.uint8]
_TILES = 4


def scrambled(squares: npt.NDArray) -> npt.NDArray:  # type: ignore[type-arg]
    """Cut into 4 x 4 tiles, and these put together in another order: (..., H, W), each side a multiple of 4."""
    order = np.random.default_rng(0).permutation(_TILES * _TILES)
    *many, height, width = squares.shape
    tiles = squares.reshape(*many, _TILES, height // _TILES, _TILES, width // _TILES)
    tiles = np.moveaxis(tiles, -3, -2).reshape(*many, _TILES * _TILES, height // _TILES, width // _TILES)
    tiles = tiles[..., order, :, :].reshape(*many, _TILES, _TILES, height // _TILES, width // _TILES)
    return np.moveaxis(tiles, -2, -3).reshape(squares.shape)


def _blurred(pixels: _Pixels) -> _Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(max(1.0, max(pixels.shape[:2]) / 75))))


def _noisy(pixels: _Pixels) -> _Pixels:
    noise = np.random.default_rng(0).normal(0, 40, pixels.shape[:2])
    noise = noise if pixels.ndim == 2 else noise[:, :, None]
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _brightened(pixels: _Pixels) -> _Pixels:
    return np.clip(pixels * 1.8 + 60, 0, 255).astype(np.uint8)


def _torn(pixels: _Pixels) -> _Pixels:
    height, width = (side // _TILES * _TILES for side in pixels.shape[:2])
    cut = pixels[:height, :width]
    return scrambled(cut) if pixels.ndim == 2 else np.moveaxis(scrambled(np.moveaxis(cut, 2, 0)), 0, 2)


# Of rendered images, (H, W) or (H, W, 3).
MISTAKES: dict[str, Callable[[_Pixels], _Pixels]] = {
    "upside down": lambda pixels: pixels[::-1, ::-1],
    "flipped": lambda pixels: pixels[::-1],
    "turned left": lambda pixels: np.rot90(pixels),
    "turned right": lambda pixels: np.rot90(pixels, -1),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "negative": lambda pixels: 255 - pixels,
    "torn": _torn,
    "blurred": _blurred,
    "noisy": _noisy,
    "underexposed": lambda pixels: (pixels * 0.15).astype(np.uint8),
    "overexposed": _brightened,
}
