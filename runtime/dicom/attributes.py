"""What a DICOM header says of an image, checked and as plain records; of the patient nothing is read.

Clauses are of DICOM PS3.3. A value that is absurd, or that contradicts another, refuses the file: a guess about grey
levels would be answered like an image. No value that could name a patient is ever loaded, or repeated in a message.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from ..errors import ImageError
from .policy import Origin
from .regions import body_part
from .rendering import MAX_SAMPLES, DicomRendering, Function, Grey, Lut, Window, modality_range
from .tables import lut_of
from .values import as_signed, integer_of, items_of, needed, number_of, numbers_of, text_of, words_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# All that is read of a header; everything else, the patient's identity among it, is skipped over unread.
KEYWORDS = (
    *("SOPClassUID", "Modality", "BodyPartExamined", "AnatomicRegionSequence", "PresentationIntentType"),
    *("BurnedInAnnotation", "LossyImageCompression", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"),
    "NominalScannedPixelSpacing",
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelPresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape", "PresentationLUTSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
MAX_FRAMES = 100_000

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_FUNCTIONS: dict[str, Function] = {"LINEAR": "LINEAR", "LINEAR_EXACT": "LINEAR_EXACT", "SIGMOID": "SIGMOID"}
# What has pixels and is no image of a patient (PS3.4 B.5).
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NOT_IMAGES = {
    f"{_STORAGE}66.4": "a segmentation",
    f"{_STORAGE}66.7": "a segmentation",
    f"{_STORAGE}30": "a parametric map",
    f"{_STORAGE}481.2": "a distribution of radiation dose",
}


class Pixels(msgspec.Struct, frozen=True):
    """The Image Pixel Module (C.7.6.3): how one frame's samples are stored.

    Attributes:
        samples: 1 (grey, palette) or 3.
        allocated, stored: bits of a sample: 8 or 16, and those of them that are used.
        planar: the colours lie one after the other (C.7.6.3.1.3).
        frames: how many there are.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    planar: bool
    frames: int


def pixels_of(header: Dataset) -> Pixels:
    """The Image Pixel Module (C.7.6.3).

    Raises:
        ImageError: no picture, or one of a kind that is not read.
    """
    kind = text_of(header, "SOPClassUID")
    if not kind:
        raise ImageError("does not say what kind of object it is (SOP Class UID); export it again")
    if kind in _NOT_IMAGES:
        raise ImageError(f"is {_NOT_IMAGES[kind]}, not an image of a patient", "no-picture")
    if not integer_of(header, "Rows") or not integer_of(header, "Columns"):
        raise ImageError("holds no picture: it is a report, a plan or another object without pixels", "no-picture")
    pixels = Pixels(
        needed(header, "Rows"),
        needed(header, "Columns"),
        needed(header, "SamplesPerPixel"),
        needed(header, "BitsAllocated"),
        needed(header, "BitsStored"),
        _flag("PixelRepresentation", needed(header, "PixelRepresentation")),
        text_of(header, "PhotometricInterpretation"),
        _flag("PlanarConfiguration", integer_of(header, "PlanarConfiguration")),
        integer_of(header, "NumberOfFrames", 1),
    )
    if pixels.allocated == 1:
        raise ImageError("has 1 bit a pixel: it is a mask (a segmentation), not an image", "no-picture")
    if pixels.allocated not in (8, 16):
        raise ImageError(f"has {pixels.allocated} bits a sample; only 8 and 16 are read")
    if not 1 < pixels.stored <= pixels.allocated:
        raise ImageError(f"says {pixels.stored} of {pixels.allocated} bits are used, which cannot be")
    if integer_of(header, "HighBit", pixels.stored - 1) != pixels.stored - 1:
        raise ImageError("keeps its values in the upper bits (High Bit), which the standard no longer allows")
    expected = 3 if pixels.photometric in _COLOURS else 1
    if pixels.photometric not in (*_COLOURS, *_GREYS, "PALETTE COLOR"):
        raise ImageError("has a photometric interpretation that is not read; export it as MONOCHROME2 or RGB")
    if pixels.samples != expected:
        raise ImageError(f"is {pixels.photometric} with {pixels.samples} samples a pixel, which cannot be")
    if pixels.signed and expected == 3:
        raise ImageError(f"is {pixels.photometric} of signed samples, which cannot be")
    if pixels.rows * pixels.columns * pixels.samples > MAX_SAMPLES:
        raise ImageError(
            f"{pixels.columns} x {pixels.rows} of {pixels.samples} samples has too many pixels, "
            f"the limit is {MAX_SAMPLES:,} samples"
        )
    if not 1 <= pixels.frames <= MAX_FRAMES:
        raise ImageError(f"says it has {pixels.frames} frames; between 1 and {MAX_FRAMES:,} are read")
    return pixels


def origin_of(header: Dataset, frame: int) -> Origin:
    """How the image came about (C.7.3.1, C.7.6.1, C.8.11.1)."""
    return Origin(
        text_of(header, "Modality"),
        _body_part(header, frame),
        text_of(header, "SOPClassUID"),
        text_of(header, "PresentationIntentType"),
        text_of(header, "BurnedInAnnotation") == "YES",
        text_of(header, "LossyImageCompression") == "01",
    )


