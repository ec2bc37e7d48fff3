from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.data.confounding import confounds
from medcompress.benchmarks.data.samples import Sample, one_hot
from medcompress.benchmarks.data.scan import scan

CLASSES = ("HEALTHY", "ILL")


def images(folder: Path, suffix: dict[int, str], patients: int = 24) -> list[Sample]:
    rng = np.random.default_rng(0)
    samples = []
    for patient in range(patients):
        label = patient % 2
        path = folder / f"{patient}{suffix[label] if patient % 6 else '.png'}"
        Image.fromarray(rng.integers(0, 256, (30, 30), np.uint8)).save(path)
        samples.append(Sample(path, one_hot(label, 2), str(patient)))
    return samples


def test_a_format_that_tells_the_class_is_named(tmp_path: Path) -> None:
    found = confounds(scan(images(tmp_path, {0: ".png", 1: ".jpg"}, 48)), CLASSES)
    assert found.finding
    assert found.auroc is not None
    assert found.auroc > 0.9
    assert "file format: all 24 HEALTHY PNG, all 24 ILL JPEG" in found.finding


def test_files_alike_raise_no_alarm(tmp_path: Path) -> None:
    found = confounds(scan(images(tmp_path, {0: ".png", 1: ".png"})), CLASSES)
    assert (found.auroc, found.by_fact, found.finding) == (0.5, {}, "")


def test_of_too_few_patients_nothing_is_said(tmp_path: Path) -> None:
    assert confounds(scan(images(tmp_path, {0: ".png", 1: ".jpg"}, 12)), CLASSES).auroc is None
    assert confounds(scan([]), CLASSES).auroc is None


@pytest.mark.parametrize(("data", "names"), [("chest_4class", "TB from the rest.*file format.*76% of the TB JPEG")])
def test_the_public_set_whose_format_tells_the_class(shared_data: Path, data: str, names: str) -> None:
    folder = shared_data / data / "train"
    classes = sorted(path.name for path in folder.iterdir())
    samples = [
        Sample(path, one_hot(label, len(classes)), str(path))
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
    ]
    found = confounds(scan(samples), classes)
    assert found.auroc is not None
    assert found.auroc > 0.8
    assert "TB from the rest" in found.finding
    assert "file format" in found.finding
