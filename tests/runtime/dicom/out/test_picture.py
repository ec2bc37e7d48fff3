from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from medcompress.runtime.bundle import Bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.dicom.derived import to_bytes
from medcompress.runtime.dicom.picture import make_picture
from medcompress.runtime.prediction import Prediction

DECISION = Decision("binary", ("NORMAL", "PNEUMONIA"), "PNEUMONIA")


@pytest.fixture
def drawn(source: Dataset, image: Path, record: Callable[[Decision], Bundle]) -> Callable[..., Dataset]:
    """The picture as another program reads it; the upper left quarter of the image is hot."""
    rendered = np.asarray(Image.open(image).convert("L").resize((48, 48)))
    heat = np.zeros((48, 48), np.float32)
    heat[:24, :24] = 1
    probabilities = {"NORMAL": 0.1, "PNEUMONIA": 0.9}
    answer = Prediction(
        "PNEUMONIA", ("PNEUMONIA",), probabilities, {}, "onnxruntime-fp32", heat=heat, explained="PNEUMONIA"
    )

    def make(**changes: Any) -> Dataset:
        options = {"clinical": changes.pop("clinical", False)}
        for keyword, value in changes.items():
            source.pop(keyword, None)
            if value is not None:
                setattr(source, keyword, value)
        picture = make_picture(source, answer, record(DECISION), rendered, **options)
        return dcmread(io.BytesIO(to_bytes(picture)))

    return make


def test_the_image_is_shown_beside_itself_under_the_heat_map(drawn: Callable[..., Dataset], image: Path) -> None:
    pixels = drawn().pixel_array
    side = pixels.shape[1] // 2
    plain, warm, caption = pixels[:side, :side], pixels[:side, side:], pixels[side:]
    given = Image.open(image).convert("L").resize((48, 48))
    enlarged = given.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    assert np.array_equal(plain, np.asarray(enlarged))
    changed = (warm != plain).any(axis=2)
    assert changed[: side * 2 // 5, : side * 2 // 5].mean() > 0.9, "hot"
    assert not changed[side * 3 // 5 :].any(), "cold: as it was"
    assert caption.max() == 255


def test_it_is_a_derived_capture_of_the_same_study(drawn: Callable[..., Dataset], source: Dataset) -> None:
    picture = drawn()
    assert picture.SOPClassUID == SecondaryCaptureImageStorage
    assert picture.ImageType[0] == "DERIVED"
    assert (picture.StudyInstanceUID, picture.PatientName) == (source.StudyInstanceUID, source.PatientName)
    assert picture.SeriesInstanceUID != source.SeriesInstanceUID
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert "PixelSpacing" not in picture, "nothing is to be measured in it"
    assert picture.SeriesDescription.startswith("NOT FOR CLINICAL USE")
    assert picture.DerivationDescription.startswith("NOT FOR CLINICAL USE | PNEUMONIA: probability 0.900")
    clinical = drawn(clinical=True)
    assert b"CLINICAL" not in to_bytes(clinical)
    assert clinical.Rows < picture.Rows, "a line less"


@pytest.mark.parametrize("said", ["YES", "NO", None])
def test_burned_in_annotation_is_what_the_source_says(said: str | None, drawn: Callable[..., Dataset]) -> None:
    picture = drawn(BurnedInAnnotation=said, LossyImageCompression="01")
    assert picture.get("BurnedInAnnotation") == said
    assert picture.LossyImageCompression == "01", "once lossy, always lossy"


def test_dcmtk_shows_it_and_dicom3tools_finds_no_error(
    drawn: Callable[..., Dataset], tmp_path: Path, tool: Callable[..., str]
) -> None:
    picture = drawn(BodyPartExamined=None, PatientOrientation=None)
    (tmp_path / "picture.dcm").write_bytes(to_bytes(picture))
    judged = tool("dciodvfy", tmp_path / "picture.dcm").splitlines()
    assert "SCImage" in judged
    assert not [line for line in judged if line.startswith("Error")]
    tool("dcmj2pnm", "--write-raw-pnm", tmp_path / "picture.dcm", tmp_path / "picture.ppm")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.ppm")), picture.pixel_array)
