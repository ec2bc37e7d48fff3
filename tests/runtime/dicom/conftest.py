"""Small DICOM files made on the spot, with a patient in them whom nothing may name."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

# What must be found in no message, caution or log.
PATIENT = ("Testname", "HOSP-0815", "19610203", "ACC-4711", "1.2.826.0.1.3680043.8.498.4711")


def make_dicom(
    pixels: np.ndarray | None = None,
    *,
    syntax: str = "1.2.840.10008.1.2.1",
    frames: list[bytes] | None = None,
    data: bytes | None = None,
    **attributes: Any,
) -> bytes:
    """A computed radiograph as the bytes of a file.

    Args:
        pixels: (H, W), (N, H, W) with NumberOfFrames, or (H, W, 3); its type gives the bits.
        frames: compressed, in place of the pixels' own bytes.
        data: the pixel data as they are to lie in the file.
        attributes: by keyword, in place of the usual; None leaves one out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16) if pixels is None else pixels
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    header = Dataset()
    usual = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
        "SOPInstanceUID": PATIENT[4],
        "StudyInstanceUID": f"{PATIENT[4]}.1",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "PatientName": f"{PATIENT[0]}^Greta",
        "PatientID": PATIENT[1],
        "PatientBirthDate": PATIENT[2],
        "AccessionNumber": PATIENT[3],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        usual["PlanarConfiguration"] = 0
    for keyword, value in (usual | attributes).items():
        if value is not None:
            setattr(header, keyword, value)
    if "BitsStored" in header and "HighBit" not in header:
        header.HighBit = header.BitsStored - 1
    if frames is not None:
        data = encapsulate(frames)
    elif data is None:
        data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes() if syntax.endswith("1.2.2") else pixels.tobytes()
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OB" if frames is not None or bits == 8 else "OW"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = usual["SOPClassUID"]
    header.file_meta.MediaStorageSOPInstanceUID = PATIENT[4]
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def made() -> Callable[..., bytes]:
    """:func:`make_dicom`."""
    pytest.importorskip("pydicom")
    pytest.importorskip("imagecodecs")
    return make_dicom


@pytest.fixture(scope="session")
def patient() -> tuple[str, ...]:
    """What the files say of the patient."""
    return PATIENT
