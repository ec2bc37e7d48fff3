"""Lookup tables of a DICOM header: modality, VOI and palette, whole or in segments. Clauses are of PS3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from .rendering import Lut
from .values import as_signed, value_of, words_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Of a palette in segments: an entry each would be more than any needs.
_MAX_SEGMENTS = 65536


def lut_of(source: Dataset, descriptor: str, data: str, *, signed: bool) -> Lut:
    """A lookup table (C.11.1.1.1, C.11.2.1.1, C.7.6.3.1.5).

    Args:
        descriptor, data: keywords of its attributes.
        signed: whether the values it is for may be below 0.

    Raises:
        ImageError: damaged, or of an absurd kind.
    """
    count, first, bits = _described(source, descriptor, signed)
    value = value_of(source, data)
    if isinstance(value, (bytes, bytearray)):
        units = _units(source, value, 16)
        # Entries of 8 bits lie two to a word (C.7.6.3.1.6), or, wrongly, one.
        entries = units if bits > 8 or len(units) >= count else units.view(np.uint8)
    else:
        entries = np.asarray([] if value is None else value).reshape(-1)
    return _lut(first, bits, count, entries)


def palette_of(header: Dataset, *, signed: bool) -> tuple[Lut, Lut, Lut]:
    """The red, green and blue lookup tables (C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.2).

    Raises:
        ImageError: missing or damaged.
    """
    red, green, blue = (_palette(header, colour, signed) for colour in ("Red", "Green", "Blue"))
    return red, green, blue


def _palette(header: Dataset, colour: str, signed: bool) -> Lut:
    descriptor, data = f"{colour}PaletteColorLookupTableDescriptor", f"{colour}PaletteColorLookupTableData"
    if f"Segmented{data}" not in header:
        return lut_of(header, descriptor, data, signed=signed)
    count, first, bits = _described(header, descriptor, signed)
    value = value_of(header, f"Segmented{data}")
    if not isinstance(value, (bytes, bytearray)):
        raise ImageError("has a damaged palette", "damaged")
    return _lut(first, bits, count, expanded(_units(header, value, 8 if bits == 8 else 16), count))


def expanded(units: npt.NDArray[Any], count: int) -> npt.NDArray[np.uint16]:
    """Segmented palette data (C.7.9.2): discrete (0), linear (1) and indirect (2) segments to ``count`` entries.

    Args:
        units: uint8 or uint16, as wide as an entry.

    Raises:
        ImageError: an unknown segment, one that leads outside, or more or fewer entries than that.
    """
    entries = np.zeros(count, np.uint16)
    filled, place = 0, 0
    wide = units.dtype.itemsize == 2
    copying: list[int] = []  # where to go on after an indirect segment, and how many it still copies
    for _ in range(_MAX_SEGMENTS):
        if copying and copying[1] == 0:
            place, copying = copying[0], []
        if filled == count or place + 2 > len(units):
            break
        kind, length = int(units[place]), int(units[place + 1])
        place += 2
        if kind == 2:
            offset = units[place : place + (2 if wide else 4)].tobytes()
            target = int.from_bytes(offset, "little") // units.dtype.itemsize
            if copying or len(offset) < 4 or target >= len(units):
                raise ImageError("has a damaged palette: a segment that leads nowhere", "damaged")
            copying, place = [place + (2 if wide else 4), length], target
            continue
        if kind > 1 or filled + length > count or (kind == 1 and not filled):
            raise ImageError("has a damaged palette: a segment that cannot be", "damaged")
        found = units[place : place + (length if kind == 0 else 1)]
        if len(found) < (length if kind == 0 else 1):
            raise ImageError("has a damaged palette: it ends within a segment", "damaged")
        if kind == 1:
            before = float(entries[filled - 1])
            found = np.rint(before + (float(found[0]) - before) * np.arange(1, length + 1) / max(1, length))
        entries[filled : filled + length] = found
        filled += length
        place += length if kind == 0 else 1
        if copying:
            copying[1] -= 1
    if filled < count:
        raise ImageError(f"has a palette of {filled} entries, and says it has {count}")
    return entries


def _described(source: Dataset, descriptor: str, signed: bool) -> tuple[int, int, int]:
    """How many entries (0 stands for 65536), the value of the first, and the bits of one."""
    found = words_of(source, descriptor)
    if len(found) != 3:
        raise ImageError("has a lookup table without its description")
    if not 8 <= found[2] <= 16:
        raise ImageError(f"has a lookup table of {found[2]} bits; 8 to 16 are allowed")
    return (found[0] & 0xFFFF) or 65536, as_signed(found[1], signed), found[2]


def _units(source: Dataset, value: bytes | bytearray, bits: int) -> npt.NDArray[Any]:
    """OW data as values of 8 or 16 bits; the former lie in words too, so byte order matters (PS3.5 7.3)."""
    big_endian = source.original_encoding[1] is False
    words = np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big_endian else "<u2").astype("<u2")
    return words if bits == 16 else words.view(np.uint8)


def _lut(first: int, bits: int, count: int, entries: npt.NDArray[Any]) -> Lut:
    if len(entries) < count:
        raise ImageError(f"has a lookup table of {len(entries)} entries, and says it has {count}")
    return Lut(first, bits, np.clip(entries[:count], 0, 2**bits - 1).astype(np.uint16))
