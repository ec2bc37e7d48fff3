"""From a DICOM file to the DICOM files that answer it: a report, and a picture of the heat map where there is one."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from ..bundle import Bundle
from ..errors import ImageError
from ..images import ImageSource
from ..prediction import Prediction
from ..predictor import Predictor
from . import picture, report
from .attributes import origin_of, pixels_of
from .derived import to_bytes
from .policy import judge
from .reading import HEAD, chosen_frame, is_dicom, whole_header
from .rendering import DicomRendering

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def read_header(data: bytes) -> Dataset:
    """A DICOM file's data set without its pixels.

    Raises:
        ImageError: it is none, or damaged; the message repeats nothing of it.
        MachineError: pydicom is not installed.
    """
    if not is_dicom(data[:HEAD]):
        raise ImageError("is not a DICOM file, and a DICOM answer is filed beside one")
    return whole_header(io.BytesIO(data))


def check_header(source: Dataset, rendering: DicomRendering) -> None:
    """Refuse by the header alone what would be refused once the pixels are read: wrong modality, several frames.

    Raises:
        ImageError: no picture, or one that the model does not take.
    """
    frame = chosen_frame(pixels_of(source).frames, rendering)
    judge(rendering.policy, origin_of(source, frame), windowed=True)


def predict_explained(predictor: Predictor, source: ImageSource) -> Prediction:
    """The answer, with a heat map where the bundle holds what makes one; a heat map that fails costs no answer.

    Raises: see :meth:`medcompress.runtime.Predictor.predict`.
    """
    explain = any(variant.explanation for variant in predictor.bundle.manifest.variants)
    return predictor.predict(source, explain=explain)


def encode_answer(
    data: bytes, answer: Prediction | str, bundle: Bundle, *, clinical: bool = False, receipt: str = ""
) -> dict[str, bytes]:
    """DICOM files that say the answer, by kind: ``report``, and ``picture`` where it has a heat map.

    Args:
        data: the DICOM file that was answered.
        answer, bundle, clinical, receipt: see :func:`medcompress.runtime.dicom.report.make_report`.

    Raises:
        ImageError: no DICOM file, or a header too damaged for anything to be filed beside the image.
        MachineError: highdicom is not installed.
    """
    source = read_header(data)
    digest = hashlib.sha256(data).hexdigest()
    told = report.make_report(source, answer, bundle, input_sha256=digest, clinical=clinical, receipt=receipt)
    results = {report.KIND: to_bytes(told)}
    if not isinstance(answer, str) and answer.heat is not None:
        rendered = bundle.manifest.preprocessing.render(data)
        shown = picture.make_picture(source, answer, bundle, rendered, clinical=clinical, receipt=receipt)
        results[picture.KIND] = to_bytes(shown)
    return results
