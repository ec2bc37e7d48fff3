"""MedMNIST files become folders of the same pixels, once; what is no such file is refused before it is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from medcompress.runtime.errors import DataError, InputError, MachineError
from medcompress.trained.data import medmnist
from medcompress.trained.data.splits import DataSource, Split, split_of
from medcompress.trained.tasks import MEDMNIST

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medcompress" / "medmnist"


def _arrays(classes: int = 2, side: int = 6, channels: int = 0, findings: int = 0) -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for part, count in (("train", 30), ("val", 12), ("test", 15)):
        shape = (count, side, side, channels) if channels else (count, side, side)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = rng.integers(0, 2, (count, findings)) if findings else (np.arange(count) % classes)[:, None]
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    return arrays


def _save(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def _split(path: Path) -> Split:
    return split_of(DataSource(str(path)))


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_pixels_and_labels_are_kept(tmp_path: Path, cache: Path, channels: int):
    arrays = _arrays(classes=12, channels=channels)
    split = _split(_save(tmp_path / "mine.npz", arrays))
    assert split.classes == tuple(map(str, range(12))) and split.task == ""
    assert split.folder.parent == cache
    for part, samples in split.parts.items():
        assert len(samples) == len(arrays[f"{part}_images"])
        for sample in samples:
            number = int(sample.path.stem)
            pixels = np.asarray(Image.open(sample.path))
            np.testing.assert_array_equal(pixels, arrays[f"{part}_images"][number].reshape(pixels.shape))
            assert sample.label == arrays[f"{part}_labels"][number, 0]
    assert len({sample.patient for samples in split.parts.values() for sample in samples}) == 57
    assert not split.unrecognised and "patient of its own" in split.notes[0]


def test_it_is_unpacked_once_and_whole(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    path = _save(tmp_path / "pneumoniamnist.npz", _arrays())

    def cut(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            _split(path)
    assert list(cache.iterdir()) == []
    first = _split(path)
    assert (first.classes, first.task) == (("normal", "pneumonia"), "pneumoniamnist")
    monkeypatch.setattr(Image.Image, "save", cut)
    assert _split(path).fingerprint == first.fingerprint
    assert len(list(cache.iterdir())) == 1


def test_several_findings(tmp_path: Path):
    arrays = _arrays(findings=14)
    split = _split(_save(tmp_path / "chestmnist.npz", arrays))
    assert split.multilabel and split.classes == MEDMNIST["chestmnist"].classes and split.task == "chestmnist"
    for part, samples in split.parts.items():
        found = np.array([sample.target for sample in sorted(samples, key=lambda sample: sample.path)])
        np.testing.assert_array_equal(found, arrays[f"{part}_labels"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_images": None}, "has no array val_images, only test_images"),
        ({"test_labels": np.array([{"a": 1}] * 15, dtype=object)}, "pickled"),
        ({"train_images": np.zeros((30, 6, 6))}, r"train_images is float64 of shape \(30, 6, 6\)"),
        ({"train_images": np.zeros((30, 6, 6, 6), np.uint8)}, r"takes uint8 \(N, H, W\)"),
        ({"train_images": np.zeros((0, 6, 6), np.uint8), "train_labels": np.zeros((0, 1), np.uint8)}, "is empty"),
        ({"val_images": np.zeros((12, 6, 2000), np.uint8)}, "sides above"),
        ({"val_images": np.asfortranarray(np.zeros((12, 6, 6), np.uint8))}, "Fortran"),
        ({"val_labels": np.zeros((11, 1), np.uint8)}, "each of the 12 images"),
        ({"val_labels": np.full((12, 1), -1)}, r"12 labels of val_labels are outside 0..999, first -1"),
        ({"val_labels": np.full((12, 1), 0.5)}, "float64"),
        ({"val_labels": np.zeros((12, 1), np.uint8)}, "val part has no image of class 1"),
        ({"val_labels": np.ones((12, 2), np.uint8)}, "different numbers of findings"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, cache: Path, change: dict[str, Any], message: str):
    arrays = {key: value for key, value in (_arrays() | change).items() if value is not None}
    with pytest.raises(DataError, match=message) as refused:
        _split(_save(tmp_path / "odd.npz", arrays))
    assert "\n" not in str(refused.value)
    assert not cache.exists()


def test_damaged_files_are_refused(tmp_path: Path, cache: Path):
    path = _save(tmp_path / "d.npz", _arrays(side=40))
    whole = path.read_bytes()
    for number, data in enumerate((b"", whole[:200], whole[: len(whole) // 2], b"x" * 100)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"not a whole .npz"):
            _split(path)
        assert not cache.exists(), number
    with zipfile.ZipFile(path, "w") as archive:
        for key in _arrays():
            archive.writestr(f"{key}.npy", b"no numpy header")
    with pytest.raises(DataError, match="no header that can be read"):
        _split(path)
    # A changed byte in the pixels: the archive's checksum tells.
    np.savez(path, **_arrays(side=40))  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    data[20_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a whole .npz"):
        _split(path)
    assert list(cache.iterdir()) == []
    with pytest.raises(DataError, match="cannot be opened"):
        _split(tmp_path / "absent.npz")


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path, cache: Path):
    arrays = _arrays() | {"train_images": np.zeros((30, 1024, 1024, 3), np.uint8)}
    path = _save(tmp_path / "bomb.npz", arrays)
    with pytest.raises(DataError, match=r"would unpack .* to 90 MiB"):
        _split(path)
    header = _arrays()["train_images"]
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in _arrays().items():
            with archive.open(f"{key}.npy", "w") as file:
                shape = (2**40, 28, 28) if key == "train_images" else value.shape
                declared = {"descr": np.lib.format.dtype_to_descr(value.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, declared)
                file.write(header.tobytes() if key == "train_images" else value.tobytes())
    with pytest.raises(DataError, match="train_images has not the size its header says"):
        _split(path)
    assert not cache.exists()


def test_names():
    assert medmnist.is_name("pneumoniamnist") and medmnist.is_name("PathMNIST_224")
    assert not medmnist.is_name("nodulemnist3d") and not medmnist.is_name("mnist") and not medmnist.is_name("a/b")
    with pytest.raises(InputError, match="is no MedMNIST set"):
        medmnist.download("organmnist3d")


def test_the_registry_agrees_with_the_package():
    package = pytest.importorskip("medmnist")
    flags = {flag for flag, info in package.INFO.items() if not flag.endswith("3d") and info["n_channels"]}
    assert set(MEDMNIST) == flags
    for flag, task in MEDMNIST.items():
        assert task.classes == tuple(package.INFO[flag]["label"].values())
        assert (task.kind == "multilabel") == ("multi-label" in package.INFO[flag]["task"])
        assert (task.colour == "rgb") == (package.INFO[flag]["n_channels"] == 3)


def test_download_needs_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'medcompress\[medmnist\]'"):
        medmnist.download("pneumoniamnist")


def test_without_internet_the_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = pytest.importorskip("medmnist")
    monkeypatch.setitem(package.INFO["breastmnist"], "url_64", "http://127.0.0.1:9/breastmnist_64.npz")
    monkeypatch.setattr(package.BreastMNIST.__init__, "__defaults__", _with_root(package, tmp_path))
    with pytest.raises(MachineError, match=r"breastmnist_64: could not be downloaded.*refused.*give the .npz file"):
        medmnist.download("breastmnist_64")


def _with_root(package: Any, root: Path) -> tuple[object, ...]:
    default = package.dataset.DEFAULT_ROOT
    return tuple(str(root) if value == default else value for value in package.BreastMNIST.__init__.__defaults__)


def test_pneumoniamnist(shared_data: Path):
    split = _split(shared_data / "medmnist" / "pneumoniamnist.npz")
    assert [len(samples) for samples in split.parts.values()] == [4708, 524, 624]
    assert split.task == "pneumoniamnist"


def test_a_file_that_changed_is_unpacked_anew(tmp_path: Path, cache: Path):
    first = _split(_save(tmp_path / "mine.npz", _arrays()))
    second = _split(_save(tmp_path / "mine.npz", _arrays(side=7)))
    assert first.folder != second.folder and len(list(cache.iterdir())) == 2


def test_of_two_that_unpack_at_once_the_second_takes_what_the_first_left(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    path = _save(tmp_path / "mine.npz", _arrays())
    write = medmnist._write_part
    others: list[medmnist.Unpacked] = []

    def overtaken(*arguments: Any) -> None:
        if not others:
            monkeypatch.setattr(medmnist, "_write_part", write)
            others.append(medmnist.unpack(path))
        write(*arguments)

    monkeypatch.setattr(medmnist, "_write_part", overtaken)
    assert medmnist.unpack(path) == others[0]
    assert list(cache.iterdir()) == [others[0].folder]
