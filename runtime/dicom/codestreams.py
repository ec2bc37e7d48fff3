"""What a compressed frame says of itself, read before a decoder is let near it.

A decoder takes the memory its codestream asks for: 200 bytes of JPEG 2000 can ask for gigabytes. So size, components
and precision must be those of the DICOM header first. Nothing here trusts a length: every step goes forward.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import msgspec

from ..errors import ImageError

Colours: TypeAlias = Literal["", "ycc", "rgb"]

# Frame headers a transfer syntax may hold (ISO/IEC 10918-1 table B.1): sequential and lossless, never progressive.
_SOF = {0xC0, 0xC1, 0xC3}
_SOF_JPEG_LS = {0xF7}
# Scans of a frame: at most one a component. Decoding time grows with them.
_MAX_SCANS = 16
# A tile costs its decoder 6 KB before the first pixel; layers and small precincts cost memory too.
_MAX_TILES = 1024
_MAX_LAYERS = 256
_SMALLEST_PRECINCT = 4


class Codestream(msgspec.Struct, frozen=True):
    """One frame's header.

    Attributes:
        precision: bits of a sample.
        signed: only JPEG 2000 says so.
        colours: of a JPEG with three components: ``ycc`` or ``rgb`` where it says which, else empty.
        lossless: of a JPEG.
        start: where the codestream begins.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    colours: Colours = ""
    lossless: bool = False
    start: int = 0


def read_jpeg(frame: bytes, *, ls: bool = False) -> Codestream:
    """The header of a JPEG (ISO/IEC 10918-1 annex B) or JPEG-LS (ISO/IEC 14495-1 annex C) codestream.

    Raises:
        ImageError: none, or of a kind its transfer syntax does not allow.
    """
    if frame[:2] != b"\xff\xd8":
        raise ImageError("holds no JPEG where its transfer syntax says so")
    if not ls and frame.count(b"\xff\xda") > _MAX_SCANS:
        raise ImageError(f"holds a JPEG of more than {_MAX_SCANS} scans")
    place = 2
    colours: Colours = ""
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            break
        marker = frame[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        body = frame[place + 4 : place + 2 + length]
        if marker in (_SOF_JPEG_LS if ls else _SOF):
            return _frame_header(body, colours, lossless=marker == 0xC3)
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker in (0xDA, 0xD9):
            break
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            colours = "ycc"
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) > 11:
            colours = "ycc" if body[11] == 1 else "rgb"
        place += 2 + max(2, length)
    raise ImageError("holds a JPEG without a frame header, or of a kind DICOM does not use")


def _frame_header(body: bytes, colours: Colours, lossless: bool) -> Codestream:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ImageError("holds a JPEG that ends within its header")
    precision, rows, columns, samples = struct.unpack(">BHHB", body[:6])
    if body[6 : 6 + 3 * samples : 3].lower() == b"rgb":
        colours = "rgb"
    return Codestream(rows, columns, samples, precision, colours=colours, lossless=lossless)


def read_jpeg2000(frame: bytes) -> Codestream:
    """The SIZ and COD of a JPEG 2000 or HTJ2K codestream (ISO/IEC 15444-1 A.5.1, A.6.1), bare or in a JP2 file.

    Raises:
        ImageError: none, cut off, or asking for more than an image takes.
    """
    start = frame.find(b"\xff\x4f\xff\x51") if frame[4:8] == b"jP  " else 0
    if start < 0 or frame[start : start + 4] != b"\xff\x4f\xff\x51":
        raise ImageError("holds no JPEG 2000 where its transfer syntax says so")
    siz = frame[start + 6 : start + 44]
    if len(siz) < 38:
        raise ImageError("holds a JPEG 2000 that ends within its header")
    _, right, bottom, left, top, width, height, tile_left, tile_top, samples = struct.unpack(">H8IH", siz[:36])
    parts = frame[start + 42 : start + 42 + 3 * samples]
    if right <= left or bottom <= top or not width or not height or len(parts) < 3 * samples or not samples:
        raise ImageError("holds a JPEG 2000 of no size")
    tiles = -(-(right - tile_left) // width) * -(-(bottom - tile_top) // height)
    if not 0 < tiles <= _MAX_TILES or any(step != 1 for place in (1, 2) for step in parts[place::3]):
        raise ImageError(f"holds a JPEG 2000 of subsampled colours, or of {tiles:,} tiles ({_MAX_TILES:,} are read)")
    if len(set(parts[::3])) > 1:
        raise ImageError("holds a JPEG 2000 whose components differ in their bits")
    _check_coding(frame, start + 2)
    return Codestream(bottom - top, right - left, samples, (parts[0] & 0x7F) + 1, bool(parts[0] & 0x80), start=start)


def _check_coding(frame: bytes, place: int) -> None:
    """Refuse coding styles (COD, COC) that make a decoder take memory out of proportion."""
    while place + 4 <= len(frame) and frame[place] == 0xFF and frame[place + 1] != 0x90:
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        body = frame[place + 4 : place + 2 + length]
        if frame[place + 1] == 0x52 and len(body) >= 10:
            layers = int.from_bytes(body[2:4], "big")
            precincts = body[10:] if body[0] & 1 else b""
            small = any(min(size & 15, size >> 4) < _SMALLEST_PRECINCT for size in precincts[1:])
            if not 1 <= layers <= _MAX_LAYERS or small:
                raise ImageError(f"holds a JPEG 2000 of {layers} layers or of tiny precincts, which is not read")
        place += 2 + max(2, length)
