"""What an image may ask of the machine, before it is decoded: a file of 200 kB can ask for minutes, or gigabytes."""

from __future__ import annotations

import mmap
import re
from io import BytesIO
from typing import BinaryIO

from PIL import Image

from .errors import ImageError

# A full-field mammogram has 15 to 30 million pixels; what is far above that is a mistake or an attack.
MAX_PIXELS = 80_000_000
# Pillow keeps colours in four bytes a pixel, and what makes them grey or opaque needs them twice: 400 MB.
MAX_COLOUR_PIXELS = 50_000_000
# The longest a JPEG can have. A resize keeps 16 bytes for each pixel of a side, and takes a second for 10 million.
MAX_SIDE = 65_535
# All scans are decoded, each as long as the whole image takes: a progressive JPEG has 6 to 12 of them, and one of
# 217 kB with 1,000 took four minutes.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 600_000_000
_GREY = {"1", "L", "I;16", "I;16L", "I;16B", "I;16N"}

# In JPEG (ITU-T T.81, B.1.1): a marker, which within a scan no coded byte looks like.
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD9)}  # TEM, RST and SOI: no length follows
_START_OF_SCAN, _END = 0xDA, 0xD9


def refuse_large(width: int, height: int, name: str) -> None:
    """Refuse by what a file's header says.

    Raises:
        ImageError: too many pixels, or a side too long.
    """
    if width * height > MAX_PIXELS:
        what = f"{name}: has too many pixels ({width} x {height}), the limit is {MAX_PIXELS:,}"
        raise ImageError(what, "too-many-pixels", most=MAX_PIXELS)
    if max(width, height) > MAX_SIDE:
        what = f"{name}: has a side of {max(width, height):,} pixels, the limit is {MAX_SIDE:,}"
        raise ImageError(what, "too-long", most=MAX_SIDE)
    if not min(width, height):
        raise ImageError(f"{name}: has no pixels ({width} x {height}); copy it again", "damaged")


def refuse_heavy(image: Image.Image, name: str) -> None:
    """Refuse by what the pixels will take in memory, at the scale they are decoded at.

    Raises:
        ImageError: it is more than 200 MB.
    """
    grey = image.mode in _GREY and "transparency" not in image.info
    if not grey and image.width * image.height > MAX_COLOUR_PIXELS:
        what = f"{name}: has too many pixels ({image.width} x {image.height}), the limit is {MAX_COLOUR_PIXELS:,}"
        raise ImageError(f"{what} in colour; save it smaller, or in grey", "too-many-pixels", most=MAX_COLOUR_PIXELS)


def refuse_scans(file: BinaryIO, width: int, height: int, name: str) -> None:
    """Refuse a JPEG that would be decoded over and over; ``file`` is left where it stands.

    Raises:
        ImageError: too many scans for its size, or one whose coefficients fill the memory.
    """
    if isinstance(file, BytesIO):
        scans, colours = _scans(file.getvalue())
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            scans, colours = _scans(data)
    if scans < 2:
        return
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise ImageError(f"{name}: is a JPEG of {scans} scans, too many for its size; save it anew", "too-many-scans")
    if colours > 1 and width * height > MAX_COLOUR_PIXELS:
        raise ImageError(
            f"{name}: has too many pixels ({width} x {height}), the limit is {MAX_COLOUR_PIXELS:,} for a progressive "
            "JPEG in colour; save it as a baseline one",
            "too-many-pixels",
            most=MAX_COLOUR_PIXELS,
        )


def _scans(data: bytes | mmap.mmap) -> tuple[int, int]:
    """How many scans a decoder finds, and of how many colours; 1 where it stops after the first."""
    scans, colours, streamed, place = 0, 1, False, 0
    while found := _MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        if marker in _BARE:
            continue
        if marker == _END:
            break
        segment = data[place : place + 8]
        if marker in _FRAMES and len(segment) == 8:
            colours = segment[7]
            streamed = marker in (0xC0, 0xC1, 0xC9)
        if marker == _START_OF_SCAN:
            scans += 1
            # Of a sequential JPEG whose first scan has every colour, no other is looked for (libjpeg, jdinput.c).
            if scans == 1 and streamed and segment[2:3] == bytes([colours]):
                break
        place += int.from_bytes(segment[:2], "big")
    return scans, colours
