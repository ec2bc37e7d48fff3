"""A heat map as a picture every viewer shows: a colour Secondary Capture in the study of the image it explains.

Why not a presentation state, which would leave the pixels with the image: a Grayscale Softcopy Presentation State
(PS3.3 section A.33.1) has no colour and no continuous overlay, the Advanced Blending one (A.33.6), which has both, is
shown by next to no viewer, and most viewers apply presentation states only on demand: the reader would see nothing.
An RGB Secondary Capture (A.8.1), uncompressed, is displayed by all of them as it is.

On the left the image as the network saw it, on the right the same under the heat map, below both a caption. Both are at
the network's size, enlarged: it says honestly how little the network saw, and no measuring is offered (no spacing).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..bundle import Bundle
from ..overlay import overlay
from ..prediction import Prediction
from .derived import (
    MAKER,
    NOT_FOR_CLINICAL_USE,
    charset,
    encoding,
    frames_of,
    header_of,
    instance_uid,
    plain,
    require_highdicom,
    series_parts,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KIND = "picture"
# Pixels from one line of the caption to the next.
_LINE = 18
# Copied where the source says so: our own caption names no patient and no date, but the source's pixels are under it.
_CARRIED = (
    *("BurnedInAnnotation", "RecognizableVisualFeatures", "LossyImageCompression", "LossyImageCompressionRatio"),
    *("LossyImageCompressionMethod", "PatientOrientation", "Laterality", "ImageLaterality", "BodyPartExamined"),
)


def make_picture(
    source: Dataset,
    prediction: Prediction,
    bundle: Bundle,
    rendered: npt.NDArray[np.uint8],
    *,
    clinical: bool = False,
    receipt: str = "",
) -> Dataset:
    """The heat map over the image, as a Secondary Capture of the same study, in a series of its own.

    Burned In Annotation is the source's: unsaid where the source does not say, since its pixels may name the patient.

    Args:
        source: the image's data set; its pixels are not needed.
        prediction: the answer, with its heat map.
        bundle: that answered.
        rendered: uint8 (H, W) or (H, W, 3): :meth:`Preprocessing.render` of the image.
        clinical: leave "NOT FOR CLINICAL USE" out; see :func:`medcompress.runtime.dicom.report.make_report`.
        receipt: likewise.

    Raises:
        ValueError: the prediction has no heat map.
        ImageError: the header is too damaged for anything to be filed beside the image.
        MachineError: highdicom is not installed.
    """
    highdicom = require_highdicom()
    if prediction.heat is None:
        raise ValueError("a picture is of a heat map, and this prediction has none: predict with explain=True")
    with encoding(KIND):
        from pydicom.dataset import Dataset
        from pydicom.sr.codedict import codes

        header = header_of(source)
        lines = _caption(prediction, bundle, rendered.shape[:2], clinical)
        capture = highdicom.sc.SCImage.from_ref_dataset(
            header,
            pixel_array=draw(prediction.heat, rendered, lines),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),  # it insists on one; replaced by the source's below
            sop_instance_uid=instance_uid(header, bundle, KIND, receipt),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            specific_character_set=charset(header, tuple(lines)),
            **series_parts(header, bundle, KIND, clinical),
        )
        capture.copy_patient_and_study_information(header)
        capture.PatientOrientation = ""
        for keyword in _CARRIED:
            if keyword in source:
                capture[keyword] = source[keyword]
        if "Laterality" not in capture and "ImageLaterality" not in capture and not capture.get("BodyPartExamined"):
            capture.Laterality = ""  # type 2C (PS3.3 section C.7.3.1): may be of a paired organ, and which is not known
        image = Dataset()
        image.ReferencedSOPClassUID = header.SOPClassUID
        image.ReferencedSOPInstanceUID = header.SOPInstanceUID
        if frames := frames_of(source, bundle):
            image.ReferencedFrameNumber = frames
        image.PurposeOfReferenceCodeSequence = [
            highdicom.sr.CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
        ]
        capture.SourceImageSequence = [image]
        capture.DerivationDescription = plain(" | ".join(lines), 1024)
        return capture


def draw(heat: npt.NDArray[np.float32], rendered: npt.NDArray[np.uint8], lines: list[str]) -> npt.NDArray[np.uint8]:
    """The picture: uint8 (height, width, 3). Image left, image under the heat map right, the lines below."""
    warm = overlay(rendered, heat)
    image = Image.fromarray(rendered).convert("RGB").resize(warm.size, Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (2 * warm.width, warm.height + _LINE * len(lines) + 8))
    sheet.paste(image, (0, 0))
    sheet.paste(warm, (warm.width, 0))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_LINE - 4)
    for row, line in enumerate(lines):
        pen.text((6, warm.height + 4 + _LINE * row), line, fill=(255, 255, 255), font=font)
    return np.asarray(sheet)


def _caption(prediction: Prediction, bundle: Bundle, shape: tuple[int, ...], clinical: bool) -> list[str]:
    decision = bundle.manifest.decision
    answered = [plain(f"{name}: probability {prediction.probabilities[name]:.3f}") for name in prediction.labels]
    if decision.kind == "binary":
        threshold = f"decision threshold of {decision.positive}: {decision.threshold:.3f}"
        answered = [f"{answered[0]} ({threshold})"]
    beware = len(prediction.cautions)
    return [
        *([] if clinical else [NOT_FOR_CLINICAL_USE]),
        ", ".join(answered) or "no finding",
        *([f"{beware} caution{'s' * (beware > 1)}: see the report"] if beware else []),
        f"violet to yellow: what spoke for {plain(prediction.explained or '', 32)}, roughly; "
        f"the image as the network saw it, {shape[1]} x {shape[0]} pixels",
        f"{MAKER} {version('medcompress')}, bundle {bundle.identity[:16]}, {prediction.variant}",
    ]
