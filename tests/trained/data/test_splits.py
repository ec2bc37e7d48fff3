"""Parts are found or drawn by patient, the same way every time and everywhere."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.data.samples import Sample
from medcompress.runtime.errors import DataError
from medcompress.trained.data.folds import take_few, take_fold
from medcompress.trained.data.parts import PARTS
from medcompress.trained.data.splits import DataSource, Split, moved, split_of

WriteImages = Callable[..., Path]


def _patients(split: Split) -> dict[str, set[str]]:
    return {part: {sample.patient for sample in getattr(split, part)} for part in PARTS}


def _split(folder: Path, patient_pattern: str | None = None, patients_csv: Path | None = None, seed: int = 0) -> Split:
    return split_of(DataSource(str(folder), patient_pattern, str(patients_csv) if patients_csv else None, seed))


def _refuse_overlap(split: Split) -> None:
    patients = _patients(split)
    assert not patients["train"] & patients["val"]
    assert not patients["train"] & patients["test"]
    assert not patients["val"] & patients["test"]


def test_class_folders_are_split_by_patient_with_every_class_everywhere(tmp_path: Path, write_images: WriteImages):
    split = _split(write_images(tmp_path / "d", {"A": 40, "B": 20, "C": 20}, images=3))
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
    split = _split(tmp_path)
    assert (len(split.train), len(split.val), len(split.test)) == (8, 4, 6)
    # The same file names in two parts are other patients.
    _refuse_overlap(split)


def test_names_of_patients_that_stand_in_several_parts_are_counted(tmp_path: Path, write_images: WriteImages):
    for name, first, count in (("train", 0, 12), ("val", 8, 6), ("test", 30, 4)):
        write_images(tmp_path / "d" / name, {"A": count, "B": count}, images=1, first=first)
        for label in "AB":  # names nobody, in every part
            shutil.copy(next((tmp_path / "d" / name / label).iterdir()), tmp_path / "d" / name / label / "scan.png")
    found = split_of(DataSource(str(tmp_path / "d")))
    said = "8 patient names stand in more than one part and are taken for different people"
    assert len(found.notes) == 1 and found.notes[0].startswith(said)
    assert found.unrecognised == 6
    assert [warning[:9] for warning in found.warnings] == ["8 patient", "6 file(s)"]
    _refuse_overlap(found)
    part_of = {"train": "train", "val": "val", "test": "test"}
    rows = ["file,label,split"] + [
        f"{image.relative_to(tmp_path / 'd').as_posix()},{image.parent.name},{part_of[image.parent.parent.name]}"
        for image in sorted((tmp_path / "d").rglob("*.png"))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    by_table = split_of(DataSource(str(tmp_path / "d"), table=str(tmp_path / "labels.csv")))
    assert by_table.notes == found.notes and by_table.fingerprint == found.fingerprint
    named = _write_csv(tmp_path / "p.csv", tmp_path / "d", lambda image: f"{image.parent.parent.name}{image.name}")
    assert not _split(tmp_path / "d", patients_csv=named).notes


def test_only_the_missing_parts_are_drawn(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 16, "B": 16})
    write_images(tmp_path / "test", {"A": 5, "B": 5})
    split = _split(tmp_path)
    _refuse_overlap(split)
    assert len(split.test) == 20
    assert len(split.train) + len(split.val) == 64
    assert len(split.val) == 8


def test_draw_depends_on_the_seed_but_not_on_the_place(tmp_path: Path, tiny_data: Path):
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(tiny_data, moved)
    here, there, other = _split(tiny_data), _split(moved), _split(tiny_data, seed=1)
    assert here.fingerprint == there.fingerprint
    assert [s.path.name for s in here.test] == [s.path.name for s in there.test]
    assert here.fingerprint != other.fingerprint
    assert split_of(DataSource(str(tiny_data), seed=1)).fingerprint == other.fingerprint


def test_fingerprint_sees_a_changed_missing_or_moved_file(tiny_data: Path):
    before = _split(tiny_data).fingerprint
    file = tiny_data / "NORMAL" / "patient0003-0.png"
    original = file.read_bytes()
    file.write_bytes(original + b"\0")
    assert _split(tiny_data).fingerprint != before
    file.write_bytes(original)
    assert _split(tiny_data).fingerprint == before
    file.rename(tiny_data / "SICK" / "patient1003-9.png")
    assert _split(tiny_data).fingerprint != before


def test_unrecognised_files_are_counted_and_stand_alone(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 10, "B": 10}, images=1)
    for file in list((folder / "A").iterdir()):
        file.rename(file.with_name(f"scan {file.name}"))
    split = _split(folder)
    assert split.unrecognised == 10
    assert all(str(tmp_path) not in sample.patient for sample in split.train + split.val + split.test)


def test_patient_pattern(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 12, "B": 12})
    # The class and the tens: two large patients in each class, too few for three parts.
    with pytest.raises(DataError, match="too few patients"):
        _split(folder, patient_pattern=r"patient(\d{3})")
    split = _split(folder, patient_pattern=r"patient(\d{4})")
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
    split = _split(tiny_data, patients_csv=table)
    _refuse_overlap(split)
    assert split.unrecognised == 0
    assert len({sample.patient for sample in split.train + split.val + split.test}) == 20


def test_patients_csv_refuses_a_patient_in_two_given_parts(tmp_path: Path, write_images: WriteImages):
    data = tmp_path / "d"
    write_images(data / "train", {"A": 10, "B": 10})
    write_images(data / "test", {"A": 3, "B": 3})
    table = _write_csv(tmp_path / "p.csv", data, lambda image: image.stem[:11])
    with pytest.raises(DataError, match="stands in both train and test"):
        _split(data, patients_csv=table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,name\na,b\n", "needs the columns"),
        ("file,patient\n", "no rows below its header"),
        ("file,patient\nNORMAL/x.png,\n", "without file or patient"),
        ("file,patient\na,1\na,2\n", "two patients"),
        ("file,patient\nother.png,1\n", "has no row for"),
    ],
)
def test_bad_patients_csv_is_refused(tmp_path: Path, tiny_data: Path, text: str, message: str):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        _split(tiny_data, patients_csv=tmp_path / "p.csv")


def test_data_that_cannot_be_split_is_refused(tmp_path: Path, write_images: WriteImages):
    with pytest.raises(DataError, match="no such folder"):
        _split(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 class folder"):
        _split(tmp_path / "empty")
    with pytest.raises(DataError, match="1 class folder"):
        _split(write_images(tmp_path / "one", {"A": 4}))
    with pytest.raises(DataError, match="images of 1 patient"):
        _split(write_images(tmp_path / "few", {"A": 1, "B": 5}))
    with pytest.raises(DataError, match="needs at least 2"):
        _split(write_images(tmp_path / "fewer", {"A": 2, "B": 5}))
    write_images(tmp_path / "only" / "test", {"A": 4, "B": 4})
    with pytest.raises(DataError, match="no train folder"):
        _split(tmp_path / "only")


def test_a_class_absent_in_a_part_is_refused(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 8, "B": 8})
    write_images(tmp_path / "test", {"A": 4, "C": 4})
    with pytest.raises(DataError, match="not the model's classes"):
        _split(tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "train", {"A": 8, "B": 8})
    write_images(tmp_path / "training", {"A": 4, "B": 4})
    with pytest.raises(DataError, match="both its train part"):
        _split(tmp_path)


def test_pneumonia_set(shared_data: Path):
    split = _split(shared_data / "pneumonia_xray")
    _refuse_overlap(split)
    assert (len(split.train) + len(split.val), len(split.test)) == (5216, 312)
    assert 0.1 < len(split.val) / 5216 < 0.15
    assert any("patient names stand in more than one part" in note for note in split.notes)


def test_few_patients_can_still_be_split(tmp_path: Path, write_images: WriteImages):
    split = _split(write_images(tmp_path, {"A": 3, "B": 30}))
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
        _split(tiny_data, patient_pattern=pattern)


def test_existing_folders_keep_their_fingerprints(shared_data: Path):
    """Checkpoints name the split they were trained on by these."""
    for name, begins in (("brain_mri", "70721cc80b35029f"), ("chest_4class", "da97c982134a3a56")):
        assert split_of(DataSource(str(shared_data / name))).fingerprint.startswith(begins)


def test_a_source_stored_before_tables_is_still_read():
    stored = b'{"folder":"/data","patient_pattern":null,"patients_csv":null,"seed":3}'
    assert msgspec.json.decode(stored, type=DataSource) == DataSource("/data", seed=3)


def test_excluded_images_are_left_out_before_anything_is_drawn(tmp_path: Path, tiny_data: Path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    (copy / "NORMAL" / "patient0003-0.png").unlink()
    excluded = DataSource(str(tiny_data), excluded=("NORMAL/patient0003-0.png",))
    assert split_of(excluded).fingerprint == split_of(DataSource(str(copy))).fingerprint
    names = tuple(path.relative_to(tiny_data).as_posix() for path in (tiny_data / "SICK").iterdir())
    with pytest.raises(DataError, match="class SICK has images of 0 patient"):
        split_of(DataSource(str(tiny_data), excluded=names))


def test_a_given_part_left_without_a_class_is_refused(tmp_path: Path, write_images: WriteImages):
    for part in ("train", "test"):
        write_images(tmp_path / part, {"A": 8, "B": 8}, images=1)
    names = tuple(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "test" / "B").iterdir())
    with pytest.raises(DataError, match=r"its test part has no image of class B \(of 8 images\)"):
        split_of(DataSource(str(tmp_path), excluded=names))


@pytest.mark.parametrize("given", [False, True])
def test_folds_hold_every_image_once_and_share_the_test(tmp_path: Path, write_images: WriteImages, given: bool):
    for part in ("train", "val", "test") if given else (".",):
        write_images(tmp_path / part, {"A": 12, "B": 12})
    splits = [split_of(DataSource(str(tmp_path), fold=(index, 4))) for index in range(4)]
    held = [sample.path for split in splits for sample in split.val]
    for split in splits:
        _refuse_overlap(split)
        assert split.test == splits[0].test
        assert {sample.path for sample in split.train + split.val} == set(held)
    assert len(held) == len(set(held))
    for fold, message in (((4, 4), "fold 4 of 4 is none"), ((0, 1), "at least 2"), ((0, 30), "needs at least 30")):
        with pytest.raises(DataError, match=message):
            split_of(DataSource(str(tmp_path), fold=fold))


def test_folds_of_findings_are_as_many_as_asked_or_refused():
    """Whatever findings stand together: the strata are those of the rarest, and must be large enough."""
    rng = np.random.default_rng(0)
    drawn = 0
    for _ in range(60):
        shape = (int(rng.integers(6, 30)), int(rng.integers(2, 5)))
        targets = (rng.random(shape) < rng.uniform(0.1, 0.6)).astype(int)
        samples = [Sample(Path(f"{i}.png"), tuple(row), f"p{i // 2}") for i, row in enumerate(targets.tolist())]
        count = int(rng.integers(2, 6))
        for index in range(count):
            try:
                kept, held = take_fold(samples, "abcd"[: shape[1]], True, (index, count), 0)
            except DataError:
                continue
            drawn += 1
            assert held and len(kept) + len(held) == len(samples)
    assert drawn > 20


def test_few_images_with_each_finding():
    """A common finding comes along with a rare one: at least so many, not at most."""
    targets = [(1, 1)] * 4 + [(1, 0)] * 30 + [(0, 0)] * 3
    samples = [Sample(Path(f"{i}.png"), target, str(i)) for i, target in enumerate(targets)]
    more = []
    for seed in range(20):
        kept = [sample.target for sample in take_few(samples, 5, seed)]
        assert kept.count((1, 1)) == 4 and kept.count((0, 0)) == 3
        more.append(sum(target[0] for target in kept))
    assert min(more) >= 5 and max(more) > 5


def test_few_images_a_class(tiny_data: Path):
    whole, five, two = (split_of(DataSource(str(tiny_data), per_class=count)) for count in (0, 5, 2))
    assert (five.val, five.test) == (whole.val, whole.test)
    assert [sample.label for sample in five.train] == [0] * 5 + [1] * 5
    assert set(two.train) < set(five.train) < set(whole.train)
    with pytest.raises(DataError, match="less than none"):
        split_of(DataSource(str(tiny_data), per_class=-1))


def test_folders_of_other_names_are_the_same_classes(tmp_path: Path, write_images: WriteImages):
    write_images(tmp_path / "a" / "train", {"Normal": 9, "Pneumonia": 9})
    write_images(tmp_path / "a" / "test", {"NORMAL": 3, "PNEUMONIA": 3})
    split = split_of(DataSource(str(tmp_path / "a")), ("PNEUMONIA", "HEALTHY"))
    assert split.classes == ("PNEUMONIA", "HEALTHY") and split.task == "pneumonia"
    assert {sample.path.parent.name for sample in split.test if sample.label == 1} == {"NORMAL"}
    named = split_of(DataSource(str(tmp_path / "a"), task="pneumonia"))
    assert named.classes == ("normal", "pneumonia")
    with pytest.raises(DataError, match="not the model's classes"):
        split_of(DataSource(str(tmp_path / "a")), ("COVID", "NORMAL"))


def test_a_table_within_the_data_moves_along(tmp_path: Path, tiny_data: Path):
    inside = _write_csv(tiny_data / "p.csv", tiny_data, lambda image: image.stem[:11])
    source = DataSource(str(tiny_data), patients_csv=str(inside), table="/elsewhere/labels.csv")
    elsewhere = tmp_path / "elsewhere"
    found = moved(source, elsewhere)
    assert (found.folder, found.patients_csv) == (str(elsewhere), str(elsewhere / "p.csv"))
    assert found.table == "/elsewhere/labels.csv"
    assert moved(DataSource("/data"), elsewhere) == DataSource(str(elsewhere))


def test_class_folders_of_two_spellings_are_refused(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 8, "B": 8})
    shutil.copytree(folder / "A", folder / "a")
    with pytest.raises(DataError, match=r"'A' \(16 images\) and 'a' \(16 images\) differ in case or spaces"):
        _split(folder)


def test_only_images_that_are_used_are_said_to_name_no_patient(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path / "d", {"A": 20, "B": 20}, images=1)
    names = []
    for image in sorted(folder.rglob("*.png")):
        names.append(image.rename(image.with_name(f"x{image.name}")).relative_to(folder).as_posix())
    assert _split(folder).unrecognised == 40
    source = DataSource(str(folder), excluded=tuple(names[:3]))
    assert split_of(source).unrecognised == 37
    few = split_of(msgspec.structs.replace(source, per_class=4))
    assert few.unrecognised == sum(map(len, few.parts.values())) < 37
