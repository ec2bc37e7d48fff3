"""A DICOM file to 8-bit pixels, or a refusal that says why, in one line that names no patient.

pydicom is imported only here and below, once a file turned out to be DICOM. It is kept within bounds: the header is
read in a counted number of steps and without the patient's part, pixels of one frame only, and a decoder meets a
codestream only after its size was found to be the header's.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec
from PIL import Image

from ..errors import ImageError, MachineError, missing_package
from ..reasons import Reason
from .attributes import KEYWORDS, Pixels, grey_of, origin_of, pixel_ratio, pixels_of
from .decoding import inflate, is_lossy, is_read, stored_values
from .policy import judge
from .rendering import DicomRendering, is_windowed, render_colour, render_grey, render_palette, square_pixels
from .tables import palette_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

# Bytes that are_dicom looks at.
HEAD = 140
# What one deflated file may unpack to.
MAX_INFLATED_BYTES = 128 * 1024 * 1024
# A file's reads: three an element. A CT slice takes about a thousand, an enhanced object of 400 frames 90,000.
_MAX_READS = 100_000
_MAX_READ_BYTES = 256 * 1024 * 1024

# Pixel Data, and its floating point kinds.
_PIXEL_DATA = {0x7FE00010, 0x7FE00009, 0x7FE00008}
_GROUP_VRS = {b"UL", b"OB", b"UI", b"SH", b"AE"}
_DATA_VRS = {b"CS", b"UI", b"SH", b"DA", b"UL"}
_UNSAID = ("ignore", None, Warning, re.compile(r"(pydicom|highdicom)\b"), 0)
_reading: ContextVar[bool] = ContextVar("reading a DICOM file", default=False)


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does: 128 bytes and ``DICM`` (PS3.10 7.1), or the group that follows them."""
    return head[128:132] == b"DICM" or (head[:2] == b"\x02\0" and head[3:4] == b"\0" and head[4:6] in _GROUP_VRS)


def is_bare_dicom(head: bytes) -> bool:
    """Whether it is a data set as sent on a network, without the header that says how it is encoded."""
    return head[:2] == b"\x08\0" and head[3:4] == b"\0" and (head[4:6] in _DATA_VRS or head[6:8] == b"\0\0")


def read_dicom(file: BinaryIO, name: str, rendering: DicomRendering) -> tuple[Image.Image, tuple[Reason, ...]]:
    """The image of a DICOM file in PIL mode ``L`` or ``RGB``, and the cautions it is to be answered with.

    Overlays, annotations and shutters are left out: they are drawn over an image, and are no part of it.

    Args:
        file: the whole of it, at its beginning.
        name: that begins the messages.

    Raises:
        ImageError: damaged, not an image, of a kind that is not read, or refused by the policy.
        MachineError: pydicom or a decoder is not installed.
    """
    try:
        with quietly():
            return _read(cast("BinaryIO", _Counted(file)), rendering)
    except ImageError as error:
        raise type(error)(f"{name}: {error}", error.code, **error.values) from error
    except MemoryError as error:
        raise ImageError(f"{name}: is too large for this machine's memory", "memory") from error
    except MachineError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its parsers meet first
        raise ImageError(f"{name}: is a damaged DICOM file; copy it again from its source", "damaged") from error


def _read(file: BinaryIO, rendering: DicomRendering) -> tuple[Image.Image, tuple[Reason, ...]]:
    header, file, syntax = _header(file)
    pixels = pixels_of(header)
    frame = chosen_frame(pixels.frames, rendering)
    origin = origin_of(header, frame)
    if is_lossy(syntax):  # also where it is not marked so
        origin = msgspec.structs.replace(origin, lossy=True)
    if pixels.samples == 1 and pixels.photometric != "PALETTE COLOR":
        grey = grey_of(header, pixels, frame, rendering)
        cautions = judge(rendering.policy, origin, is_windowed(grey, rendering))
        stored, _ = stored_values(file, syntax, pixels, frame)
        image = render_grey(stored, grey, rendering)
    else:
        cautions = judge(rendering.policy, origin, windowed=True)
        image = _colours(file, syntax, header, pixels, frame)
    return square_pixels(image, pixel_ratio(header, frame)), cautions


