"""Files that were damaged, or made to harm: one line, whatever is in them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from medcompress.runtime.errors import ImageError
from medcompress.runtime.images import read_image

Made = Callable[..., bytes]
GREY = np.add.outer(np.arange(32) * 60, np.arange(40) * 50).astype(np.uint16)
PIXELS = b"\xe0\x7f\x10\0"
J2K = "1.2.840.10008.1.2.4.90"


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    long = vr in (b"OB", b"OW", b"SQ", b"UN")
    return head + (struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))) + value


def before_pixels(data: bytes, added: bytes) -> bytes:
    place = data.index(PIXELS)
    return data[:place] + added + data[place:]


def test_every_truncation_is_refused(made: Made) -> None:
    import imagecodecs

    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k")
    # The last 8 bytes delimit the fragments and hold no pixels.
    for data, end in ((made(GREY), 0), (made(GREY, frames=[frame], syntax=J2K), 10)):
        for length in range(1, len(data) - end, 23):
            with pytest.raises(ImageError):
                read_image(data[:length])


def test_damaged_files_are_read_or_refused_and_nothing_else(made: Made) -> None:
    import imagecodecs

    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k")
    lossless = imagecodecs.jpeg8_encode(GREY, lossless=True, bitspersample=12)
    whole = [
        made(GREY, WindowCenter=300, WindowWidth=700, PixelPaddingValue=None),
        made(GREY, syntax="1.2.840.10008.1.2"),
        made(GREY, syntax="1.2.840.10008.1.2.1.99"),
        made(GREY, frames=[frame], syntax=J2K),
        made(GREY, frames=[lossless], syntax="1.2.840.10008.1.2.4.70"),
        made(GREY, frames=[imagecodecs.jpegls_encode(GREY)], syntax="1.2.840.10008.1.2.4.80"),
    ]
    rng = np.random.default_rng(0)
    read = 0
    for number in range(400):
        data = bytearray(whole[number % len(whole)])
        for place in rng.integers(0, len(data), size=rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        try:
            read_image(bytes(data))
            read += 1
        except ImageError as error:
            assert "\n" not in str(error)
    assert 60 < read < 400


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (65535, 40), (32, 41)])
def test_sizes_that_the_pixels_do_not_fill_are_refused(made: Made, rows: int, columns: int) -> None:
    import imagecodecs

    with pytest.raises(ImageError, match=r"too many pixels|where its size needs"):
        read_image(made(GREY, Rows=rows, Columns=columns, data=GREY.tobytes()))
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k")
    with pytest.raises(ImageError, match=r"too many pixels|its pixels are"):
        read_image(made(GREY, frames=[frame], syntax=J2K, Rows=rows, Columns=columns))


def test_a_deflate_bomb_is_stopped(made: Made) -> None:
    data = made(GREY, syntax="1.2.840.10008.1.2.1.99")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(130)) + packer.flush()
    start = 132 + 12 + struct.unpack("<I", data[140:144])[0]  # behind the group's length, 12 bytes, and the group
    with pytest.raises(ImageError, match="unpacks to more than"):
        read_image(data[:start] + bomb)


def nested(depth: int) -> bytes:
    """Sequences of undefined length within each other, as a file may hold them."""
    opened = element(0x00081140, b"SQ", b"")[:8] + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4
    return opened * depth


def test_headers_that_never_end_are_stopped(made: Made) -> None:
    data = made(GREY)
    for added in (
        nested(20_000),
        element(0x00189999, b"SH", b"") * 200_000,
        element(0x00081140, b"SQ", b"")[:8] + b"\xff" * 4 + b"\xfe\xff\0\xe0\0\0\0\0" * 100_000,
    ):
        with pytest.raises(ImageError):
            read_image(before_pixels(data, added))
    empty, long = b"\xfe\xff\0\xe0\0\0\0\0" * 100_000, b"\xfe\xff\0\xe0" + struct.pack("<I", 2 << 20) + bytes(2 << 20)
    for items in (empty, long):
        with pytest.raises(ImageError, match="items"):
            read_image(before_pixels(data, element(0x52009229, b"SQ", items)))


def test_lengths_that_lie_are_refused(made: Made) -> None:
    data = bytearray(made(GREY))
    place = data.index(PIXELS)
    for length in (0, 7, 0xFFFFFFFE, 0xFFFFFFFF):
        data[place + 8 : place + 12] = struct.pack("<I", length)
        with pytest.raises(ImageError, match="bytes of pixels"):
            read_image(bytes(data))


def test_codestreams_that_ask_for_too_much_are_refused_before_they_are_decoded(made: Made) -> None:
    import imagecodecs

    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k")
    siz = frame.index(b"\xff\x51") + 6
    tiles = frame[: siz + 16] + struct.pack(">II", 1, 1) + frame[siz + 24 :]
    cod = frame.index(b"\xff\x52")
    layers = frame[: cod + 6] + b"\xff\xff" + frame[cod + 8 :]
    for hostile, reason in ((tiles, "tiles"), (layers, "layers"), (b"\0" * 40 + b"\xff\xd9", "no JPEG 2000")):
        with pytest.raises(ImageError, match=reason):
            read_image(made(GREY, frames=[hostile], syntax=J2K))
    jpeg = imagecodecs.jpeg8_encode((GREY // 16).astype(np.uint8), level=90)
    scans = jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") : -2] * 100 + b"\xff\xd9"
    eight = (GREY // 16).astype(np.uint8)
    with pytest.raises(ImageError, match="scans"):
        read_image(made(eight, frames=[scans], syntax="1.2.840.10008.1.2.4.50"))
    buffer = io.BytesIO()
    from PIL import Image

    Image.fromarray(eight).save(buffer, "JPEG", progressive=True)
    with pytest.raises(ImageError, match="of a kind DICOM does not use"):
        read_image(made(eight, frames=[buffer.getvalue()], syntax="1.2.840.10008.1.2.4.50"))


def test_a_table_of_offsets_longer_than_its_frames_is_refused(made: Made) -> None:
    import imagecodecs

    frame = imagecodecs.jpegls_encode(GREY)
    data = made(GREY, frames=[frame], syntax="1.2.840.10008.1.2.4.80")
    place = data.index(PIXELS) + 12
    table = b"\xfe\xff\0\xe0" + struct.pack("<I", 4_000_000) + bytes(4_000_000)
    with pytest.raises(ImageError, match="damaged pixel data"):
        read_image(data[:place] + table + data[place + 12 :])
