"""From stored values to the grey levels or colours a reader would see: one function per concept of the standard.

    stored values -> modality LUT or rescale -> VOI LUT or window -> polarity, last -> 8 bits

Every step but the last looks at one value alone, so the chain is worked out once for each value there is, in float64,
and the pixels are looked up: exact, and a full-field mammogram takes little memory. Clauses are of DICOM PS3.3
(https://dicom.nema.org/medical/dicom/current/output/html/part03.html).

pydicom's own functions were read beside the clauses and not taken: its windowing scales to the range of the bits
rather than to what is shown, its VOI LUT wraps around where entries have 8 bits and there are more than 256, and its
presentation LUT inverts about the brightest pixel of the image at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError
from .policy import ANY, DicomPolicy

Values: TypeAlias = npt.NDArray[np.float64]
Stored: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

# Of one image, also once its pixels are square. A JPEG 2000 decoder holds 4 bytes a sample beside the image: with
# these, half a gigabyte in all is not reached.
MAX_SAMPLES = 50_000_000
# Pixels looked up together: numpy widens the indices to 8 bytes each.
_BLOCK = 1 << 20


class DicomRendering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a DICOM file becomes 8-bit pixels; equal values give equal pixels.

    Attributes:
        window: (centre, width) in place of what the file says, in the units of its modality LUT: Hounsfield for CT.
        view: which of several windows or VOI LUTs the file offers; the first is 0.
        unwindowed: more than 8 bits and no window: from the darkest to the brightest pixel (``extent``), or the whole
            range of the bits (``bits``). Images of 8 bits are then shown as they are.
        frame: of several: that number, from 1; the ``middle`` one; or ``only``: files with several are refused.
        padding: pixels with the padding value, which no detector measured, are ``black``, or like any other (``keep``).
        policy: which files are refused, and which answered with a caution.
    """

    window: tuple[float, float] | None = None
    view: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0
    unwindowed: Literal["extent", "bits"] = "extent"
    frame: Annotated[int, msgspec.Meta(ge=1)] | Literal["only", "middle"] = "only"
    padding: Literal["black", "keep"] = "black"
    policy: DicomPolicy = DicomPolicy()

    def __post_init__(self) -> None:
        if self.window is not None and not (np.isfinite(self.window).all() and self.window[1] >= 1):
            raise ValueError(f"window {self.window}: the centre is a number and the width at least 1")


# To look at any file that has a picture: for counting, comparing and showing images, not for an answer.
LENIENT = DicomRendering(frame="middle", policy=ANY)


