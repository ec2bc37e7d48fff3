"""Every image looked at once: whether it can be read, what picture it is, and what its file gives away."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from ...runtime.errors import DataError, ImageError
from ...runtime.images import is_from_dicom, pixel_hash, read_image
from ..progress import stage, track
from .samples import Sample

# Side of a thumbnail: 200,000 of them are 200 MB.
THUMBNAIL = 32


class Facts(msgspec.Struct, frozen=True):
    """What is known of a file without looking at the picture.

    Attributes:
        format: ``PNG``, ``JPEG``, ...
        width, height: pixels, as stored.
        mode: Pillow's name of the pixels' kind: ``L``, ``RGB``, ``I;16``, ...
        quantization: sum of a JPEG's 64 luminance steps, small for a high quality; 0 for what is no JPEG.
        exif: whether it carries EXIF fields.
    """

    format: str
    width: int
    height: int
    mode: str
    quantization: int
    exif: bool


class Unreadable(msgspec.Struct, frozen=True):
    """A file that is no image for us, and why, in one line that names it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What :func:`scan` saw of N readable images; all in the same order.

    Attributes:
        samples: those that can be read.
        hashes: SHA-256 of their decoded pixels.
        thumbnails: grey, uint8 (N, 32, 32), aspect not kept.
        facts: of their files.
        unreadable: the others.
    """

    samples: tuple[Sample, ...]
    hashes: tuple[str, ...]
    thumbnails: npt.NDArray[np.uint8]
    facts: tuple[Facts, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def part(self, samples: Iterable[Sample]) -> Scan:
        """Of some of them only; what could not be read is left out."""
        wanted = {sample.path for sample in samples}
        kept = [index for index, sample in enumerate(self.samples) if sample.path in wanted]
        return Scan(
            tuple(self.samples[i] for i in kept),
            tuple(self.hashes[i] for i in kept),
            self.thumbnails[kept],
            tuple(self.facts[i] for i in kept),
            tuple(entry for entry in self.unreadable if Path(entry.path) in wanted),
        )


def scan(samples: Sequence[Sample], title: str = "Looking at the images") -> Scan:
    """Decode each image once, in threads; about a millisecond for 224 x 224 pixels.

    No image is refused here: see :func:`refuse_unreadable`.
    """
    thumbnails = np.zeros((len(samples), THUMBNAIL, THUMBNAIL), np.uint8)

    def one(index: int) -> tuple[str, Facts] | ImageError:
        path = samples[index].path
        try:
            image = read_image(path)
        except ImageError as error:
            return error
        thumbnails[index] = grey(image, THUMBNAIL)
        return pixel_hash(image), _facts(path, image)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(track(pool.map(one, range(len(samples))), title, len(samples)))
    read = [index for index, entry in enumerate(found) if not isinstance(entry, ImageError)]
    whole = len(read) == len(samples)
    return Scan(
        tuple(samples[i] for i in read),
        tuple(entry[0] for entry in found if not isinstance(entry, ImageError)),
        thumbnails if whole else thumbnails[read],
        tuple(entry[1] for entry in found if not isinstance(entry, ImageError)),
        tuple(
            Unreadable(str(sample.path), str(entry))
            for sample, entry in zip(samples, found, strict=True)
            if isinstance(entry, ImageError)
        ),
    )


def refuse_unreadable(scanned: Scan, mend: str = "mend or remove them") -> None:
    """Say every unreadable image on stderr, then raise a DataError, if there are any."""
    name_unreadable(scanned)
    count = len(scanned.unreadable)
    if count:
        more = f" (and {count - 1} more, all named above)" if count > 1 else ""
        total = len(scanned.samples) + count
        raise DataError(f"{count} of {total} images cannot be read: {scanned.unreadable[0].reason}{more}; {mend}")


def name_unreadable(scanned: Scan) -> None:
    """Say every unreadable image on stderr, one a line."""
    for entry in scanned.unreadable:
        stage(f"unreadable: {entry.reason}")


def grey(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """(side, side) grey levels of the whole image, aspect not kept."""
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def _facts(path: Path, read: Image.Image) -> Facts:
    if is_from_dicom(read):
        return Facts("DICOM", read.width, read.height, read.mode, 0, False)
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None) or {}
        return Facts(
            image.format or "?",
            image.width,
            image.height,
            image.mode,
            sum(next(iter(tables.values()), ())),
            bool(image.getexif()),
        )
