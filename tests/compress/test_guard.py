from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.data.samples import Sample
from medcompress.compress.against import guard as against
from medcompress.compress.guard import _folds, exact_interval, learn, make_guard, refuses
from medcompress.compress.looks import Looks, look
from medcompress.compress.mistakes import MISTAKES, scrambled
from medcompress.runtime.learned import Learned
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.sight import observe
from medcompress.trained.data.splits import DataSource, Split, split_of

PREPROCESSING = Preprocessing((48, 48))


@pytest.fixture(scope="module")
def split(phantoms: Path) -> Split:
    return split_of(DataSource(str(phantoms)))


def _samples(folder: Path, pictures: list[np.ndarray]) -> list[Sample]:
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, pixels in zip(paths, pictures, strict=True):
        Image.fromarray(pixels).save(path)
    return [Sample(path, (1, 0), str(path)) for path in paths]


def test_few_of_its_own_images_and_nearly_all_mistakes_are_refused(split: Split, tmp_path: Path) -> None:
    made = make_guard((*split.train, *split.val), split.test, PREPROCESSING, 0, tmp_path / "guard.npz")
    assert made.guard is not None and (tmp_path / "guard.npz").stat().st_size < 128 * 1024
    assert made.guard.images == len(split.train) + len(split.val)
    assert made.guard.false_alarms == pytest.approx(1 / (made.guard.images + 1))  # too few for one in a hundred
    assert made.guard.refused <= 1
    assert min(share for name, share in made.guard.detected.items() if name != "mirrored") > 0.9
    assert f"refuses {made.guard.refused} of the {len(split.test)} test images" in made.words


def test_the_share_asked_for_is_refused_of_images_drawn_alike() -> None:
    # Pictures without a cause in common but their mean: the promise holds over many draws, not for each.
    rng = np.random.default_rng(0)
    seen = Looks(
        *(rng.normal(size=(2400, width)).astype(np.float32) for width in (256, 176)), rng.normal(size=(2400, 11))
    )
    seen.thumbnails[:, :40] += 2
    chosen = np.arange(2400) < 600
    learned = learn(seen.of(chosen), [str(i // 3) for i in range(600)], 0)
    assert isinstance(learned, Learned)
    share = refuses(learned, seen.of(~chosen)).mean()
    low, high = exact_interval(round(0.01 * 600), 600)
    assert low / 2 < share < high


def test_no_patient_is_scored_by_a_guard_that_saw_him() -> None:
    patients = np.array([f"patient{i // 3}" for i in range(60)])
    folds = _folds(patients.tolist(), 0)
    assert np.array_equal(np.sum(folds, axis=0), np.ones(60))
    assert all(not set(patients[held]) & set(patients[~held]) for held in folds)


def test_too_few_images_or_patients_make_no_guard_and_it_is_said(split: Split, tmp_path: Path) -> None:
    few = make_guard(split.train[:20], split.test, PREPROCESSING, 0, tmp_path / "guard.npz")
    assert few.guard is None and not (tmp_path / "guard.npz").exists()
    assert few.words.startswith("none: 20 images of") and "too few to learn from" in few.words
    looks = look(split.train, PREPROCESSING)[""]
    assert "too few" in str(learn(looks, ["one"] * len(looks), 0))


def test_images_without_anything_in_common_make_no_guard() -> None:
    rng = np.random.default_rng(0)
    seen = [observe(Image.fromarray(each), each) for each in rng.integers(0, 256, (60, 16, 16), np.uint8)]
    looks = Looks(*(np.stack(each) for each in zip(*seen, strict=True)))
    assert "too varied to learn from" in str(learn(looks, [str(i) for i in range(60)], 0))


def test_a_colour_model_refuses_grey_images_and_other_colours(split: Split, tmp_path: Path) -> None:
    tinted = [
        np.stack([pixels, pixels // 2, pixels // 3], axis=2)
        for pixels in (np.asarray(Image.open(sample.path)) for sample in (*split.train, *split.val))
    ]
    rgb = Preprocessing((48, 48), colour="rgb")
    learned = learn(look(_samples(tmp_path / "tinted", tinted), rgb)[""], [str(i) for i in range(len(tinted))], 0)
    assert isinstance(learned, Learned)
    grey = look(split.test, rgb)[""]
    blue = look(_samples(tmp_path / "blue", [pixels[:, :, ::-1] for pixels in tinted[:10]]), rgb)[""]
    assert refuses(learned, grey).all() and refuses(learned, blue).all()


def test_the_mistakes_keep_shape_and_kind_and_change_the_image() -> None:
    for shape in ((48, 48), (48, 48, 3), (50, 50)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        for name, change in MISTAKES.items():
            changed = change(pixels)
            assert changed.dtype == np.uint8 and changed.ndim == pixels.ndim, name
            assert not np.array_equal(changed, pixels), name
    tiles = np.arange(16 * 16).reshape(16, 16)
    assert sorted(scrambled(tiles).ravel()) == list(range(256))


def test_radiographs_and_other_images(shared_data: Path) -> None:
    split = split_of(DataSource(str(shared_data / "pneumonia_xray")))
    chosen = split.train[::20]
    learned = learn(look(chosen, PREPROCESSING)[""], [sample.patient for sample in chosen], 0)
    assert isinstance(learned, Learned)
    own = look(split.test[::3], PREPROCESSING, ("", "upside down", "negative", "turned left"))
    shares = {name: refuses(learned, looks).mean() for name, looks in own.items()}
    assert shares.pop("") < 0.05
    assert min(shares.values()) > 0.95
    for folder in ("brain_mri/Testing", "skin_lesions/images"):
        paths = sorted((shared_data / folder).rglob("*.jpg"))[::40]
        other = look([Sample(path, (), str(path)) for path in paths], PREPROCESSING)[""]
        assert len(paths) >= 3 and refuses(learned, other).mean() > 0.95


def test_the_table_of_what_is_refused(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"again={phantoms / 'test'}"
    monkeypatch.setattr("sys.argv", ["guard", str(phantoms), "--size", "48", "--other", other, "--json"])
    against.main()
    lines = {line.of: line for line in msgspec.json.decode(capsys.readouterr().out, type=list[against.Line])}
    own, again = lines["its own test images"], lines["again"]
    assert (own.refused, own.images, own.mirrored) == (again.refused, again.images, again.mirrored)
    for wrong in ("its own test images, upside down", "frames of noise", "frames of one grey level"):
        assert lines[wrong].refused == lines[wrong].images
    mirrored = lines["its own test images, mirrored"]
    assert mirrored.mirrored + mirrored.refused > mirrored.images / 2
