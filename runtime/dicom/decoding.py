"""From the pixel data of a file to one frame's stored values; compressed ones through imagecodecs.

One decoder a transfer syntax, always the same, so that a lossy file gives equal pixels on every machine: libjpeg-turbo
(8 and 12 bits, and lossless), CharLS, OpenJPEG (HTJ2K too). None of them is under the GPL.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, missing_package
from .attributes import Pixels
from .codestreams import Codestream, read_jpeg, read_jpeg2000

if TYPE_CHECKING:
    from pydicom.uid import UID

_JPEG = "1.2.840.10008.1.2.4."
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _DEFLATED)
# By the last number of the UID (PS3.5 10 and annex A.4).
_KINDS = {
    **dict.fromkeys(("50", "51", "57", "70"), "jpeg"),
    **dict.fromkeys(("80", "81"), "jpeg-ls"),
    **dict.fromkeys(("90", "91", "201", "202", "203"), "jpeg2000"),
}
# Part of that compression, and colours of nothing else (PS3.5 8.2.4).
_OF_JPEG_2000 = ("YBR_RCT", "YBR_ICT")
_UNDEFINED = 0xFFFFFFFF


def is_read(syntax: str) -> bool:
    """Whether pixel data of this transfer syntax can be read."""
    return syntax in NATIVE or syntax == _RLE or (syntax.startswith(_JPEG) and syntax[len(_JPEG) :] in _KINDS)


def is_lossy(syntax: str) -> bool:
    """Whether what is compressed so has always lost something (PS3.5 A.4.1): JPEG's baseline and extended processes."""
    return syntax in (f"{_JPEG}50", f"{_JPEG}51")


def stored_values(file: BinaryIO, syntax: UID, pixels: Pixels, frame: int) -> tuple[npt.NDArray[Any], str]:
    """One frame as stored values, (H, W) or (H, W, 3), and the photometric interpretation they have now.

    Args:
        file: standing at the pixel data element.
        frame: from 0.

    Raises:
        ImageError: cut off, damaged, or not what the header says.
        MachineError: the decoder is not installed.
    """
    vr, length = _element(file, syntax)
    kind = _KINDS.get(syntax.removeprefix(_JPEG), "")
    if pixels.photometric in _OF_JPEG_2000 and kind != "jpeg2000":
        raise ImageError(f"says its colours are {pixels.photometric}, which only JPEG 2000 has; export it again")
    if syntax in NATIVE:
        return _native(file, syntax, pixels, frame, vr, length), _without_subsampling(pixels.photometric)
    if length != _UNDEFINED:
        raise ImageError("says its pixels are compressed, and they are not encapsulated; export it again")
    encoded = _encoded(file, pixels, frame)
    if syntax == _RLE:
        return _rle(encoded, pixels), pixels.photometric
    return _decoded(encoded, kind, pixels)


def _element(file: BinaryIO, syntax: UID) -> tuple[str, int]:
    """VR and length of the pixel data element (PS3.5 7.1.2, 7.1.3)."""
    order = "<" if syntax.is_little_endian else ">"
    try:
        if syntax.is_implicit_VR:
            group, element, length = struct.unpack(f"{order}HHI", file.read(8))
            vr = b"OW"
        else:
            group, element, vr, _, length = struct.unpack(f"{order}HH2sHI", file.read(12))
    except struct.error as error:
        raise ImageError("has no pixel data: it is cut off; copy it again", "damaged") from error
    if (group, element) != (0x7FE0, 0x0010):
        raise ImageError("holds numbers that are not pixels (floating point); it is a parametric map, not an image")
    if vr not in (b"OB", b"OW", b"UN"):
        raise ImageError("has pixel data of a kind that cannot be")
    return vr.decode(), length


