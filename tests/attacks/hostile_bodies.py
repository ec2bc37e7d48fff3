"""Bodies no honest client sends: forms and files that are to be refused, each at little cost."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

# The bytes, or what makes them of an honest image.
Body: TypeAlias = "bytes | Callable[[bytes], bytes]"

PART = b'--b\r\nContent-Disposition: form-data; name="file"\r\n'


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of one bit a pixel, with these chunks."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in (*chunks, (b"IEND", b"")))


def tiff(width: int, height: int, *, loops: bool = False) -> bytes:
    """A TIFF of one strip that is not there, whose directory may point to itself."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, width)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8 if loops else 0)


NOISE = random.Random(0).randbytes(100_000)
_TEXT = (b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 1))
_PROFILE = (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 1))
# All to POST /predict, with the boundary "b"; and all to be refused.
FORMS: dict[str, Body] = {
    "form_of_countless_parts": b"--b\r\n\r\n\r\n" * 400_000 + b"--b--",
    "form_of_countless_headers": b"--b\r\n" + b"X: y\r\n" * 500_000,
    "form_with_a_header_without_end": b"--b\r\nX: " + b"y" * 1_000_000,
    "form_of_near_boundaries": PART + b"\r\n" + b"\r\n--" * 200_000,
    "form_that_is_cut_off": lambda image: PART + b"\r\n" + image,
    "form_of_two_files": lambda image: (PART + b"\r\n" + image + b"\r\n") * 2 + b"--b--",
    "form_without_the_field": lambda image: PART.replace(b"file", b"name") + b"\r\n" + image + b"\r\n--b--",
}
FILES: dict[str, Body] = {
    "nothing": b"",
    "noise": NOISE,
    "half_of_an_image": lambda image: image[: len(image) // 2],
    "png_bomb": png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(10_000_000), 1))),
    "png_with_a_text_bomb": png(8, 8, _TEXT, (b"IDAT", zlib.compress(bytes(16)))),
    "png_with_a_profile_bomb": png(8, 8, _PROFILE, (b"IDAT", zlib.compress(bytes(16)))),
    "png_that_has_fewer_pixels_than_it_says": png(8000, 8000, (b"IDAT", zlib.compress(bytes(10)))),
    "tiff_of_more_pixels_than_there_are": tiff(1 << 30, 1 << 30),
    "tiff_that_never_ends": tiff(64, 64, loops=True),
    "dicom_of_noise": bytes(128) + b"DICM" + NOISE,
    "pickle": b"cposix\nsystem\n(S'touch sprung'\ntR.",
    "svg_that_reads_a_file": b'<svg xmlns:x="a"><image href="file:///etc/passwd"/></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(id) (w) file\n",
    "zip": b"PK\3\4" + NOISE,
    "packed_on_the_way": gzip.compress,
}
