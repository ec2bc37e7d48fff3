from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.errors import ImageError
from medcompress.runtime.images import pixel_hash, read_image

GREY = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_grey_files_give_their_own_pixels(kind: str) -> None:
    image = read_image(encoded(Image.fromarray(GREY), kind))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), GREY)


def test_the_same_picture_is_the_same_from_path_bytes_array_and_pil(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(GREY), "PNG")
    path = tmp_path / "x.png"
    path.write_bytes(data)
    sources = [path, str(path), data, bytearray(data), memoryview(data), GREY, GREY[:, :, None], Image.fromarray(GREY)]
    assert len({pixel_hash(read_image(source)) for source in sources}) == 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_from_their_full_range(kind: str) -> None:
    levels = np.array([[0, 128, 129, 32768, 65535]], dtype=np.uint16)
    expected = np.round(levels / 65535 * 255).astype(np.uint8)
    assert np.array_equal(np.asarray(read_image(encoded(Image.fromarray(levels), kind))), expected)
    assert np.array_equal(np.asarray(read_image(levels)), expected)


def sixteen_bit_tiff(order: str, photometric: int) -> bytes:
    """Two pixels, 0 and 65535, as a TIFF 6.0 file of one strip; ``order`` is < or >."""
    tags = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 0),
        (278, 3, 1),
        (279, 4, 4),
    ]
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        value = offset if tag == 273 else value
        packed = struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, 1) + packed
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return start + struct.pack(order + "H", len(tags)) + entries + bytes(4) + struct.pack(order + "HH", 0, 65535)


@pytest.mark.parametrize(("order", "photometric", "seen"), [("<", 1, [0, 255]), (">", 1, [0, 255]), ("<", 0, [255, 0])])
def test_sixteen_bit_tiff_keeps_its_byte_order_and_sense(order: str, photometric: int, seen: list[int]) -> None:
    """Photometric 0 is WhiteIsZero: the levels of a negative, as radiograph exports write them."""
    assert np.asarray(read_image(sixteen_bit_tiff(order, photometric))).tolist() == [seen]


def test_transparency_lies_over_black_and_opaque_alpha_changes_nothing() -> None:
    alpha = np.full((48, 64), 255, dtype=np.uint8)
    alpha[:, 32:] = 0
    image = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha)))
    shown = np.asarray(read_image(encoded(image, "PNG")))
    assert np.array_equal(shown[:, :32], GREY[:, :32])
    assert not shown[:, 32:].any()


def test_palettes_bilevel_and_cmyk_are_resolved() -> None:
    colour = np.zeros((8, 8, 3), dtype=np.uint8)
    colour[:4] = (200, 10, 30)
    palette = Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.asarray(read_image(encoded(palette, "PNG")))[0, 0].tolist() == [200, 10, 30]
    assert set(np.asarray(read_image(encoded(Image.fromarray(GREY).convert("1"), "PNG"))).ravel()) == {0, 255}
    assert read_image(encoded(Image.fromarray(colour).convert("CMYK"), "TIFF")).mode == "RGB"


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter to the right
    turned = read_image(encoded(Image.fromarray(GREY), "PNG", exif=exif))
    assert np.array_equal(np.asarray(turned), np.rot90(GREY, -1))


def test_a_large_jpeg_is_decoded_smaller_and_close_to_the_full_decode() -> None:
    rows, columns = np.mgrid[0:1600, 0:1600]
    picture = Image.fromarray(((np.sin(rows / 90) * np.cos(columns / 70) + 1) * 120).astype(np.uint8))
    data = encoded(picture, "JPEG", quality=95)
    small = read_image(data, at_least=(400, 400))
    assert small.size == (400, 400)
    full = np.asarray(read_image(data).resize((200, 200), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(small.resize((200, 200), Image.Resampling.BILINEAR)).astype(int) - full).max() <= 2


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    idat = zlib.compress(b"\0" * (side + 1))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        read_image(bomb(side))


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    cases = {"empty.png": b"", "text.png": b"not an image", "cut.png": encoded(Image.fromarray(GREY), "PNG")[:300]}
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ImageError, match=name):
            read_image(path)
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(ImageError, match=path.name):
            read_image(path)


def test_every_truncation_of_a_jpeg_is_refused_or_read(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(GREY), "JPEG")
    for length in range(0, len(data), 7):
        with pytest.raises(ImageError):
            read_image(data[:length])


def test_damaged_files_are_read_or_refused_and_nothing_else() -> None:
    """Two thousand seeded byte flips: a kiosk must not fall over a bad file."""
    rng = np.random.default_rng(0)
    grey, exif = Image.fromarray(GREY), Image.Exif()
    exif[0x0112] = 3
    kinds = [("PNG", {}), ("JPEG", {"exif": exif}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})]
    for kind, options in kinds:
        whole = encoded(grey, kind, **options)
        for _ in range(500):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 400), size=rng.integers(1, 6)):
                data[place] = rng.integers(0, 256)
            with contextlib.suppress(ImageError):
                read_image(bytes(data), at_least=(32, 32))


def test_what_is_no_image_at_all_is_refused() -> None:
    for source in (None, [1, 2], 7, np.zeros(()), "a\0b"):
        with pytest.raises(ImageError):
            read_image(source)  # type: ignore[arg-type]


def test_several_frames_are_refused() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="several frames"):
        read_image(data)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), dtype=np.float32),
        np.zeros((4, 4), dtype=bool),
        np.zeros((4, 4), dtype=np.int64),
        np.zeros((0, 4), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
        np.zeros((3, 5, 5), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.uint16),
    ],
)
def test_arrays_without_a_known_grey_scale_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        read_image(array)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ImageError, match="not a PNG, JPEG, BMP, TIFF"):
        read_image(encoded(Image.fromarray(GREY), "GIF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_one_plugin_of_pillows_meets_the_bytes_whatever_the_files_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    Image.new("L", (9, 5), 77).save(path, kind)
    code = (
        "import sys\nfrom pathlib import Path\nfrom medcompress.runtime.images import read_image\n"
        "path = Path(sys.argv[1])\nassert read_image(path).size == read_image(path.read_bytes()).size == (9, 5)\n"
        "print(*(name for name in sys.modules if name.startswith('PIL.') and name.endswith('ImagePlugin')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"PIL.{kind.title()}ImagePlugin"]
