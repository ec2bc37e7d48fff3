from __future__ import annotations

from pathlib import Path

import pytest
from highdicom.sr import ComprehensiveSR
from pydicom import dcmread
from pydicom.dataset import Dataset

from medcompress.cli.main import run


def test_predict_leaves_a_report_for_each_dicom_file(
    pristine_bundle: Path, source: Dataset, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "chest.dcm", tmp_path / "out"
    source.save_as(path, enforce_file_format=True)
    arguments = ["predict", str(pristine_bundle), "--dicom-out", str(out)]
    assert run([*arguments, str(path)]) == 0
    answer = capsys.readouterr().out
    report = ComprehensiveSR.from_dataset(dcmread(out / "chest-report.dcm"))
    (group,) = report.content.get_image_measurement_groups()
    assert f"chest.dcm: {group.finding_type.meaning} " in answer
    assert run([*arguments, str(image)]) == 2
    assert f"{image}: is not a DICOM file, and a DICOM answer is filed beside one" in capsys.readouterr().err
    assert run([*arguments, str(path), str(tmp_path / "other" / "chest.png")]) == 2
    assert "several images are called chest" in capsys.readouterr().err
