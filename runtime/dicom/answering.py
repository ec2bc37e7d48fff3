"""From a DICOM file and its answer to the DICOM files that say it: a report, and a picture of the heat map if any."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import ImageError
from ..predictor import Prediction
from . import report
from .attributes import origin_of, pixels_of
from .derived import to_bytes
from .policy import judge
from .reading import HEAD, chosen_frame, is_dicom, whole_header
from .rendering import DicomRendering

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def read_header(source: Path | bytes) -> Dataset:
    """A DICOM file's data set without its pixels.

    Raises:
        ImageError: it is none, or damaged; the message repeats nothing of it.
        MachineError: pydicom is not installed.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if not is_dicom(file.read(HEAD)):
            raise ImageError("is not a DICOM file, and a DICOM answer is filed beside one")
        file.seek(0)
        return whole_header(file)


def check_header(source: Dataset, rendering: DicomRendering) -> None:
    """Refuse by the header alone what would be refused once the pixels are read: wrong modality, several frames.

    Raises:
        ImageError: no picture, or one that the model does not take.
    """
    frame = chosen_frame(pixels_of(source).frames, rendering)
    judge(rendering.policy, origin_of(source, frame), windowed=True)


def encode_answer(
    source: Dataset,
    prediction: Prediction,
    bundle: Bundle,
    rendered: npt.NDArray[np.uint8] | None,
    *,
    clinical: bool = False,
    receipt: str = "",
) -> dict[str, bytes]:
    """DICOM files that say the answer, by kind: ``report``, and ``picture`` where the prediction has a heat map.

    Args:
        source: of :func:`read_header`.
        rendered: the image as the network saw it; None leaves the picture out.
        prediction, bundle, clinical, receipt: see :func:`medcompress.runtime.dicom.report.make_report`.

    Raises:
        ImageError: the header is too damaged for anything to be filed beside the image.
        MachineError: highdicom is not installed.
    """
    told = report.make_report(source, prediction, bundle, clinical=clinical, receipt=receipt)
    return {report.KIND: to_bytes(told)}


def encode_refusal(
    source: Dataset, reason: str, bundle: Bundle, *, clinical: bool = False, receipt: str = ""
) -> dict[str, bytes]:
    """The DICOM file that says there is no answer, and why; arguments and errors as for :func:`encode_answer`."""
    told = report.make_refusal(source, reason, bundle, clinical=clinical, receipt=receipt)
    return {report.KIND: to_bytes(told)}
