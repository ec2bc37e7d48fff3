"""Small files that ask for minutes or gigabytes are refused by their headers, and what is near the limits is read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.bounds import MAX_COLOUR_PIXELS
from medcompress.runtime.eight_bits import eight_bit
from medcompress.runtime.errors import ImageError
from medcompress.runtime.images import read_image
from medcompress.runtime.preprocessing import Preprocessing


def png(width: int, height: int, colour: int) -> bytes:
    """A PNG whose header says so; 8 bits, the pixels of one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 4 * min(width, 1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(side: int, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_scans(data: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    last = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    return data[:-2] + last * times + b"\xff\xd9"


def tiff(tags: list[tuple[int, int]], pixels: bytes, more: int = 0) -> bytes:
    """A little-endian TIFF of one strip; ``more`` empty directories follow the first."""
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    pixels_at = start + 6 * more
    entries = sorted([*tags, (273, pixels_at), (279, len(pixels))])
    found = b"II*\0" + struct.pack("<IH", 8, len(entries))
    found += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    found += struct.pack("<I", start if more else 0)
    for number in range(more):
        found += struct.pack("<HI", 0, start + 6 * (number + 1) if number < more - 1 else 0)
    return found + pixels


GREY_TIFF = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (277, 1), (278, 8)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png(79_000_000, 1, 0), "a side of 79,000,000 pixels"),
        (png(1, 79_000_000, 0), "a side of 79,000,000 pixels"),
        (png(8900, 8900, 6), "in colour"),
        (png(8900, 8900, 2), "in colour"),
        (png(65535, 65535, 0), "too many pixels"),
    ],
)
def test_a_header_that_asks_for_too_much_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read_image(data)


def test_a_jpeg_of_a_thousand_scans_is_refused_before_they_are_decoded(tmp_path: Path) -> None:
    progressive = jpeg(64, progressive=True)
    path = tmp_path / "scans.jpeg"
    path.write_bytes(with_scans(progressive, 1000))
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match="1010 scans"):
            read_image(source)
    assert read_image(with_scans(progressive, 20)).size == (64, 64)
    with pytest.raises(ImageError, match="30 scans, too many for its size"):
        read_image(with_scans(jpeg(5000, progressive=True), 20))


def test_what_only_looks_like_a_scan_is_none() -> None:
    # A thumbnail's within EXIF, a comment's between the scans, and a film's behind the end.
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + 3 * 300) + b"\xff\xda\0" * 300
    comment = b"\xff\xfe" + thumbnail[2:]
    data = jpeg(64, progressive=True)
    data = data[:2] + thumbnail + data[2:-2] + comment + b"\xff\xd9" + b"\xff\xda" * 300
    assert read_image(data).size == (64, 64)


def test_the_frames_of_a_tiff_are_not_counted() -> None:
    assert read_image(tiff(GREY_TIFF, bytes(64))).size == (8, 8)
    with pytest.raises(ImageError, match="several frames"):
        read_image(tiff(GREY_TIFF, bytes(64), more=300))


@pytest.mark.parametrize("size", [(60_000, 2), (2, 60_000)])
def test_a_line_is_not_scaled_by_its_shorter_side(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("L", size, 9).save(path)
    with pytest.raises(ImageError, match=r"line\.png: is too long for its width"):
        Preprocessing((224, 224), fit="crop", shorter_side=256).render(path)
    assert (Preprocessing((224, 224)).render(path) == 9).all()


def test_twelve_bits_are_scaled_from_their_own_range() -> None:
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF] * 16)  # 0, 2048, 4095, 4095
    tags = [(256, 4), (257, 16), (258, 12), (259, 1), (262, 1), (277, 1), (278, 16)]
    assert np.asarray(read_image(tiff(tags, packed)))[0].tolist() == [0, 128, 255, 255]


def test_strips_give_what_the_whole_gives() -> None:
    rng = np.random.default_rng(0)
    shape = (1100, 1100)
    levels = rng.integers(0, 65536, shape, dtype=np.uint16)
    assert np.array_equal(np.asarray(read_image(levels)), np.round(levels / 257).astype(np.uint8))
    colours = Image.fromarray(rng.integers(0, 256, (*shape, 4), dtype=np.uint8))
    black = Image.new("RGBA", colours.size, (0, 0, 0, 255))
    assert np.array_equal(
        np.asarray(read_image(colours)), np.asarray(Image.alpha_composite(black, colours).convert("RGB"))
    )
    grey = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    grey.info["transparency"] = 17
    whole = Image.alpha_composite(black, grey.convert("RGBA")).convert("RGB").convert("L")
    assert np.array_equal(np.asarray(eight_bit(grey, "image")), np.asarray(whole))


@pytest.mark.parametrize("mode", ["La", "LAB", "F", "PA", "RGBa", "HSV", "YCbCr"])
def test_every_kind_of_pixels_is_read_or_refused(mode: str) -> None:
    try:
        assert read_image(Image.new(mode, (8, 8))).mode in {"L", "RGB"}
    except ImageError as error:
        assert "\n" not in str(error)


def test_the_limit_of_colours_holds_for_what_is_decoded() -> None:
    """A photograph of 100 megapixels is decoded at an eighth of its size."""
    wide = Preprocessing((64, 64))
    data = jpeg(7200)
    assert MAX_COLOUR_PIXELS < 7200**2
    assert wide.render(data).shape == (64, 64)
    with pytest.raises(ImageError, match="in colour"):
        read_image(data)
