"""From a file, bytes, an array or a PIL image to 8-bit grey or RGB pixels, or a refusal that says why."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile

from .bounds import MAX_PIXELS, refuse_heavy, refuse_large, refuse_scans
from .dicom.rendering import LENIENT, DicomRendering
from .eight_bits import eight_bit, grey_table
from .errors import ImageError
from .reasons import Reason

ImageSource: TypeAlias = "str | Path | bytes | bytearray | memoryview | np.ndarray | Image.Image"

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
# Bytes that tell a DICOM file from any other.
_HEAD = 140
# What files of each begin with, as Pillow's own plugins have it.
_BEGIN = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "TIFF": (b"II\x2a\0", b"MM\0\x2a", b"MM\x2a\0", b"II\0\x2a", b"MM\0\x2b", b"II\x2b\0"),
}
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
MAX_FILE_BYTES = 512 * 1024 * 1024

# Among what Pillow keeps beside the pixels. A PNG's own texts lie there too, in Latin-1: never under this name.
_CAUTIONS = "medcompress \N{RIGHTWARDS ARROW} cautions"


def read_image(
    source: ImageSource, *, at_least: tuple[int, int] | None = None, dicom: DicomRendering = LENIENT
) -> Image.Image:
    """Decode an image to PIL mode ``L`` or ``RGB``, upright.

    Sixteen-bit grey is scaled from its full range (0..65535) to 0..255, transparency is laid over black,
    palettes are resolved, and EXIF orientation is applied.

    Args:
        source: a path, the file's bytes, a PIL image, or an array: uint8 or uint16 of shape (H, W) or
            (H, W, 1), or uint8 of shape (H, W, 3) (RGB) or (H, W, 4) (RGBA).
        at_least: (width, height) a JPEG may be decoded down to: the smallest of 1, 1/2, 1/4, 1/8 of its size
            that still has this many pixels on both sides. None decodes every pixel.
        dicom: how DICOM files are rendered, and which are refused; by default none that has a picture.

    Raises:
        ImageError: unreadable, truncated, several frames, too large, or of a kind whose grey levels
            cannot be known (floats).
        MachineError: a DICOM file, and the ``[dicom]`` extra is not installed.
    """
    if isinstance(source, np.ndarray):
        return eight_bit(_from_array(source), "array")
    if isinstance(source, Image.Image):
        return _decode(lambda: source, "image", None)
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise ImageError("image bytes: is empty (0 bytes); copy the image again from its source", "empty")
        return _from_file(io.BytesIO(source), "image bytes", at_least, dicom)
    if not isinstance(source, (str, Path)):
        raise ImageError(f"a {type(source).__name__} is no image; give a path, bytes, an array or a PIL image")
    path = Path(source)
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be opened ({reason}); check the path") from error
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, not an image; name the files in it")
    if size == 0:
        raise ImageError(f"{path}: is empty (0 bytes); copy the image again from its source", "empty")
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path}: is {size >> 20} MiB, the limit is {MAX_FILE_BYTES >> 20} MiB")
    try:
        with path.open("rb") as file:
            return _from_file(file, str(path), at_least, dicom)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"{path}: cannot be opened ({reason}); check its permissions, or copy it again") from error


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of decoded pixels: equal for the same picture in two file formats, and for grey stored as RGB."""
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            image = red
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def cautions_of(image: Image.Image) -> tuple[str, ...]:
    """What a reader of the answer should know of a decoded image's file, a sentence each; none for most."""
    return tuple(reason.text for reason in reasons_of(image))


def reasons_of(image: Image.Image) -> tuple[Reason, ...]:
    """The same, with a code each."""
    return image.info.get(_CAUTIONS, ())


def is_from_dicom(image: Image.Image) -> bool:
    """Whether a decoded image came as a DICOM file."""
    return _CAUTIONS in image.info


