"""Copies are found however they were changed; other pictures, however alike, are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from medcompress.benchmarks.data.leaks import check, refuse
from medcompress.benchmarks.data.samples import Sample, find_samples
from medcompress.benchmarks.data.scan import Scan, scan
from medcompress.runtime.errors import DataError


@pytest.fixture(scope="module")
def train(phantoms: Path) -> Scan:
    return scan([*find_samples(phantoms / "train"), *find_samples(phantoms / "val")])


def copy(image: Path, folder: Path, change: Callable[[Image.Image], Image.Image], name: str, **how: object) -> Scan:
    path = folder / name
    change(Image.open(image).convert("L")).save(path, **how)
    return scan([Sample(path, (1, 0), "somebody else")])


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], str, dict[str, int], str]] = {
    "jpeg": (lambda image: image, "b.jpg", {"quality": 60}, ""),
    "smaller": (lambda image: image.resize((102, 102), Image.Resampling.BICUBIC), "b.png", {}, ""),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "b.png", {}, "mirrored"),
    "turned": (lambda image: image.transpose(Image.Transpose.ROTATE_270), "b.png", {}, "turned 90°"),
    "brighter": (lambda image: image.point([min(255, round(level * 1.1)) for level in range(256)]), "b.png", {}, ""),
    "cropped": (lambda image: image.crop((2, 1, 126, 125)), "b.png", {}, ""),
}


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Twenty phantoms of twenty patients, 128 x 128."""
    from medcompress.trained.phantom import draw_phantom

    folder = tmp_path_factory.mktemp("radiographs")
    for patient in range(20):
        Image.fromarray(draw_phantom(patient, 0, seed=3, size=128)).save(folder / f"{patient:02d}.png")
    return scan([Sample(path, (1, 0), path.stem) for path in sorted(folder.iterdir())])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(radiographs: Scan, tmp_path: Path, change: str) -> None:
    how, name, options, turn = CHANGES[change]
    for original in radiographs.samples[::6]:
        found = check(radiographs, copy(original.path, tmp_path, how, name, **options))
        assert not found.exact
        assert [(Path(pair.first), pair.change) for pair in found.near] == [(original.path, turn)]
        assert found.spoils


@pytest.mark.parametrize("name", ["other.png", "other.tif", "other.bmp"])
def test_the_same_pixels_are_found_under_any_name_and_format(radiographs: Scan, tmp_path: Path, name: str) -> None:
    original = radiographs.samples[3].path
    for mode in ("L", "RGB"):
        found = check(radiographs, copy(original, tmp_path, lambda image, mode=mode: image.convert(mode), name))
        assert [Path(pair.first) for pair in found.exact] == [original]
        assert not found.near
        with pytest.raises(DataError, match=rf"{original.name}.*same picture as.*{name}.*remove them"):
            refuse(found)


def test_other_patients_are_no_copies_however_alike(train: Scan, radiographs: Scan, phantoms: Path) -> None:
    found = check(train, scan(find_samples(phantoms / "test")))
    assert not found.findings
    refuse(found)
    assert not check(radiographs.part(radiographs.samples[:10]), radiographs.part(radiographs.samples[10:])).spoils


def test_a_patient_on_both_sides_spoils(radiographs: Scan, tmp_path: Path) -> None:
    first, second = radiographs.samples[0], radiographs.samples[1]
    other = scan([Sample(second.path, (1, 0), first.patient)])
    found = check(radiographs.part([first]), other)
    assert found.patients == (first.patient,)
    with pytest.raises(DataError, match="1 patient has images on both sides"):
        refuse(found)


def test_one_picture_with_two_labels_and_repeats_among_the_held_out_are_notes(
    radiographs: Scan, tmp_path: Path
) -> None:
    original = radiographs.samples[0]
    own = tmp_path / "again.png"
    Image.open(original.path).save(own)
    found = check(radiographs.part(radiographs.samples[5:]), scan([original, Sample(own, (0, 1), "another")]))
    assert not found.spoils
    assert len(found.repeated) == len(found.contradicting) == 1
    assert found.findings == (
        "1 pair of one picture has different labels",
        "1 held-out image repeats another held-out image",
    )


def test_a_blank_image_is_like_nothing(radiographs: Scan, tmp_path: Path) -> None:
    Image.new("L", (128, 128), 40).save(tmp_path / "blank.png")
    Image.new("L", (64, 64), 90).save(tmp_path / "blank2.png")
    blank = scan([Sample(path, (1, 0), path.stem) for path in sorted(tmp_path.iterdir())])
    assert check(radiographs, blank).findings == ()
    assert check(blank, scan([])).findings == ()


def test_the_overlap_of_two_public_sets_is_found(shared_data: Path) -> None:
    """All viral images of the 4-class chest set are among the paediatric radiographs, in another size and encoding."""

    def images(folder: Path, names: str = "*") -> Scan:
        paths = sorted(path for path in folder.rglob(names) if path.is_file())
        return scan([Sample(path, (1,), str(path)) for path in paths])

    pneumonia = images(shared_data / "pneumonia_xray" / "train" / "PNEUMONIA", "*_virus_*")
    four = images(shared_data / "chest_4class" / "test")
    found = check(pneumonia, four)
    assert {pair.second for pair in found.near} == {
        str(sample.path) for sample in four.samples if "Viral" in sample.path.name
    }
    assert not check(pneumonia, images(shared_data / "pneumonia_xray" / "test")).spoils
