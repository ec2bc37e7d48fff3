"""From a DICOM file and its answer to the DICOM files that say it: a report, and a picture of the heat map if any."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import ImageError, missing_package
from ..predictor import Prediction
from . import report
from .derived import to_bytes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def read_header(source: Path | bytes) -> Dataset:
    """A DICOM file's data set without its pixels.

    Raises:
        ImageError: it is none; the message repeats nothing of it.
        MachineError: pydicom is not installed.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise missing_package("pydicom", "dicom-out") from error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dcmread(io.BytesIO(source) if isinstance(source, bytes) else source, stop_before_pixels=True)
        except Exception as error:  # a damaged file makes pydicom raise whatever its parsers meet first
            raise ImageError("is not a readable DICOM file, and a DICOM answer is filed beside one") from error


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
