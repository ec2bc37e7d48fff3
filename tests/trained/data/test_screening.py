"""Unreadable, leaking and telling images: told before a training, and left out where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from medcompress.runtime.errors import DataError
from medcompress.trained.data.screening import screen
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.phantom import draw_phantom

WriteImages = Callable[..., Path]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Train and test folders of two classes; every picture of another patient."""
    patient = 0
    for part, count in (("train", 16), ("test", 6)):
        for name in ("NORMAL", "SICK"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                scene = Image.fromarray(draw_phantom(patient, 0, seed=3, size=128))
                scene.save(folder / f"patient{name}{number:02d}-0.png")
                patient += 1
    return tmp_path / "data"


def test_clean_data_are_let_be(parts: Path) -> None:
    source = DataSource(str(parts))
    split = split_of(source)
    assert screen(source, split) == (source, split, ())


def test_unreadable_images_are_all_named_and_skipped_only_if_asked(
    parts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = [parts / "train" / "NORMAL" / "patientNORMAL03-0.png", parts / "test" / "SICK" / "patientSICK01-0.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    source = DataSource(str(parts))
    split = split_of(source)
    with pytest.raises(DataError, match=r"2 of 44 images cannot be read.*--skip-unreadable"):
        screen(source, split)
    told = capfd.readouterr().err
    assert all(path.name in told for path in broken)
    source, kept, warnings = screen(source, split, skip_unreadable=True)
    told = capfd.readouterr().err
    assert all(path.name in told for path in broken)
    assert set(source.excluded) == {path.relative_to(parts).as_posix() for path in broken}
    assert warnings[0] == "images that cannot be read were left out: 2"
    assert {sample.path for part in kept.parts.values() for sample in part}.isdisjoint(broken)
    # What is stored finds the same split again.
    assert split_of(source).fingerprint == kept.fingerprint


def test_leaks_are_told_and_dropped_from_the_training_side(parts: Path) -> None:
    tests = sorted((parts / "test" / "SICK").iterdir())
    (parts / "train" / "SICK" / "copied.png").write_bytes(tests[0].read_bytes())
    with Image.open(tests[1]) as image:
        ImageOps.mirror(image.resize((110, 110))).save(parts / "train" / "SICK" / "mirrored.jpeg", quality=90)
    source = DataSource(str(parts))
    split = split_of(source)
    _, same, warnings = screen(source, split)
    assert same == split
    assert warnings[0] == "1 of 12 held-out images are training images too, pixel by pixel"
    assert warnings[1] == "1 of 12 held-out images are changed copies of training images"
    assert "--drop-leaks" in warnings[2]
    source, kept, warnings = screen(source, split, drop_leaks=True)
    assert set(source.excluded) == {"train/SICK/copied.png", "train/SICK/mirrored.jpeg"}
    assert warnings == ("training images that are copies of held-out ones were left out: 2",)
    assert kept.test == split.test


def test_leaks_of_parts_that_are_drawn_anew_are_dropped_too(tmp_path: Path, parts: Path) -> None:
    """Without given parts every exclusion draws anew; what that parts again is dropped as well."""
    folder = parts / "train"
    for name in ("NORMAL", "SICK"):
        for number, path in enumerate(sorted((folder / name).iterdir())[:8]):
            (folder / name / f"patient{name}9{number}-0.png").write_bytes(path.read_bytes())
    source = DataSource(str(folder))
    source, _, warnings = screen(source, split_of(source), drop_leaks=True)
    assert "were left out" in warnings[0]
    assert not any("held-out images are" in warning for warning in warnings)


def test_files_that_tell_the_class_are_warned_of(parts: Path) -> None:
    for path in list(parts.rglob("SICK/*.png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpeg"))
        path.unlink()
    source = DataSource(str(parts))
    _, _, warnings = screen(source, split_of(source))
    assert len(warnings) == 1 and "JPEG" in warnings[0]


def test_copies_between_train_and_validation_are_told(parts: Path) -> None:
    val = parts / "val"
    for name in ("NORMAL", "SICK"):
        (val / name).mkdir(parents=True)
        for path in sorted((parts / "train" / name).iterdir())[:2]:
            (val / name / f"other-{path.name}").write_bytes(path.read_bytes())
    source = DataSource(str(parts))
    _, _, warnings = screen(source, split_of(source))
    assert "4 of 4 validation images are training images too: they flatter" in warnings


def test_pictures_with_two_labels_are_named(parts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = sorted((parts / "train" / "NORMAL").iterdir())[0]
    (parts / "train" / "SICK" / "again.png").write_bytes(first.read_bytes())
    source = DataSource(str(parts))
    _, _, warnings = screen(source, split_of(source))
    assert any("different labels" in warning for warning in warnings)
    told = capfd.readouterr().err
    assert first.name in told and "again.png" in told


def test_what_stands_in_for_an_image_left_out_was_looked_at(parts: Path) -> None:
    for path in sorted((parts / "train" / "SICK").iterdir())[::2]:
        path.write_bytes(b"x")
    source = DataSource(str(parts), per_class=4)
    source, kept, _ = screen(source, split_of(source), skip_unreadable=True)
    assert len(source.excluded) == 8 and source.per_class == 4
    assert sum(sample.label == 1 for sample in kept.train) == 4
    assert not {sample.path.relative_to(parts).as_posix() for sample in kept.train} & set(source.excluded)