def _colours(file: BinaryIO, syntax: UID, header: Dataset, pixels: Pixels, frame: int) -> Image.Image:
    if pixels.samples == 1:
        palette = palette_of(header, signed=pixels.signed)
        return render_palette(stored_values(file, syntax, pixels, frame)[0], palette)
    stored, photometric = stored_values(file, syntax, pixels, frame)
    return render_colour(stored, pixels.stored, photometric)


def chosen_frame(frames: int, rendering: DicomRendering) -> int:
    """The frame to be read, from 0.

    Raises:
        ImageError: there are several and none was chosen, or fewer than the chosen one.
    """
    if rendering.frame == "middle":
        return frames // 2
    if rendering.frame == "only":
        if frames > 1:
            why = f"has {frames} frames, and the model takes single images; choose one and send it alone"
            raise ImageError(why, "several-frames", frames=frames)
        return 0
    if rendering.frame > frames:
        raise ImageError(f"has {frames} frame(s), and the model looks at number {rendering.frame}")
    return rendering.frame - 1


def whole_header(file: BinaryIO) -> Dataset:
    """All that stands before the pixels, the patient's part too, within the bounds of :func:`read_dicom`.

    Raises:
        ImageError: damaged, or in a transfer syntax that is not read; the message names no patient.
        MachineError: pydicom is not installed.
    """
    try:
        with quietly():
            return _header(cast("BinaryIO", _Counted(file)), keywords=None)[0]
    except (ImageError, MachineError):
        raise
    except Exception as error:  # likewise
        raise ImageError("is a damaged DICOM file; copy it again from its source", "damaged") from error


def _header(file: BinaryIO, keywords: tuple[str, ...] | None = KEYWORDS) -> tuple[Dataset, BinaryIO, UID]:
    """The header, the file standing at its pixel data, and the transfer syntax; None reads the patient's part too."""
    try:
        from pydicom.datadict import tag_for_keyword
        from pydicom.filereader import read_dataset
        from pydicom.uid import UID
    except ImportError as error:
        raise missing_package("pydicom", "dicom") from error
    syntax = UID(_syntax(file))
    if not is_read(syntax):
        known = syntax.name if syntax.type else "unknown"  # a UID of its own maker is not repeated
        why = f"is in a transfer syntax that is not read ({known}); export it uncompressed"
        raise ImageError(why, "transfer-syntax", syntax=known)
    if syntax.is_deflated:
        file = cast("BinaryIO", _Counted(inflate(file.read(), MAX_INFLATED_BYTES)))
    header = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag in _PIXEL_DATA,
        specific_tags=keywords and [tag for name in keywords if (tag := tag_for_keyword(name)) is not None],  # type: ignore[arg-type]
    )
    return header, file, syntax


def _syntax(file: BinaryIO) -> str:
    """Transfer Syntax UID of the File Meta Information (PS3.10 7.1); leaves the file behind it."""
    file.seek(132 if file.read(132)[128:] == b"DICM" else 0)
    syntax = ""
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\0":
            break
        length = int.from_bytes(head[6:], "little")
        if head[4:6] in (b"OB", b"UN"):
            length = int.from_bytes(file.read(4), "little")
        value = file.read(length)
        if head[2:4] == b"\x10\0":
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")
    file.seek(start)
    if not syntax:
        raise ImageError("does not say its transfer syntax; export it as a DICOM file again")
    return syntax


class _Counted:
    """A file that ends a header of a million parts, or a part of a gigabyte, in time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reads = 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise ImageError(f"has a header of more than {_MAX_READS:,} parts; export its frames one by one")
        return self._file.read(_MAX_READ_BYTES if count < 0 else min(count, _MAX_READ_BYTES))


@contextmanager
def quietly() -> Iterator[None]:
    """Within, what pydicom and highdicom say reaches no log and no terminal: it quotes values of the header.

    Their warnings are silenced for the process, and stay so: the filters of ``warnings`` are shared by its threads.
    """
    if _UNSAID not in warnings.filters:  # others reset them
        warnings.filterwarnings(_UNSAID[0], module=_UNSAID[3].pattern)
    _bar_logs()
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


@cache
def _bar_logs() -> None:
    for name in ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "highdicom.base"):
        logging.getLogger(name).addFilter(lambda record: not _reading.get())
