"""Files as scanners write them: encodings, bits, colours, frames, compression."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.data.samples import find_samples
from medcompress.benchmarks.data.scan import scan
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import ImageError, MachineError
from medcompress.runtime.images import pixel_hash, read_image
from medcompress.runtime.preprocessing import Preprocessing

Made = Callable[..., bytes]

IMPLICIT, EXPLICIT, DEFLATED, BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (24, 20), dtype=np.uint16)
SMOOTH = np.add.outer(np.arange(32) * 60, np.arange(40) * 50).astype(np.uint16)
COLOUR = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def levels(source: Any, **rendering: Any) -> np.ndarray:
    return np.asarray(read_image(source, dicom=DicomRendering(**rendering)))


def shown(stored: np.ndarray, center: float = 2048, width: float = 4096) -> np.ndarray:
    """LINEAR, C.11.2.1.2.1."""
    return np.floor(np.clip((stored - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255 + 0.5)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG])
def test_the_same_picture_in_every_encoding(made: Made, syntax: str) -> None:
    found = levels(made(TWELVE, syntax=syntax, BitsStored=12, **WINDOW))
    assert np.array_equal(found, shown(TWELVE.astype(float)))


def test_from_a_path_with_any_name_from_bytes_and_without_the_preamble(made: Made, tmp_path: Path) -> None:
    data = made(TWELVE, BitsStored=12, **WINDOW)
    path = tmp_path / "IM000001"
    path.write_bytes(data)
    assert len({pixel_hash(read_image(source)) for source in (path, str(path), data, data[132:])}) == 1
    for bare in (data[data.index(b"\x08\0\x16\0UI") :], b"\x08\0\x16\0\x1a\0\0\0" + data[400:]):
        with pytest.raises(ImageError, match="without the header"):
            read_image(bare)


@pytest.mark.parametrize(("stored", "signed"), [(8, False), (10, False), (12, True), (16, False), (16, True)])
def test_bits_that_are_not_used_do_not_count(made: Made, stored: int, signed: bool) -> None:
    """PS3.5 8.1.1: bits above Bits Stored may hold anything, and the highest of the others is the sign."""
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    values = RNG.integers(low, high, (12, 14))
    noise = RNG.integers(0, 2**16, (12, 14)) & ~(2**stored - 1) & 0xFFFF
    pixels = ((values & (2**stored - 1)) | noise).astype(np.uint16)
    center, width = (low + high) / 2, float(high - low)
    data = made(pixels, BitsStored=stored, PixelRepresentation=int(signed), WindowCenter=center, WindowWidth=width)
    assert np.array_equal(levels(data), shown(values.astype(float), center, width))


def test_rescale_comes_before_the_window_and_the_polarity_last(made: Made) -> None:
    hounsfield = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    expected = shown(TWELVE * 2.0 - 1024, 40, 400)
    assert np.array_equal(levels(made(TWELVE, BitsStored=12, **hounsfield)), expected)
    for inverse in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ):
        assert np.abs(levels(made(TWELVE, BitsStored=12, **hounsfield, **inverse)) - (255 - expected)).max() <= 1
    with pytest.raises(ImageError, match="both MONOCHROME1"):
        levels(made(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_lookup_tables_before_windows_and_the_chosen_view(made: Made, syntax: str) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def table(first: int, entries: list[int], bits: int) -> Dataset:
        item = Dataset()
        item.LUTDescriptor = [len(entries), first, bits]
        item["LUTDescriptor"].VR = "US"
        item.LUTData = entries
        item["LUTData"].VR = "US"
        return item

    pixels = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    tables = {
        "ModalityLUTSequence": Sequence([table(1, [100, 300, 200], 16)]),
        "VOILUTSequence": Sequence([table(100, [0] * 100 + [1023] * 101, 10), table(0, [7, 8, 9], 8)]),
        "WindowCenter": [200, 250],
        "WindowWidth": [201, 101],
    }
    data = made(pixels, BitsStored=12, syntax=syntax, **tables)
    assert levels(data).tolist() == [[0, 0, 255, 255]]
    assert levels(data, view=1).tolist() == [[9, 9, 9, 9]]
    assert levels(data, view=3).tolist() == shown(np.array([[100, 100, 300, 200.0]]), 250, 101).tolist()
    assert levels(data, window=(150, 101)).tolist() == shown(np.array([[100, 100, 300, 200.0]]), 150, 101).tolist()
    with pytest.raises(ImageError, match="offers 4 views"):
        levels(data, view=4)


def test_padding_is_black_whichever_way_it_is_written(made: Made) -> None:
    pixels = np.array([[-2000, -1000, 1000]], dtype=np.int16)
    representation = b"\x28\0\x03\x01US\x02\0\x01\0"
    for value in (struct.pack("<h", -2000), struct.pack("<H", 63536)):
        padding = b"\x28\0\x20\x01SS\x02\0" + value
        data = made(pixels).replace(representation, representation + padding)
        assert levels(data).tolist() == [[0, 0, 255]]
        inverse = data.replace(b"MONOCHROME2", b"MONOCHROME1")
        assert levels(inverse).tolist() == [[0, 255, 0]]


def test_colours_however_they_lie(made: Made) -> None:
    assert np.array_equal(levels(made(COLOUR)), COLOUR)
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(levels(made(COLOUR, data=planes, PlanarConfiguration=1)), COLOUR)
    half = np.repeat(COLOUR[:, ::2], 2, axis=1)
    half[:, 1::2, 0] = COLOUR[:, 1::2, 0]  # a luminance each, colours shared by two
    pairs = np.concatenate([half[:, ::2, :1], half[:, 1::2, :1], half[:, ::2, 1:]], axis=2).tobytes()
    whole = levels(made(half, PhotometricInterpretation="YBR_FULL"))
    assert np.array_equal(levels(made(half, data=pairs, PhotometricInterpretation="YBR_FULL_422")), whole)
    assert np.array_equal(levels(made(COLOUR, syntax=BIG)), COLOUR)
    with pytest.raises(ImageError, match="only JPEG 2000"):
        levels(made(COLOUR, PhotometricInterpretation="YBR_RCT"))


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_a_palette_of_eight_bits_lies_two_to_a_word(made: Made, syntax: str) -> None:
    order = ">" if syntax == BIG else "<"
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, step in (("Red", 1), ("Green", 2), ("Blue", 3)):
        entries = (np.arange(256) * step % 256).astype(np.uint8)
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{colour}PaletteColorLookupTableData"] = entries.view("<u2").astype(f"{order}u2").tobytes()
    found = levels(made(syntax=syntax, **palette))
    assert found[1, 4].tolist() == [20, 40, 60]
    assert found[15, 15].tolist() == [255, 254, 253]


def codestreams() -> dict[str, tuple[str, np.ndarray, Callable[[Any], bytes]]]:
    """Name -> transfer syntax, pixels, encoder."""
    signed = SMOOTH.astype(np.int16) - 2000
    return {
        "jpeg lossless": ("4.70", SMOOTH, lambda codec: codec.jpeg8_encode(SMOOTH, lossless=True, bitspersample=12)),
        "jpeg-ls": ("4.80", SMOOTH, lambda codec: codec.jpegls_encode(SMOOTH)),
        "jpeg-ls, colour": ("4.80", COLOUR, lambda codec: codec.jpegls_encode(COLOUR)),
        "jpeg 2000": ("4.90", SMOOTH, lambda codec: codec.jpeg2k_encode(SMOOTH, level=0, codecformat="j2k")),
        "jpeg 2000, signed": ("4.90", signed, lambda codec: codec.jpeg2k_encode(signed, level=0, codecformat="j2k")),
        "jpeg 2000 in a file": ("4.90", SMOOTH, lambda codec: codec.jpeg2k_encode(SMOOTH, level=0, codecformat="jp2")),
        "jpeg 2000, colour": ("4.90", COLOUR, lambda codec: codec.jpeg2k_encode(COLOUR, level=0, codecformat="j2k")),
    }


@pytest.mark.parametrize("name", codestreams())
def test_compressed_pixels_are_those_that_were_compressed(made: Made, name: str) -> None:
    import imagecodecs

    syntax, pixels, encode = codestreams()[name]
    frame = encode(imagecodecs)
    data = made(pixels, frames=[frame], syntax=f"1.2.840.10008.1.2.{syntax}", BurnedInAnnotation="NO")
    assert np.array_equal(levels(data), levels(made(pixels)))
    cut = made(pixels, frames=[frame[: len(frame) * 2 // 3]], syntax=f"1.2.840.10008.1.2.{syntax}")
    with pytest.raises(ImageError, match=r"cut off|damaged"):
        levels(cut)
    larger = made(pixels, frames=[frame], syntax=f"1.2.840.10008.1.2.{syntax}", Rows=pixels.shape[0] + 1)
    with pytest.raises(ImageError, match="its pixels are"):
        levels(larger)


@pytest.mark.parametrize("upper", ["extended", "cleared"])
def test_signed_values_of_a_codestream_wider_than_them(made: Made, upper: str) -> None:
    """Some encoders extend the sign through the cell, some leave the bits above the stored ones 0."""
    import imagecodecs

    values = SMOOTH.astype(np.int16) - 2000
    cells = values.view(np.uint16) if upper == "extended" else values.view(np.uint16) & 0x0FFF
    stored = {"BitsStored": 12, "WindowCenter": 0, "WindowWidth": 4096}
    for syntax, frame in (
        ("4.70", imagecodecs.jpeg8_encode(cells, lossless=True, bitspersample=16)),
        ("4.80", imagecodecs.jpegls_encode(cells)),
        ("4.90", imagecodecs.jpeg2k_encode(cells, level=0, codecformat="j2k")),
    ):
        data = made(values, frames=[frame], syntax=f"1.2.840.10008.1.2.{syntax}", **stored)
        assert np.array_equal(levels(data), levels(made(values, **stored))), syntax


def test_colours_of_eight_bits_in_cells_of_sixteen(made: Made) -> None:
    for photometric in ("RGB", "YBR_FULL"):
        wide = made(COLOUR.astype(np.uint16), BitsStored=8, PhotometricInterpretation=photometric)
        assert np.array_equal(levels(wide), levels(made(COLOUR, PhotometricInterpretation=photometric)))
    with pytest.raises(ImageError, match="signed samples"):
        levels(made(COLOUR.view(np.int8)))


def test_twelve_bit_jpeg_and_the_colours_of_a_jpeg(made: Made) -> None:
    import imagecodecs

    frame = imagecodecs.jpeg8_encode(SMOOTH, level=98, bitspersample=12)
    extended = levels(made(SMOOTH, frames=[frame], syntax="1.2.840.10008.1.2.4.51", BitsStored=12, **WINDOW))
    assert np.abs(extended - shown(SMOOTH.astype(float))).max() <= 1
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[...] = (200, 40, 90)
    for space, photometric in (("YCBCR", "YBR_FULL_422"), ("YCBCR", "YBR_FULL"), ("RGB", "RGB")):
        frame = imagecodecs.jpeg8_encode(flat, level=95, colorspace="RGB", outcolorspace=space, subsampling="444")
        data = made(flat, frames=[frame], syntax="1.2.840.10008.1.2.4.50", PhotometricInterpretation=photometric)
        assert np.abs(levels(data).astype(int) - flat).max() <= 3


def test_rle_of_grey_and_colour(made: Made) -> None:
    from pydicom.pixels.encoders import RLELosslessEncoder

    for pixels in (SMOOTH, COLOUR, SMOOTH.astype(np.int16) - 1000):
        colour = pixels.ndim == 3
        frame = RLELosslessEncoder.encode(
            pixels,
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            number_of_frames=1,
            samples_per_pixel=3 if colour else 1,
            bits_allocated=8 * pixels.itemsize,
            bits_stored=8 * pixels.itemsize,
            pixel_representation=int(pixels.dtype.kind == "i"),
            photometric_interpretation="RGB" if colour else "MONOCHROME2",
            planar_configuration=0,
            encoding_plugin="pydicom",
        )
        syntax = "1.2.840.10008.1.2.5"
        assert np.array_equal(levels(made(pixels, frames=[frame], syntax=syntax)), levels(made(pixels)))
        with pytest.raises(ImageError, match="RLE"):
            levels(made(pixels, frames=[frame[:-40]], syntax=syntax))


def test_one_frame_of_several_with_the_window_of_its_own_group(made: Made) -> None:
    """C.7.6.16: the frame's own functional groups, then the shared ones."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(center: float | None, intercept: float | None) -> Dataset:
        item = Dataset()
        if center is not None:
            item.FrameVOILUTSequence = Sequence([Dataset()])
            item.FrameVOILUTSequence[0].WindowCenter, item.FrameVOILUTSequence[0].WindowWidth = center, 1000
        if intercept is not None:
            item.PixelValueTransformationSequence = Sequence([Dataset()])
            transformation = item.PixelValueTransformationSequence[0]
            transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        return item

    stack = np.stack([SMOOTH, SMOOTH + 7, SMOOTH + 99])
    groups = {
        "SharedFunctionalGroupsSequence": Sequence([group(500, -100)]),
        "PerFrameFunctionalGroupsSequence": Sequence([group(700, None), group(None, None), group(900, 50)]),
    }
    data = made(stack, NumberOfFrames=3, BitsStored=12, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", **groups)
    assert np.array_equal(levels(data, frame=1), shown(stack[0] - 100.0, 700, 1000))
    assert np.array_equal(levels(data, frame="middle"), shown(stack[1] - 100.0, 500, 1000))
    assert np.array_equal(levels(data, frame=3), shown(stack[2] + 50.0, 900, 1000))
    with pytest.raises(ImageError, match="has 3 frames"):
        levels(data)
    with pytest.raises(ImageError, match="number 4"):
        levels(data, frame=4)


def test_pixels_that_are_not_square_are_made_so(made: Made) -> None:
    assert levels(made(PixelAspectRatio=[4, 3])).shape == (21, 16)
    assert levels(made(PixelSpacing=[0.5, 1.0])).shape == (16, 32)
    assert levels(made(PixelSpacing=[0.2, 0.2])).shape == (16, 16)
    assert levels(made(NominalScannedPixelSpacing=[1.0, 0.5])).shape == (32, 16)
    with pytest.raises(ImageError, match="once they are square, 2500 x 25000"):
        levels(made(np.zeros((2500, 2500), np.uint8), PixelAspectRatio=[10, 1]))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "dose"),
        ({"Rows": None}, "no picture"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "1 bit"),
        ({"BitsStored": 9}, "cannot be"),
        ({"BitsStored": 4, "HighBit": 7}, "upper bits"),
        ({"PhotometricInterpretation": "CMYK"}, "photometric"),
        ({"SamplesPerPixel": 3}, "samples a pixel"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "slope of 0"),
        ({"WindowCenter": 100, "WindowWidth": 0}, "shows nothing"),
        ({"WindowCenter": [1, 2], "WindowWidth": 5}, "2 window centres and 1 widths"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "VOI LUT function"),
        ({"PixelPresentation": "MIXED"}, "supplemental palette"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "lookup table"),
        ({"NumberOfFrames": 0}, "0 frames"),
        ({"SOPClassUID": None}, "what kind of object"),
        ({"PixelRepresentation": None}, "does not say its PixelRepresentation"),
        ({"PixelRepresentation": 7}, "neither 0 nor 1"),
        ({"BitsStored": None, "HighBit": 7}, "does not say its BitsStored"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": 0}, "leads to no numbers"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, "no number"),
    ],
)
def test_what_cannot_be_shown_faithfully_is_refused_with_the_reason(
    made: Made, attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        levels(made(**attributes))
    with pytest.raises(ImageError, match="not read"):
        levels(made(syntax="1.2.840.10008.1.2.4.102", frames=[b"\0" * 8]))


def test_it_is_part_of_the_locked_preprocessing(made: Made) -> None:
    """Older records, which have no such field, mean the default."""
    usual = Preprocessing((16, 16), channels=1, mean=(0.5,), std=(0.5,))
    record = msgspec.to_builtins(usual)
    del record["dicom"]
    assert msgspec.convert(record, Preprocessing) == usual
    windowed = msgspec.structs.replace(usual, dicom=DicomRendering(window=(100, 50), frame=2))
    assert msgspec.json.decode(msgspec.json.encode(windowed), type=Preprocessing) == windowed
    data = made(np.stack([SMOOTH, SMOOTH + 50]), NumberOfFrames=2)
    with pytest.raises(ImageError, match="2 frames"):
        usual.render(data)
    assert (windowed.render(data) != windowed.render(made(np.stack([SMOOTH, SMOOTH]), NumberOfFrames=2))).any()


def test_folders_of_dicom_files_are_data(made: Made, tmp_path: Path) -> None:
    for label in ("CLEAR", "OPACITY"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.dcm").write_bytes(made(TWELVE + (label == "CLEAR"), BitsStored=12, **WINDOW))
    samples = find_samples(tmp_path)
    assert [sample.path.name for sample in samples] == ["a.dcm", "a.dcm"]
    assert [facts.format for facts in scan(samples).facts] == ["DICOM", "DICOM"]


@pytest.mark.parametrize(("module", "package"), [("pydicom.filereader", "pydicom"), ("imagecodecs", "imagecodecs")])
def test_what_is_not_installed_is_named_with_its_extra(
    made: Made, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imagecodecs

    frame = imagecodecs.jpegls_encode(SMOOTH)
    data = made(SMOOTH, frames=[frame], syntax="1.2.840.10008.1.2.4.80")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError, match=rf"{package} is not installed.*medcompress\[dicom\]"):
        read_image(data)


@dataclasses.dataclass(frozen=True)
class _Asked:
    options: tuple[str, ...]
    attributes: dict[str, Any]
    pixels: np.ndarray


CASES = {
    "window": _Asked(("+Wi", "1"), {"RescaleSlope": 1.5, "RescaleIntercept": -900, **WINDOW}, TWELVE),
    "second window": _Asked(("+Wi", "2"), {"WindowCenter": [1, 900], "WindowWidth": [9, 700]}, TWELVE),
    "MONOCHROME1": _Asked(("+Wi", "1"), {"PhotometricInterpretation": "MONOCHROME1", **WINDOW}, TWELVE),
    "extent": _Asked(("+Wm",), {}, TWELVE),
    "signed": _Asked(("+Wi", "1"), {"WindowCenter": -40, "WindowWidth": 777}, TWELVE.astype(np.int16) - 2048),
    "sigmoid": _Asked(("+Wi", "1"), {**WINDOW, "VOILUTFunction": "SIGMOID"}, TWELVE),
    "colour": _Asked((), {}, COLOUR),
}


@pytest.mark.parametrize("case", CASES)
def test_dcmtk_sees_the_same_grey_levels(made: Made, case: str, tmp_path: Path) -> None:
    """DCMTK cuts decimals off where we round: one level."""
    if shutil.which("dcm2pnm") is None:
        pytest.skip("dcmtk's dcm2pnm is not installed")
    asked = CASES[case]
    bits = {} if asked.pixels.ndim == 3 else {"BitsStored": 12, "PatientOrientation": ""}
    path = tmp_path / "x.dcm"
    path.write_bytes(made(asked.pixels, **bits, **asked.attributes))
    subprocess.run(["dcm2pnm", *asked.options, path, tmp_path / "x.pnm"], check=True, capture_output=True)
    theirs = np.asarray(read_pnm(tmp_path / "x.pnm"))
    ours = levels(path, view=int(case == "second window"))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def read_pnm(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))