def _native(file: BinaryIO, syntax: UID, pixels: Pixels, frame: int, vr: str, length: int) -> npt.NDArray[Any]:
    """Pixels as they are (PS3.5 8.1, 8.2): unused bits masked, colours side by side, subsampling undone."""
    subsampled = pixels.photometric == "YBR_FULL_422"
    if subsampled and (pixels.columns % 2 or pixels.allocated != 8):
        raise ImageError("says YBR_FULL_422 of an odd width, or of more than 8 bits, which cannot be")
    count = pixels.rows * pixels.columns * (2 if subsampled else pixels.samples) * pixels.allocated // 8
    needed = count * pixels.frames
    # With more of them the header lies of the size, and the picture would be shorn; an odd number is made even.
    if length not in (needed, needed + needed % 2):
        has = "an unknown number of" if length == _UNDEFINED else f"{length:,}"
        raise ImageError(f"has {has} bytes of pixels where its size needs {needed:,}; export it again")
    file.seek(count * frame, 1)
    data = file.read(count)
    if len(data) < count:
        raise ImageError("is cut off within its pixels; copy it again", "damaged")
    order = "<" if syntax.is_little_endian else ">"
    if pixels.allocated == 16:
        values = np.frombuffer(data, f"{order}u2").astype(np.uint16, copy=False)
    elif order == ">" and vr == "OW":  # two to a word (PS3.5 8.1.2)
        values = np.frombuffer(data + b"\0" * (count % 2), ">u2").astype("<u2").view(np.uint8)[:count]
    else:
        values = np.frombuffer(data, np.uint8)
    return _sign(_side_by_side(values, pixels), pixels.signed, pixels.stored)