def _from_file(file: BinaryIO, name: str, at_least: tuple[int, int] | None, dicom: DicomRendering) -> Image.Image:
    head = file.read(_HEAD)
    file.seek(0)
    kind = next((kind for kind, begin in _BEGIN.items() if head.startswith(begin)), None)
    # A DICOM file may begin as any other (PS3.10 7.1): what tells it are four bytes further on.
    if (kind is None or head[128:132] == b"DICM") and _begins_as_dicom(head, name):
        return _from_dicom(file, name, dicom)
    return _decode(lambda: _open(file, kind, name), name, at_least)


def _begins_as_dicom(head: bytes, name: str) -> bool:
    from .dicom.reading import is_bare_dicom, is_dicom  # most machines meet none, and start faster without

    if is_bare_dicom(head):
        raise ImageError(
            f"{name}: is a DICOM data set without the header that says how it is encoded; export it as a DICOM file",
            "bare-dicom",
        )
    return is_dicom(head)


def _open(file: BinaryIO, kind: str | None, name: str) -> Image.Image:
    """Open a file with the one plugin of Pillow's for what it begins with: no other meets its bytes, or is imported.

    ``Image.open`` imports five plugins for a stream, and every one there is for the first TIFF.
    """
    if kind is None:
        raise Image.UnidentifiedImageError
    import_module(f"PIL.{kind.title()}ImagePlugin")
    try:
        image = Image.OPEN[kind][0](file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # those Image.open takes for another format
        raise Image.UnidentifiedImageError from error
    if kind == "JPEG":
        refuse_scans(file, image.width, image.height, name)
    return image


def _upright(image: Image.Image) -> Image.Image:
    """EXIF orientation applied; ``exif_transpose`` copies the pixels also where there is nothing to turn."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _from_dicom(file: BinaryIO, name: str, dicom: DicomRendering) -> Image.Image:
    from .dicom.reading import read_dicom

    image, cautions = read_dicom(file, name, dicom)
    image.info[_CAUTIONS] = cautions
    return image


def _decode(opener: Callable[[], Image.Image], name: str, at_least: tuple[int, int] | None) -> Image.Image:
    try:
        image = opener()
        refuse_large(image.width, image.height, name)
        # Their number is not asked for: a TIFF of 6 MB can have 100,000, and each is parsed to be counted.
        if getattr(image, "is_animated", False):
            raise ImageError(f"{name}: has several frames; save the one to be read", "several-frames")
        table = grey_table(image)
        if at_least is not None and isinstance(image, ImageFile.ImageFile):
            image.draft(None, at_least)  # type: ignore[arg-type]  # None keeps the file's own colour mode
        refuse_heavy(image, name)
        image.load()
        return eight_bit(_upright(image), name, table)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name}: is not a {', '.join(FORMATS)} or DICOM image", "no-image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: has too many pixels; save it smaller", "too-many-pixels", most=MAX_PIXELS) from error
    except MemoryError as error:
        raise ImageError(f"{name}: is too large for this machine's memory", "memory") from error
    except OSError as error:
        what = f"cannot be opened ({error.strerror})" if error.errno else f"is damaged or truncated ({error})"
        raise ImageError(f"{name}: {what}; check its permissions, or copy it again", "damaged") from error
    except Exception as error:  # a damaged file makes Pillow raise whatever its parsers meet first
        raise ImageError(f"{name}: is damaged or truncated ({error}); copy it again", "damaged") from error


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.ndim not in (2, 3):
        raise ImageError(f"array of shape {array.shape}: give (H, W) or (H, W, 3)")
    grey = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    refuse_large(array.shape[1], array.shape[0], f"array of shape {array.shape}")
    if grey.ndim == 2 and grey.dtype in (np.uint8, np.uint16):
        return Image.fromarray(np.ascontiguousarray(grey))
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    raise ImageError(
        f"array of shape {array.shape} and type {array.dtype}: give uint8 or uint16 (H, W), "
        "or uint8 (H, W, 3) in RGB order"
    )