def grey_of(header: Dataset, pixels: Pixels, frame: int, rendering: DicomRendering) -> Grey:
    """How a frame's grey levels are shown (C.7.6.3.1.2, C.11.1, C.11.2, C.11.6, C.7.6.16.2.9 and .10).

    Raises:
        ImageError: values that are absurd or contradict each other.
    """
    if text_of(header, "PixelPresentation") in ("COLOR", "MIXED"):
        raise ImageError("colours some of its grey levels (a supplemental palette), which is not read")
    rescale = _group(header, frame, "PixelValueTransformationSequence")
    slope, intercept = number_of(rescale, "RescaleSlope", 1.0), number_of(rescale, "RescaleIntercept", 0.0)
    if slope == 0:
        raise ImageError("has a rescale slope of 0, which leaves no picture")
    tables = items_of(header, "ModalityLUTSequence")
    grey = Grey(
        pixels.stored,
        pixels.signed,
        slope,
        intercept,
        lut_of(tables[0], "LUTDescriptor", "LUTData", signed=pixels.signed) if tables else None,
        inverse=_inverse(header, pixels.photometric),
        padding=_padding(header, pixels),
    )
    low, high = modality_range(grey)
    if not math.isfinite(high - low):
        raise ImageError("has a rescale that leads to no numbers")
    if rendering.window:
        return grey
    voi = _voi(_group(header, frame, "FrameVOILUTSequence"), rendering.view, low < 0)
    return msgspec.structs.replace(grey, voi=voi)


def pixel_ratio(header: Dataset, frame: int) -> float:
    """Height of a pixel to its width (C.7.6.3.1.7, or the spacing between rows and columns, 10.7.1.3)."""
    measures = _group(header, frame, "PixelMeasuresSequence")
    spacings = ((header, "ImagerPixelSpacing"), (header, "NominalScannedPixelSpacing"))
    for source, keyword in ((header, "PixelAspectRatio"), (measures, "PixelSpacing"), *spacings):
        sides = numbers_of(source, keyword)
        if len(sides) == 2 and min(sides) > 0:
            return sides[0] / sides[1]
    return 1.0


def _flag(keyword: str, value: int) -> bool:
    if value not in (0, 1):
        raise ImageError(f"has a {keyword} that is neither 0 nor 1")
    return bool(value)


def _inverse(header: Dataset, photometric: str) -> bool:
    """Whether the smallest value is white: MONOCHROME1, or Presentation LUT Shape INVERSE, which say the same once."""
    if items_of(header, "PresentationLUTSequence"):
        raise ImageError("has a presentation LUT of its own, which is not read")
    shape = text_of(header, "PresentationLUTShape")
    if shape not in ("", "IDENTITY", "INVERSE"):
        raise ImageError("has a presentation LUT shape that is neither IDENTITY nor INVERSE")
    if photometric == "MONOCHROME1" and shape == "IDENTITY":
        raise ImageError("says both MONOCHROME1 (low is white) and presentation LUT shape IDENTITY (low is black)")
    return photometric == "MONOCHROME1" or shape == "INVERSE"


def _padding(header: Dataset, pixels: Pixels) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit (C.7.5.1.1.2), as stored values."""
    ends = [
        as_signed(words[0], pixels.signed)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if (words := words_of(header, keyword))
    ]
    return (min(ends), max(ends)) if ends else None


def _voi(source: Dataset, view: int, signed: bool) -> Lut | Window | None:
    """The chosen view: VOI LUTs come first, then windows (C.11.2: they are alternatives, one is applied)."""
    tables = items_of(source, "VOILUTSequence")
    if view < len(tables):
        return lut_of(tables[view], "LUTDescriptor", "LUTData", signed=signed)
    centers, widths = numbers_of(source, "WindowCenter"), numbers_of(source, "WindowWidth")
    if len(centers) != len(widths):
        raise ImageError(f"has {len(centers)} window centres and {len(widths)} widths")
    if not tables and not centers and not view:
        return None
    if view >= len(tables) + len(centers):
        raise ImageError(f"offers {len(tables) + len(centers)} views, and the model asks for number {view + 1}")
    function = _FUNCTIONS.get(text_of(source, "VOILUTFunction") or "LINEAR")
    if function is None:
        raise ImageError("has a VOI LUT function that is none of LINEAR, LINEAR_EXACT and SIGMOID")
    width = widths[view - len(tables)]
    if width < 1 if function == "LINEAR" else width <= 0:
        raise ImageError(f"has a window {width:g} wide, which shows nothing")
    return Window(centers[view - len(tables)], width, function)


def _group(header: Dataset, frame: int, macro: str) -> Dataset:
    """What holds a macro's attributes: the frame's own group, the shared one, or the header itself (C.7.6.16)."""
    shared = items_of(header, "SharedFunctionalGroupsSequence")
    own = items_of(header, "PerFrameFunctionalGroupsSequence")
    for group in (*own[frame : frame + 1], *shared[:1]):
        found = items_of(group, macro)
        if found:
            return found[0]
    return header


def _body_part(header: Dataset, frame: int) -> str:
    """Body Part Examined, or else what the region's code stands for (C.7.3.1, 10.5)."""
    anatomy = _group(header, frame, "FrameAnatomySequence")
    regions = items_of(anatomy, "AnatomicRegionSequence") or items_of(header, "AnatomicRegionSequence")
    said = text_of(header, "BodyPartExamined")
    if said or not regions:
        return said
    return body_part(text_of(regions[0], "CodingSchemeDesignator"), text_of(regions[0], "CodeValue"))
