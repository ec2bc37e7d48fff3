from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import ComprehensiveSR
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medcompress.runtime.bundle import Bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.dicom.answering import read_header
from medcompress.runtime.dicom.derived import to_bytes
from medcompress.runtime.dicom.report import make_report
from medcompress.runtime.errors import ImageError
from medcompress.runtime.prediction import Prediction

BINARY = Decision("binary", ("NORMAL", "VIRAL PNEUMONIA OF THE LUNG"), "VIRAL PNEUMONIA OF THE LUNG", threshold=0.3)
INPUT = "cd" * 32
FINDINGS = Decision("multilabel", ("Effusion", "Nodule", "Masse é"), thresholds=(0.2, 0.5, 0.7))


def prediction(decision: Decision, *probabilities: float, labels: tuple[str, ...]) -> Prediction:
    named = dict(zip(decision.classes, probabilities, strict=True))
    cautions = ("it was compressed with loss",)
    return Prediction(labels[0] if labels else None, labels, named, {}, "onnxruntime-fp32", cautions)


def again(report: Dataset) -> ComprehensiveSR:
    """As another program reads it, from its bytes."""
    return ComprehensiveSR.from_dataset(dcmread(io.BytesIO(to_bytes(report))))


def texts(item: Dataset) -> list[str]:
    """Every text of the content tree, in its order."""
    found = [item.TextValue] if "TextValue" in item else []
    return found + [text for child in item.get("ContentSequence", []) for text in texts(child)]


@pytest.fixture
def binary(source: Dataset, record: Callable[[Decision], Bundle]) -> Callable[..., Dataset]:
    answer = prediction(BINARY, 0.25, 0.75, labels=("VIRAL PNEUMONIA OF THE LUNG",))
    return lambda **options: make_report(source, answer, record(BINARY), input_sha256=INPUT, **options)


def test_the_answer_reads_back(source: Dataset, binary: Callable[..., Dataset]) -> None:
    report = again(binary())
    (group,) = report.content.get_image_measurement_groups()
    assert group.finding_type.meaning == "VIRAL PNEUMONIA OF THE LUNG"
    measured = {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}
    assert measured == {
        "Probability of NORMAL": (0.25, "1"),
        "Probability of VIRAL PNEUMONIA OF THE LUNG": (0.75, "1"),
        "Decision threshold of VIRAL PNEUMONIA OF THE LUNG": (0.3, "1"),
    }
    (status,) = group.get_qualitative_evaluations(codes.DCM.SummaryOfAnalyses)
    assert status.value == codes.DCM.Succeeded
    assert {f"bundle sha256={'ab' * 32}", f"input sha256={INPUT}", "variant=onnxruntime-fp32", "medcompress"} <= set(
        texts(report)
    )
    assert "it was compressed with loss" in texts(report)
    (image,) = group.source_images
    assert image.referenced_sop_instance_uid == source.SOPInstanceUID
    (evidence,) = report.get_evidence(current_procedure_only=True)
    expected = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID, source.SOPClassUID)
    assert evidence == expected
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == "medcompress"


def test_it_is_filed_in_the_study_of_the_image_and_in_a_series_of_its_own(
    source: Dataset, binary: Callable[..., Dataset]
) -> None:
    report, other = again(binary(receipt="a")), again(binary(receipt="b"))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyID"):
        assert report[keyword].value == source[keyword].value, keyword
    assert report.StudyDescription == "Chest"
    assert report.InstanceNumber == source.InstanceNumber
    assert report.SeriesInstanceUID == other.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.SOPInstanceUID == again(binary(receipt="a")).SOPInstanceUID != other.SOPInstanceUID
    assert again(binary()).SOPInstanceUID != again(binary()).SOPInstanceUID, "answered twice"
    assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    assert "PixelData" not in report


def test_not_for_clinical_use_unless_its_user_says_so(binary: Callable[..., Dataset]) -> None:
    report = binary()
    assert report.SeriesDescription.startswith("NOT FOR CLINICAL USE")
    assert texts(report)[4].startswith("NOT FOR CLINICAL USE"), "right after the observer, ahead of the answer"
    clinical = binary(clinical=True)
    assert b"CLINICAL" not in to_bytes(clinical)
    assert clinical.SeriesInstanceUID != report.SeriesInstanceUID


def test_several_findings_are_present_or_absent_and_none_is_listed_that_was_not_found(
    source: Dataset, record: Callable[[Decision], Bundle]
) -> None:
    answer = prediction(FINDINGS, 0.3, 0.1, 0.9, labels=("Masse é", "Effusion"))
    report = again(make_report(source, answer, record(FINDINGS), input_sha256=INPUT))
    (group,) = report.content.get_image_measurement_groups()
    assert group.finding_type is None
    found = {e.name.meaning: e.value.meaning for e in group.get_qualitative_evaluations()}
    assert found == {
        "Summary of Analyses": "Succeeded",
        "Effusion": "Present",
        "Nodule": "Absent",
        "Masse é": "Present",
    }
    assert {m.name.meaning: m.value for m in group.get_measurements()}["Decision threshold of Masse é"] == 0.7
    assert report.SpecificCharacterSet == "ISO_IR 192", "é is not in every character set"
    assert report.PatientName == source.PatientName


def test_a_refusal_says_why_and_answers_nothing(source: Dataset, record: Callable[[Decision], Bundle]) -> None:
    report = again(make_report(source, "it is all black", record(BINARY), input_sha256=INPUT))
    (group,) = report.content.get_image_measurement_groups()
    assert group.finding_type is None
    assert not group.get_measurements()
    (status,) = group.get_qualitative_evaluations()
    assert status.value == codes.DCM.NotAttempted
    assert "No answer was given: it is all black" in texts(report)


