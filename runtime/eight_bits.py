"""Decoded pixels of any kind to 8 bits of grey or RGB, in strips where a copy of the whole would fill the memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import ImageError

SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N", "I"}
_TRANSPARENT = {"LA", "PA", "La", "RGBA", "RGBa"}
_COLOURS = {"P", "CMYK", "YCbCr", "HSV", "RGBX"}
# Full range to full range, rounded; 12 bits, as TIFF files of some cameras have them, from theirs.
_SIXTEEN_TO_EIGHT = ((np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
_TWELVE_TO_EIGHT = ((np.minimum(np.arange(65536, dtype=np.uint32), 4095) * 255 + 2047) // 4095).astype(np.uint8)
_BITS, _PHOTOMETRIC = 258, 262  # TIFF 6.0
_STRIP_PIXELS = 1 << 20

_Table = npt.NDArray[np.uint8]


def grey_table(image: Image.Image) -> _Table:
    """What each of 65,536 grey levels of a file is in 8 bits, before its pixels are loaded.

    Counted down where the file does (TIFF 6.0, PhotometricInterpretation 0, WhiteIsZero): Pillow turns 8-bit images of
    that kind around itself, and leaves others as they are.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.mode not in SIXTEEN_BIT:
        return _SIXTEEN_TO_EIGHT
    table = _TWELVE_TO_EIGHT if tags.get(_BITS) == (12,) else _SIXTEEN_TO_EIGHT
    return 255 - table if tags.get(_PHOTOMETRIC) == 0 else table


def eight_bit(image: Image.Image, name: str, table: _Table = _SIXTEEN_TO_EIGHT) -> Image.Image:
    """An image in mode ``L`` or ``RGB``; transparency is laid over black.

    Args:
        image: loaded.
        name: that begins the message.
        table: of :func:`grey_table`.

    Raises:
        ImageError: grey levels whose scale cannot be known.
    """
    if image.mode in SIXTEEN_BIT:
        return _in_strips(image, "L", lambda strip: _looked_up(strip, name, table))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return _in_strips(image, "L" if image.mode in {"L", "LA", "La"} else "RGB", _over_black)
    if image.mode in {"L", "RGB"}:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in _COLOURS:
        return image.convert("RGB")
    why = f"{name}: has pixels of kind {image.mode!r}, whose grey scale is not known; save it as 8 or 16-bit grey"
    raise ImageError(why, "grey-levels")


def _in_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return change(image)
    made = Image.new(mode, image.size)
    for top in range(0, height, rows):
        made.paste(change(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return made


def _looked_up(image: Image.Image, name: str, table: _Table) -> Image.Image:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(f"{name}: has grey levels outside 0..65535; save it as 8 or 16-bit grey", "grey-levels")
    return Image.fromarray(table[levels.astype(np.uint16, copy=False)])


def _over_black(image: Image.Image) -> Image.Image:
    flat = image.convert("RGBA")
    rgb = Image.alpha_composite(Image.new("RGBA", flat.size, (0, 0, 0, 255)), flat).convert("RGB")
    return rgb.convert("L") if image.mode in {"L", "LA", "La"} else rgb
