"""Each step against the clause's own words and examples, and against pydicom's reading of them."""

from __future__ import annotations

import numpy as np
import pytest

from medcompress.runtime.dicom.rendering import (
    DicomRendering,
    Grey,
    Lut,
    Window,
    modality_values,
    render_colour,
    render_grey,
    render_palette,
    square_pixels,
    windowed,
)
from medcompress.runtime.dicom.tables import expanded
from medcompress.runtime.errors import ImageError

LEVELS = np.arange(-3000, 5000, dtype=np.float64)


@pytest.mark.parametrize(
    ("center", "width", "black_to", "white_above"),
    [(2048, 4096, 0, 4095), (2048, 1, 2047.5, 2047.5), (0, 100, -50, 49), (0, 1, -0.5, -0.5)],
)
def test_linear_windows_as_in_the_examples_of_the_clause(
    center: float, width: float, black_to: float, white_above: float
) -> None:
    """C.11.2.1.2.1, note 3: four windows with the ends of their ramps written out."""
    levels = LEVELS
    shown = windowed(levels, Window(center, width))
    assert not shown[levels <= black_to].any()
    assert (shown[levels > white_above] == 1).all()
    between = (levels > black_to) & (levels <= white_above)
    if between.any():
        ramp = (levels[between] - (center - 0.5)) / (width - 1) + 0.5
        assert np.allclose(shown[between], ramp, atol=1e-12)


def test_linear_exact_and_sigmoid_as_the_clause_writes_them() -> None:
    """C.11.2.1.3: LINEAR_EXACT takes no half a step off, SIGMOID is 1 / (1 + exp(-4 (x - c) / w))."""
    levels = LEVELS
    exact = windowed(levels, Window(40, 400, "LINEAR_EXACT"))
    assert exact[levels == -160] == 0
    assert exact[levels == 240] == 1
    assert exact[levels == 40] == 0.5
    sigmoid = windowed(levels, Window(40, 400, "SIGMOID"))
    assert np.allclose(sigmoid, 1 / (1 + np.exp(-4 * (levels - 40) / 400)))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicoms(function: str) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.pixels import apply_windowing

    header = pydicom.Dataset()
    header.PhotometricInterpretation, header.BitsStored, header.PixelRepresentation = "MONOCHROME2", 12, 0
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 700.3, 333.3, function
    levels = np.arange(4096)
    theirs = apply_windowing(levels, header) / 4095
    assert np.allclose(windowed(levels.astype(float), Window(700.3, 333.3, function)), theirs, atol=1e-9)  # type: ignore[arg-type]


def test_a_lookup_table_holds_its_ends_for_what_lies_outside() -> None:
    """C.11.1.1.1: values below the first mapped take the first entry, those past the last the last."""
    lut = Lut(-2, 16, np.array([10, 20, 30], dtype=np.uint16))
    assert lut.look_up(np.array([-100, -2, -1, 0, 1, 9000])).tolist() == [10, 10, 20, 30, 30, 30]
    assert modality_values(np.array([-1, 5]), Grey(12, True, modality=lut)).tolist() == [20, 30]


def test_the_whole_chain_equals_the_clauses_worked_out_pixel_by_pixel() -> None:
    stored = np.random.default_rng(0).integers(-2048, 2048, (37, 41), dtype=np.int16)
    grey = Grey(12, True, slope=1.7, intercept=-300.5, voi=Window(100.25, 900.5), padding=(-2048, -2000))
    image = np.asarray(render_grey(stored, grey, DicomRendering()))
    inverted = np.asarray(render_grey(stored, Grey(12, True, 1.7, -300.5, None, grey.voi, True), DicomRendering()))
    for (row, column), value in np.ndenumerate(stored):
        x = float(value) * 1.7 - 300.5
        low, high = 100.25 - 0.5 - 899.5 / 2, 100.25 - 0.5 + 899.5 / 2
        shown = 0.0 if x <= low else 1.0 if x > high else (x - 99.75) / 899.5 + 0.5
        assert image[row, column] == (0 if value <= -2000 else int(shown * 255 + 0.5))
        assert inverted[row, column] == int((1 - shown) * 255 + 0.5)