@pytest.mark.parametrize(
    "damage",
    [
        {"PatientID": None, "PatientName": None, "PatientSex": None, "StudyDate": None, "StudyTime": None},
        {"PatientSex": "FEMALE", "StudyTime": "noon", "PatientBirthDate": "29.02.1952"},
        {"SpecificCharacterSet": "LATIN-9"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {"InstanceNumber": None, "PatientID": "x" * 80, "PatientAge": "old", "PatientWeight": None},
    ],
)
def test_a_careless_header_still_gets_its_report(
    damage: dict[str, Any], source: Dataset, record: Callable[[Decision], Bundle]
) -> None:
    from pydicom import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
        for keyword, value in damage.items():
            if value is None:
                delattr(source, keyword) if keyword in source else None
            else:
                setattr(source, keyword, value)
    answer = prediction(BINARY, 0.9, 0.1, labels=("NORMAL",))
    report = again(make_report(source, answer, record(BINARY), input_sha256=INPUT))
    assert report.content.get_image_measurement_groups()[0].finding_type.meaning == "NORMAL"
    if "PatientName" in source:
        assert report.PatientName == source.PatientName


def test_no_value_of_the_header_reaches_a_log(
    source: Dataset,
    record: Callable[[Decision], Bundle],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pydicom import config

    with monkeypatch.context() as patch:
        patch.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
        source.PatientName, source.PatientID, source.PatientBirthDate = "SECRET", "SECRET" * 20, "SECRET"
    read = dcmread(io.BytesIO(to_bytes(source)))  # its values are looked at when they are asked for
    caplog.clear()
    recwarn.clear()
    caplog.set_level("DEBUG")
    to_bytes(make_report(read, "why", record(BINARY), input_sha256=INPUT))
    assert "SECRET" not in caplog.text
    assert not [str(warning.message) for warning in recwarn if "SECRET" in str(warning.message)]


def test_histories_stay_with_the_image_and_what_is_absurdly_long_too(
    source: Dataset, record: Callable[[Decision], Bundle]
) -> None:
    """200,000 items take pydicom two minutes: they are not taken apart."""
    source.PatientComments = source.OtherPatientNames = source.AdditionalPatientHistory = "NOBODYS BUSINESS"
    raw = bytearray(to_bytes(source))
    place = raw.index(b"\x10\0\x10\0")  # Procedure Code Sequence goes before the patient's name
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 200_000
    raw[place:place] = b"\x08\0\x32\x10SQ\0\0" + len(items).to_bytes(4, "little") + items
    start = time.process_time()
    report = to_bytes(make_report(read_header(bytes(raw)), "is dark", record(BINARY), input_sha256=INPUT))
    assert time.process_time() - start < 20
    assert b"NOBODYS" not in report
    assert len(report) < 20_000


@pytest.mark.parametrize(("keyword", "value"), [("StudyInstanceUID", ""), ("SOPInstanceUID", "4711.SECRET")])
def test_nothing_is_filed_beside_an_image_without_identity(
    keyword: str, value: str, source: Dataset, record: Callable[[Decision], Bundle]
) -> None:
    source[keyword].value = value
    with pytest.raises(ImageError, match=f"no valid {keyword}") as refused:
        make_report(source, "whatever", record(BINARY), input_sha256=INPUT)
    assert "SECRET" not in str(refused.value)


def test_dcmtk_reads_it_and_dicom3tools_finds_no_error(
    binary: Callable[..., Dataset],
    source: Dataset,
    record: Callable[[Decision], Bundle],
    tmp_path: Path,
    tool: Callable[..., str],
) -> None:
    answer = prediction(FINDINGS, 0.3, 0.1, 0.9, labels=("Masse é", "Effusion"))
    reports = {
        "answer": binary(),
        "findings": make_report(source, answer, record(FINDINGS), input_sha256=INPUT),
        "refusal": make_report(source, "it is all black", record(BINARY), input_sha256=INPUT),
    }
    for name, report in reports.items():
        (tmp_path / name).write_bytes(to_bytes(report))
    dumped = tool("dsrdump", "+Pc", "+Pl", tmp_path / "answer")
    assert '(121071,DCM,"Finding")=(' in dumped
    assert '"Probability of VIRAL PNEUMONIA OF THE LUNG")="0.75" (1,UCUM,"no units")' in dumped
    for name in reports:
        assert not {"E:", "F:"} & {line[:2] for line in tool("dsrdump", "-v", tmp_path / name).splitlines()}
        judged = tool("dciodvfy", tmp_path / name).splitlines()
        assert "ComprehensiveSR" in judged
        assert not [line for line in judged if line.startswith("Error")]


def test_the_real_scanners_images_get_reports(
    shared_data: Path, record: Callable[[Decision], Bundle], tmp_path: Path, tool: Callable[..., str]
) -> None:
    files = sorted((shared_data / "dicom" / "real_scanner").glob("*.dcm"))
    assert files
    answer = prediction(BINARY, 0.9, 0.1, labels=("NORMAL",))
    for file in files:
        source = dcmread(file, stop_before_pixels=True)
        source.StudyInstanceUID = source.get("StudyInstanceUID") or generate_uid()
        path = tmp_path / file.name
        path.write_bytes(to_bytes(make_report(source, answer, record(BINARY), input_sha256=INPUT)))
        assert "Imaging Measurement Report" in tool("dsrdump", path), file.name
        # What the source itself lacks is not ours to invent.
        errors = [line for line in tool("dciodvfy", path).splitlines() if line.startswith("Error")]
        assert all("DeidentificationMethod" in line for line in errors), file.name
