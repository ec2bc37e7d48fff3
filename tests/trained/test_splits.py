"""Parts are found or drawn by patient, the same way every time and everywhere."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medcompress.runtime.errors import DataError
from medcompress.trained.splits import PARTS, DataSource, Split, find_split, split_of

WriteImages = Callable[..., Path]


def _patients(split: Split) -> dict[str, set[str]]:
    return {part: {sample.patient for sample in getattr(split, part)} for part in PARTS}


def _refuse_overlap(split: Split) -> None:
    patients = _patients(split)
    assert not patients["train"] & patients["val"]
    assert not patients["train"] & patients["test"]
    assert not patients["val"] & patients["test"]


def test_class_folders_are_split_by_patient_with_every_class_everywhere(tmp_path: Path, write_images: WriteImages):
    split = find_split(write_images(tmp_path / "d", {"A": 40, "B": 20, "C": 20}, images=3))
    _refuse_overlap(split)
    assert split.classes == ("A", "B", "C")
    sizes = {part: len(getattr(split, part)) for part in PARTS}
    assert sum(sizes.values()) == 240
    assert 36 <= sizes["test"] <= 60 and 15 <= sizes["val"] <= 36
    for part in PARTS:
        assert {sample.label for sample in getattr(split, part)} == {0, 1, 2}
    assert split.unrecognised == 0


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "Testing"), ("TRAIN", "validation", "Test")]
)
def test_given_parts_are_recognised(tmp_path: Path, write_images: WriteImages, names: tuple[str, str, str]):
    for name, count in zip(names, (4, 2, 3), strict=True):
        write_images(tmp_path / name, {"A": count, "B": count}, images=1)
    split = find_split(tmp_path)
    assert (len(split.train), len(split.val), len(split.test)) == (8, 4, 6)
    # The same file names in two parts are other patients.
    _refuse_overlap(split)


def test_only_the_missing_parts_are_drawn(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 16, "B": 16})
    write_images(tmp_path / "test", {"A": 5, "B": 5})
    split = find_split(tmp_path)
    _refuse_overlap(split)
    assert len(split.test) == 20
    assert len(split.train) + len(split.val) == 64
    assert len(split.val) == 8


def test_draw_depends_on_the_seed_but_not_on_the_place(tmp_path: Path, tiny_data: Path):
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(tiny_data, moved)
    here, there, other = find_split(tiny_data), find_split(moved), find_split(tiny_data, seed=1)
    assert here.fingerprint == there.fingerprint
    assert [s.path.name for s in here.test] == [s.path.name for s in there.test]
    assert here.fingerprint != other.fingerprint
    assert split_of(DataSource(str(tiny_data), seed=1)).fingerprint == other.fingerprint


def test_fingerprint_sees_a_changed_missing_or_moved_file(tiny_data: Path):
    before = find_split(tiny_data).fingerprint
    file = tiny_data / "NORMAL" / "patient0003-0.png"
    original = file.read_bytes()
    file.write_bytes(original + b"\0")
    assert find_split(tiny_data).fingerprint != before
    file.write_bytes(original)
    assert find_split(tiny_data).fingerprint == before
    file.rename(tiny_data / "SICK" / "patient1003-9.png")
    assert find_split(tiny_data).fingerprint != before


def test_unrecognised_files_are_counted_and_stand_alone(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 10, "B": 10}, images=1)
    for file in list((folder / "A").iterdir()):
        file.rename(file.with_name(f"scan {file.name}"))
    split = find_split(folder)
    assert split.unrecognised == 10
    assert all(str(tmp_path) not in sample.patient for sample in split.train + split.val + split.test)


def test_patient_pattern(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 12, "B": 12})
    # The class and the tens: two large patients in each class, too few for three parts.
    with pytest.raises(DataError, match="too few patients"):
        find_split(folder, patient_pattern=r"patient(\d{3})")
    split = find_split(folder, patient_pattern=r"patient(\d{4})")
    _refuse_overlap(split)
    assert len({sample.patient for sample in split.train + split.val + split.test}) == 24


def _write_csv(path: Path, folder: Path, patient_of: Callable[[Path], str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient"])
        for image in sorted(folder.rglob("*.png")):
            writer.writerow([image.relative_to(folder).as_posix(), patient_of(image)])
    return path


def test_patients_csv(tmp_path: Path, tiny_data: Path):
    table = _write_csv(tmp_path / "p.csv", tiny_data, lambda image: f"P{int(image.stem[7:11]) // 2}")
    split = find_split(tiny_data, patients_csv=table)
    _refuse_overlap(split)
    assert split.unrecognised == 0
    assert len({sample.patient for sample in split.train + split.val + split.test}) == 20


def test_patients_csv_refuses_a_patient_in_two_given_parts(tmp_path: Path, write_images: WriteImages):
    data = tmp_path / "d"
    write_images(data / "train", {"A": 10, "B": 10})
    write_images(data / "test", {"A": 3, "B": 3})
    table = _write_csv(tmp_path / "p.csv", data, lambda image: image.stem[:11])
    with pytest.raises(DataError, match="stands in both train and test"):
        find_split(data, patients_csv=table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,name\na,b\n", "needs the columns"),
        ("file,patient\n", "needs the columns"),
        ("file,patient\nNORMAL/x.png,\n", "without file or patient"),
        ("file,patient\na,1\na,2\n", "two patients"),
        ("file,patient\nother.png,1\n", "has no row for"),
    ],
)
def test_bad_patients_csv_is_refused(tmp_path: Path, tiny_data: Path, text: str, message: str):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        find_split(tiny_data, patients_csv=tmp_path / "p.csv")


def test_data_that_cannot_be_split_is_refused(tmp_path: Path, write_images: WriteImages):
    with pytest.raises(DataError, match="no such folder"):
        find_split(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 class folder"):
        find_split(tmp_path / "empty")
    with pytest.raises(DataError, match="1 class folder"):
        find_split(write_images(tmp_path / "one", {"A": 4}))
    with pytest.raises(DataError, match="images of 1 patient"):
        find_split(write_images(tmp_path / "few", {"A": 1, "B": 5}))
    with pytest.raises(DataError, match="needs at least 2"):
        find_split(write_images(tmp_path / "fewer", {"A": 2, "B": 5}))
    write_images(tmp_path / "only" / "test", {"A": 4, "B": 4})
    with pytest.raises(DataError, match="no train folder"):
        find_split(tmp_path / "only")


def test_a_class_absent_in_a_part_is_refused(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 8, "B": 8})
    write_images(tmp_path / "test", {"A": 4, "C": 4})
    with pytest.raises(DataError, match="not the model's classes"):
        find_split(tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 8, "B": 8})
    write_images(tmp_path / "training", {"A": 4, "B": 4})
    with pytest.raises(DataError, match="both its train part"):
        find_split(tmp_path)


def test_pneumonia_set(shared_data: Path):
    split = find_split(shared_data / "pneumonia_xray")
    _refuse_overlap(split)
    assert (len(split.train) + len(split.val), len(split.test)) == (5216, 312)
    assert 0.1 < len(split.val) / 5216 < 0.15


def test_few_patients_can_still_be_split(tmp_path: Path, write_images: WriteImages):
    split = find_split(write_images(tmp_path, {"A": 3, "B": 30}))
    _refuse_overlap(split)
    assert [len({s.patient for s in part if s.label == 0}) for part in (split.train, split.val, split.test)] == [
        1,
        1,
        1,
    ]
    assert 8 <= len(split.test) <= 20


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a regular expression"), ("patient", "has no group")])
def test_bad_patient_pattern_is_refused(tiny_data: Path, pattern: str, message: str):
    with pytest.raises(DataError, match=message):
        find_split(tiny_data, patient_pattern=pattern)