def test_without_a_window_the_extent_is_shown_and_padding_has_no_part_in_it() -> None:
    """C.7.5.1.1.2: padding is not to be looked at, and stays black where low is white."""
    stored = np.array([[-2000, -1000, 0, 1000]], dtype=np.int16)
    grey = Grey(16, True, padding=(-2000, -2000))
    assert np.asarray(render_grey(stored, grey, DicomRendering())).tolist() == [[0, 0, 128, 255]]
    negative = Grey(16, True, inverse=True, padding=(-2000, -2000))
    assert np.asarray(render_grey(stored, negative, DicomRendering())).tolist() == [[0, 255, 128, 0]]
    kept = render_grey(stored, grey, DicomRendering(padding="keep"))
    assert np.asarray(kept).tolist() == [[0, 85, 170, 255]]
    bits = render_grey(stored, Grey(16, True), DicomRendering(unwindowed="bits"))
    assert np.asarray(bits).tolist() == [[120, 124, 128, 131]]
    assert np.asarray(render_grey(np.array([[7, 9]], np.uint8), Grey(8, False), DicomRendering())).tolist() == [[7, 9]]


def test_the_models_own_window_stands_above_the_files() -> None:
    stored = np.array([[0, 1000, 1040, 2000]], dtype=np.uint16)
    grey = Grey(12, False, intercept=-1000, voi=Lut(0, 8, np.zeros(4, np.uint16)))
    shown = np.asarray(render_grey(stored, grey, DicomRendering(window=(40, 400))))
    assert shown.tolist() == [[0, 102, 128, 255]]


def test_palettes_are_scaled_from_their_bits() -> None:
    entries = np.array([0, 32768, 65535], dtype=np.uint16)
    luts = (Lut(5, 16, entries), Lut(5, 16, entries[::-1].copy()), Lut(5, 16, entries))
    image = np.asarray(render_palette(np.array([[0, 5, 6, 7, 9]], np.uint8), luts))
    assert image[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert image[0, :, 1].tolist() == [255, 255, 128, 0, 0]
    small = Lut(0, 16, np.array([0, 255], np.uint16))
    assert np.asarray(render_palette(np.array([[1]], np.uint8), (small, small, small))).tolist() == [[[255, 255, 255]]]


def test_segments_of_a_palette() -> None:
    """C.7.9.2: discrete, linear, and an indirect one that copies both of them."""
    units = np.array([0, 2, 100, 200, 1, 4, 0, 2, 2, 0, 0], dtype=np.uint16)
    assert expanded(units, 12).tolist() == [100, 200, 150, 100, 50, 0, 100, 200, 150, 100, 50, 0]
    endless = np.array([0, 1, 5, *([1, 65535, 9] * 50)], dtype=np.uint16)
    for damaged in (units[:-1], units[:3], np.array([1, 4, 0], np.uint16), np.array([7, 1, 1], np.uint16), endless):
        with pytest.raises(ImageError, match="palette"):
            expanded(damaged, 12)


def test_ybr_full_is_converted_by_the_clauses_equations() -> None:
    """C.7.6.3.1.2, to a grey level: Y = 0.299 R + 0.587 G + 0.114 B, Cb and Cr about 128."""
    rgb = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(float)
    red, green, blue = (rgb[..., channel] for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    ybr = np.stack([luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], axis=-1)
    back = np.asarray(render_colour(np.clip(np.rint(ybr), 0, 255).astype(np.uint8), 8, "YBR_FULL")).astype(float)
    assert np.abs(back - rgb).max() <= 2
    sixteen = render_colour(np.array([[[0, 32768, 65535]]], np.uint16), 16, "RGB")
    assert np.asarray(sixteen).tolist() == [[[0, 128, 255]]]
    with pytest.raises(ImageError, match="YBR"):
        render_colour(np.zeros((2, 2, 3), np.uint16), 16, "YBR_FULL")


def test_pixels_are_made_square() -> None:
    from PIL import Image

    image = Image.fromarray(np.zeros((30, 40), np.uint8))
    assert square_pixels(image, 4 / 3).size == (40, 40)
    assert square_pixels(image, 0.5).size == (80, 30)
    assert square_pixels(image, 1.001) is image
    with pytest.raises(ImageError, match="times as high"):
        square_pixels(image, 400)


@pytest.mark.parametrize("window", [(40.0, 0.5), (float("nan"), 100.0)])
def test_an_absurd_window_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="window"):
        DicomRendering(window=window)
