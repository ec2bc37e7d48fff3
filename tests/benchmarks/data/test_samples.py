from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.data.samples import find_samples, held_out_folder, pixel_hashes
from medcompress.runtime.errors import DataError


def write(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), level, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person12_bacteria_47.jpeg", "person12"),
        ("person12_virus_3.jpeg", "person12"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL2-IM-1419-0001-0002.jpeg", "NORMAL2-IM-1419"),
        ("patient0012-2.png", "patient0012"),
        ("patient_7.png", "patient_7"),
    ],
)
def test_the_patient_is_read_from_public_sets_names(tmp_path: Path, name: str, patient: str) -> None:
    write(tmp_path / "A" / name)
    write(tmp_path / "B" / "x.png")
    first, other = find_samples(tmp_path)
    assert first.patient == patient
    assert other.patient == str(tmp_path / "B" / "x.png"), "an unknown name is a patient of its own"


def test_a_pattern_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "A" / "scan-77-left.png")
    write(tmp_path / "B" / "scan-78-left.png")
    assert [sample.patient for sample in find_samples(tmp_path, patient_pattern=r"scan-(\d+)")] == ["77", "78"]
    for pattern in ("scan-(", r"scan-\d+"):
        with pytest.raises(DataError, match="patient pattern"):
            find_samples(tmp_path, patient_pattern=pattern)


def test_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    for name in ("A/x.PNG", "A/deeper/y.tif", "B/z.bmp"):
        write(tmp_path / name)
    for name in ("A/notes.txt", "A/.hidden.png", "Thumbs.db"):
        (tmp_path / name).write_text("")
    (tmp_path / ".git").mkdir()
    assert [sample.path.name for sample in find_samples(tmp_path)] == ["y.tif", "x.PNG", "z.bmp"]


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_samples(tmp_path / "missing")
    with pytest.raises(DataError, match="0 class folder"):
        find_samples(tmp_path)
    write(tmp_path / "A" / "x.png")
    with pytest.raises(DataError, match="1 class folder"):
        find_samples(tmp_path)
    (tmp_path / "B").mkdir()
    with pytest.raises(DataError, match=r"no images in \['B'\]"):
        find_samples(tmp_path)
    with pytest.raises(DataError, match="not the model's classes"):
        find_samples(tmp_path, ("A", "C"))


def test_the_same_picture_has_the_same_hash_in_another_format(tmp_path: Path) -> None:
    for name, level in (("A/x.png", 9), ("A/y.bmp", 9), ("B/z.png", 10)):
        write(tmp_path / name, level)
    first, second, third = pixel_hashes(find_samples(tmp_path))
    assert first == second != third


def test_unreadable_images_are_named_and_counted(tmp_path: Path) -> None:
    for name in ("A/x.png", "A/y.png", "B/z.png"):
        write(tmp_path / name)
    (tmp_path / "A/x.png").write_bytes(b"")
    (tmp_path / "A/y.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"x\.png: is empty.*and 1 more of 3 images"):
        pixel_hashes(find_samples(tmp_path))


def test_training_images_are_not_benchmarked_on(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no test folder"):
        held_out_folder(tmp_path)
    (tmp_path / "Testing").mkdir()
    assert held_out_folder(tmp_path) == tmp_path / "Testing"
