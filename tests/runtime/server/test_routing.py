"""Which of several models answers: by name, by task, and by what a DICOM file says of itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from medcompress.runtime.dicom.policy import DicomPolicy
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import ImageError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.server.failures import ServingError, failure_of
from medcompress.runtime.server.models import Model, open_models
from medcompress.runtime.server.routing import narrow, pick
from medcompress.runtime.server.settings import Settings

from .conftest import write_fake_bundle

POLICIES = {
    "chest": DicomPolicy(modalities=("CR", "DX"), body_parts=("CHEST",)),
    "hand": DicomPolicy(modalities=("CR", "DX"), body_parts=("HAND",)),
    "breast": DicomPolicy(modalities=("MG",)),
    "photo": DicomPolicy(),
}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """One a policy."""
    for name, policy in POLICIES.items():
        preprocessing = Preprocessing((16, 16), dicom=DicomRendering(policy=policy))
        write_fake_bundle(tmp_path / name, tmp_path / "wait", preprocessing=preprocessing)
    return open_models(Settings(tuple(str(tmp_path / name) for name in POLICIES)))


def dicom(modality: str, body_part: str) -> bytes:
    """A picture of 4 x 4 pixels."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.ComputedRadiographyImageStorage, pydicom.uid.generate_uid()
    data.PatientName, data.Modality, data.BodyPartExamined = "DOE^JOHN", modality, body_part
    data.Rows = data.Columns = 4
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = bytes(16)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("modality", "body_part", "name"),
    [("CR", "CHEST", "chest"), ("DX", "HAND", "hand"), ("MG", "BREAST", "breast"), ("MG", "", "breast")],
)
def test_a_dicom_file_finds_the_model_made_for_it(
    models: dict[str, Model], modality: str, body_part: str, name: str
) -> None:
    assert pick(list(models.values()), dicom(modality, body_part)).name == name


def test_what_no_model_names_goes_to_one_that_takes_any(models: dict[str, Model]) -> None:
    file = dicom("CT", "HEAD")
    assert pick(list(models.values()), file).name == "photo"
    del models["photo"]
    with pytest.raises(ServingError, match="no model here is made for") as refused:
        pick(list(models.values()), file)
    assert refused.value.kind == "refused" and "DOE" not in str(refused.value)


def test_a_picture_that_says_nothing_of_itself_needs_a_name(models: dict[str, Model]) -> None:
    with pytest.raises(ServingError, match="chest, hand, breast, photo") as ambiguous:
        pick(narrow(models, None, "clear / opacity"), b"\x89PNG\r\n\x1a\n")
    assert ambiguous.value.kind == "ambiguous"
    assert pick(narrow(models, "hand", None), b"\x89PNG\r\n\x1a\n").name == "hand"


def test_a_damaged_dicom_file_is_unreadable_and_a_wrong_one_refused(models: dict[str, Model]) -> None:
    with pytest.raises(ImageError) as damaged:
        pick(list(models.values()), dicom("CR", "CHEST")[:200])
    assert failure_of(damaged.value).kind == "unreadable"
    with pytest.raises(ImageError) as wrong:
        models["breast"].members[0].bundle.manifest.preprocessing.render(dicom("CR", "CHEST"))
    assert failure_of(wrong.value).kind == "refused"