def _side_by_side(values: npt.NDArray[Any], pixels: Pixels) -> npt.NDArray[Any]:
    """(H, W), or (H, W, 3) however the colours lie (C.7.6.3.1.2 YBR_FULL_422, C.7.6.3.1.3)."""
    if pixels.samples == 1:
        return values.reshape(pixels.rows, pixels.columns)
    if pixels.photometric == "YBR_FULL_422":  # Y Y Cb Cr, for two pixels
        pairs = values.reshape(pixels.rows, pixels.columns // 2, 4)
        whole = pairs[:, :, [0, 2, 3, 1, 2, 3]]
        return whole.reshape(pixels.rows, pixels.columns, 3)
    if pixels.planar:
        return values.reshape(3, pixels.rows, pixels.columns).transpose(1, 2, 0)
    return values.reshape(pixels.rows, pixels.columns, 3)


def _encoded(file: BinaryIO, pixels: Pixels, frame: int) -> bytes:
    """The bytes of one compressed frame (PS3.5 A.4)."""
    from pydicom.encaps import get_frame

    start = file.tell()
    head = file.read(8)
    # pydicom takes the whole table of offsets apart: it is to be no longer than the frames need.
    if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0" or int.from_bytes(head[4:], "little") > 4 * pixels.frames:
        raise ImageError("has damaged pixel data; copy it again", "damaged")
    file.seek(start)
    try:
        return get_frame(file, frame, number_of_frames=pixels.frames)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("is cut off or damaged within its pixels; copy it again", "damaged") from error


def _decoded(encoded: bytes, kind: str, pixels: Pixels) -> tuple[npt.NDArray[Any], str]:
    # A decoder fills what is missing with grey: what has no end marker (EOI, EOC) was cut off.
    if b"\xff\xd9" not in encoded[-16:]:
        raise ImageError("is cut off within its pixels; copy it again", "damaged")
    found = read_jpeg2000(encoded) if kind == "jpeg2000" else read_jpeg(encoded, ls=kind == "jpeg-ls")
    if (found.rows, found.columns, found.samples) != (pixels.rows, pixels.columns, pixels.samples):
        raise ImageError(
            f"says {pixels.columns} x {pixels.rows} of {pixels.samples} samples, and its pixels are "
            f"{found.columns} x {found.rows} of {found.samples}; export it again"
        )
    if not 2 <= found.precision <= pixels.allocated:
        raise ImageError(f"says {pixels.allocated} bits a sample, and its pixels have {found.precision}")
    codecs = _codecs()
    photometric = pixels.photometric
    try:
        if kind == "jpeg-ls":
            values = codecs.jpegls_decode(encoded)
        elif kind == "jpeg2000":
            values = codecs.jpeg2k_decode(memoryview(encoded)[found.start :], numthreads=1)
        elif pixels.samples == 1:
            values = codecs.jpeg8_decode(encoded)
        else:
            values, photometric = _colour_jpeg(codecs, encoded, found, photometric)
    except Exception as error:  # whatever the decoder says may be of any length
        raise ImageError("has damaged or cut off pixels; copy it again", "damaged") from error
    if values.ndim == 3 and values.shape[0] == 3 != values.shape[2]:  # JPEG-LS, colour after colour
        values = values.transpose(1, 2, 0)
    expected = (pixels.rows, pixels.columns, *((3,) if pixels.samples == 3 else ()))
    if values.shape != expected or values.dtype.kind not in "ui" or values.dtype.itemsize > 2:
        raise ImageError("has pixels that do not fit what its header says of them; export it again")
    if photometric in _OF_JPEG_2000:  # undone by the decoder
        photometric = "RGB"
    return _sign(values, pixels.signed, _meant_bits(values, pixels, found.precision)), photometric


def _meant_bits(values: npt.NDArray[Any], pixels: Pixels, precision: int) -> int:
    """Bits of a signed value: of a whole cell, or, where an encoder left those above the stored ones 0, of these."""
    raw = pixels.signed and precision > pixels.stored and int(values.max()) >> (pixels.stored - 1) == 1
    return pixels.stored if raw and int(values.min()) >= 0 else precision


def _colour_jpeg(codecs: Any, encoded: bytes, found: Codestream, photometric: str) -> tuple[npt.NDArray[Any], str]:
    """A JPEG of three components, whose colours are what it says itself, else what the header says (PS3.5 8.2.1)."""
    ycc = found.colours == "ycc" or (not found.colours and photometric.startswith("YBR"))
    if found.lossless:  # the decoder changes no colours there
        return codecs.jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB"), "YBR_FULL" if ycc else "RGB"
    return codecs.jpeg8_decode(encoded, colorspace="YCBCR" if ycc else "RGB", outcolorspace="RGB"), "RGB"


def _rle(encoded: bytes, pixels: Pixels) -> npt.NDArray[Any]:
    """RLE Lossless (PS3.5 annex G): one segment for each byte of each sample, the highest first."""
    planes = pixels.samples * pixels.allocated // 8
    size = pixels.rows * pixels.columns
    if len(encoded) < 64 or int.from_bytes(encoded[:4], "little") != planes:
        raise ImageError("has damaged RLE pixels; copy it again", "damaged")
    codecs = _codecs()
    order = np.dtype(f"{'i' if pixels.signed else 'u'}{pixels.allocated // 8}")
    try:
        data = codecs.dicomrle_decode(encoded, order, out=planes * size)
    except Exception as error:
        raise ImageError("has damaged RLE pixels; copy it again", "damaged") from error
    values = np.frombuffer(data, order)
    if values.size != size * pixels.samples:
        raise ImageError("has damaged RLE pixels; copy it again", "damaged")
    values = values.reshape(pixels.samples, pixels.rows, pixels.columns)
    return _sign(values[0] if pixels.samples == 1 else values.transpose(1, 2, 0), pixels.signed, pixels.stored)


def _sign(values: npt.NDArray[Any], signed: bool, bits: int) -> npt.NDArray[Any]:
    """Values of so many bits as signed or unsigned, as the header says: codestreams are often wrong about it."""
    unused = 8 * values.dtype.itemsize - bits
    wanted = values.view(f"{'i' if signed else 'u'}{values.dtype.itemsize}")
    if not unused:
        return wanted
    shifted = np.left_shift(wanted, unused)
    return np.right_shift(shifted, unused, out=shifted)


def _without_subsampling(photometric: str) -> str:
    return "YBR_FULL" if photometric == "YBR_FULL_422" else photometric


def _codecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise missing_package("imagecodecs", "dicom") from error
    return imagecodecs


def inflate(data: bytes, most: int) -> BytesIO:
    """A deflated data set (PS3.5 A.5), unpacked.

    Raises:
        ImageError: damaged, or of more than ``most`` bytes.
    """
    import zlib

    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacking.decompress(data, most)
    except zlib.error as error:
        raise ImageError("is deflated, and damaged; copy it again", "damaged") from error
    if unpacking.unconsumed_tail:
        raise ImageError(f"unpacks to more than {most >> 20} MiB, which no image takes")
    return BytesIO(unpacked)