class Lut(msgspec.Struct, frozen=True):
    """A lookup table (C.11.1.1.1, C.11.2.1.1, C.7.6.3.1.5).

    Attributes:
        first: the value that the first entry is for; smaller ones take it too, larger ones than the last take the last.
        bits: of an entry.
        entries: unsigned.
    """

    first: int
    bits: int
    entries: npt.NDArray[np.uint16]

    def look_up(self, values: Values | Stored) -> npt.NDArray[np.uint16]:
        """The entry for each value; values between two whole numbers take the nearer one's."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.intp)]


class Window(msgspec.Struct, frozen=True):
    """Window Center, Window Width and VOI LUT Function (C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: Function = "LINEAR"


class Grey(msgspec.Struct, frozen=True):
    """What a file says of how one frame's grey levels are shown.

    Attributes:
        bits, signed: of a stored value.
        slope, intercept: of the rescale; ``modality`` stands in its place.
        voi: the chosen view; None where there is none.
        inverse: the smallest value is shown white.
        padding: first and last stored value of what is padding.
    """

    bits: int
    signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    voi: Lut | Window | None = None
    inverse: bool = False
    padding: tuple[int, int] | None = None


def render_grey(stored: Stored, grey: Grey, rendering: DicomRendering) -> Image.Image:
    """Stored values (H, W) of MONOCHROME1 or 2 to 8-bit grey, through the whole chain (C.7.6.3.1.2, C.11)."""
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    padded = is_padding(levels, grey.padding if rendering.padding == "black" else None)
    values = modality_values(levels, grey)
    voi = Window(*rendering.window) if rendering.window else grey.voi
    if isinstance(voi, Window):
        shown = windowed(values, voi)
    elif voi is not None:
        shown = voi.look_up(values) / (2.0**voi.bits - 1)
    elif rendering.unwindowed == "extent" and grey.bits > 8:
        shown = between(values, *_extent(stored, low, values, padded))
    else:
        shown = between(values, *modality_range(grey))
    if grey.inverse:
        shown = 1 - shown
    table = eight_bits(shown)
    table[padded] = 0
    return Image.fromarray(_looked_up(table, stored, low))


def is_windowed(grey: Grey, rendering: DicomRendering) -> bool:
    """Whether the grey levels are shown as the file or the model says, whatever else the image holds."""
    return bool(rendering.window or grey.voi) or grey.bits <= 8 or rendering.unwindowed == "bits"


def modality_values(stored: Stored, grey: Grey) -> Values:
    """Modality LUT, or rescale slope and intercept: stored values to those of the modality (C.11.1)."""
    if grey.modality is not None:
        return grey.modality.look_up(stored).astype(np.float64)
    return stored * grey.slope + grey.intercept


def modality_range(grey: Grey) -> tuple[float, float]:
    """The smallest and largest value the modality LUT or rescale can give (C.11.1.1)."""
    if grey.modality is not None:
        return 0.0, 2.0**grey.modality.bits - 1
    first = -(2 ** (grey.bits - 1)) if grey.signed else 0
    ends = sorted(value * grey.slope + grey.intercept for value in (first, first + 2**grey.bits - 1))
    return ends[0], ends[1]


def windowed(values: Values, window: Window) -> Values:
    """A window: values to 0 (the darkest shown) .. 1 (C.11.2.1.2.1 LINEAR, C.11.2.1.3.1 SIGMOID, .2 LINEAR_EXACT)."""
    if window.function == "SIGMOID":
        steps = np.clip(-4 * (values - window.center) / window.width, -700, 700)
        return 1 / (1 + np.exp(steps))
    linear = window.function == "LINEAR"
    center, width = (window.center - 0.5, window.width - 1) if linear else (window.center, window.width)
    if width == 0:  # LINEAR of width 1 is a step
        return (values > center).astype(np.float64)
    return between(values, center - width / 2, center + width / 2)


def between(values: Values, low: float, high: float) -> Values:
    """Values to 0 at ``low`` and 1 at ``high``, cut off outside; all 0 where there is nothing between them."""
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def is_padding(stored: Stored, padding: tuple[int, int] | None) -> npt.NDArray[np.bool_]:
    """Which stored values are Pixel Padding Value, to Pixel Padding Range Limit (C.7.5.1.1.2, C.7.6.3.1.2)."""
    if padding is None:
        return np.zeros(stored.shape, np.bool_)
    return (stored >= padding[0]) & (stored <= padding[1])


def eight_bits(shown: Values) -> npt.NDArray[np.uint8]:
    """0..1 to the nearest of 0..255."""
    return np.floor(shown * 255 + 0.5).astype(np.uint8)


def render_palette(stored: Stored, palette: tuple[Lut, Lut, Lut]) -> Image.Image:
    """Stored values (H, W) of PALETTE COLOR to RGB (C.7.6.3.1.5, C.7.6.3.1.6)."""
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    # What is written as 16 bits and never exceeds 8 was meant as 8: it would be all black otherwise.
    small = all(lut.entries.max() <= 255 for lut in palette)
    channels = [
        _looked_up(eight_bits(lut.look_up(levels) / (255.0 if small else 2.0**lut.bits - 1)), stored, low)
        for lut in palette
    ]
    return Image.merge("RGB", [Image.fromarray(channel) for channel in channels])


def render_colour(stored: Stored, bits: int, photometric: str) -> Image.Image:
    """Samples (H, W, 3) to RGB: RGB as it is, YBR_FULL converted (C.7.6.3.1.2).

    Pillow's YCbCr is JFIF's (ITU T.871), the same equations.

    Raises:
        ImageError: YBR of more than 8 bits, which the standard does not know.
    """
    if photometric.startswith("YBR"):
        if bits != 8:
            raise ImageError(f"holds {photometric} of {bits} bits, which the standard does not know; export it as RGB")
        return Image.fromarray(np.ascontiguousarray(stored, np.uint8), "YCbCr").convert("RGB")
    if bits == 8:
        return Image.fromarray(np.ascontiguousarray(stored, np.uint8))
    table = eight_bits(np.arange(2**bits) / (2.0**bits - 1))
    return Image.fromarray(_looked_up(table, np.minimum(stored, 2**bits - 1), 0))


def square_pixels(image: Image.Image, ratio: float) -> Image.Image:
    """The image with pixels as wide as high, the narrower side enlarged (C.7.6.3.1.7).

    Args:
        ratio: height of a pixel to its width, as Pixel Aspect Ratio or the pixel spacing gives it.

    Raises:
        ImageError: no picture has such pixels, or so many of them.
    """
    if abs(ratio - 1) < 0.005:
        return image
    if not 0.1 <= ratio <= 10:
        raise ImageError(f"says its pixels are {ratio:g} times as high as wide, which no picture's are")
    width, height = image.size
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if size[0] * size[1] * len(image.getbands()) > MAX_SAMPLES:
        raise ImageError(f"has too many pixels once they are square, {size[0]} x {size[1]}")
    return image.resize(size, Image.Resampling.BILINEAR)


def _extent(stored: Stored, low: int, values: Values, padded: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The smallest and largest modality value in the image, padding left out."""
    present = np.zeros(len(values), np.bool_)
    for part in _parts(stored):
        present[np.subtract(part, low, dtype=np.int64)] = True
    found = values[present & ~padded]
    return (float(found.min()), float(found.max())) if len(found) else (0.0, 0.0)


def _looked_up(table: npt.NDArray[np.uint8], stored: Stored, low: int) -> npt.NDArray[np.uint8]:
    """``table[stored - low]``, of any shape, part by part."""
    shown = np.empty(stored.shape, np.uint8)
    for out, part in zip(_parts(shown), _parts(stored), strict=True):
        np.take(table, np.subtract(part, low, dtype=np.int64), out=out, mode="clip")
    return shown


def _parts(array: Stored) -> Iterator[Stored]:
    rows = max(1, _BLOCK // max(1, array[0].size))
    return (array[start : start + rows] for start in range(0, len(array), rows))
