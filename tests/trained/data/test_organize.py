"""The written table gives the same parts; copies are whole, under names of their own, and what is there stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.errors import DataError, MachineError
from medcompress.trained.data.organize import count_parts, image_sizes, organize
from medcompress.trained.data.splits import DataSource, Split, split_of

WriteImages = Callable[..., Path]


def _again(folder: Path, table: Path) -> Split:
    return split_of(DataSource(str(folder), table=str(table)))


@pytest.mark.parametrize("given", [False, True])
def test_the_table_gives_the_same_split(tmp_path: Path, write_images: WriteImages, given: bool):
    data = tmp_path / "data"
    write_images(data / "train" if given else data, {"A": 14, "A b": 14, "B": 12})
    if given:
        write_images(data / "test", {"A": 3, "A b": 3, "B": 3})
    split = split_of(DataSource(str(data)))
    before = sorted(data.rglob("*"))
    table = organize(split, tmp_path / "new" / "out")
    assert table == tmp_path / "new" / "out" / "split.csv"
    assert sorted(data.rglob("*")) == before and [path.name for path in table.parent.iterdir()] == ["split.csv"]
    assert _again(data, table).fingerprint == split.fingerprint


def test_findings_and_unknown_ones(tmp_path: Path):
    rng = np.random.default_rng(0)
    lines = ["image,mass,nodule,patient"]
    for number in range(60):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"i{number}.png")
        lines.append(f"i{number},{rng.integers(0, 2)},{rng.choice(['0', '1', '-1', ''])},p{number // 2}")
    (tmp_path / "l.csv").write_text("\n".join(lines))
    split = split_of(DataSource(str(tmp_path), table=str(tmp_path / "l.csv"), uncertain="ignore"))
    assert any(-1 in sample.target for sample in split.train)
    out = tmp_path.with_name("out-" + tmp_path.name)
    assert _again(tmp_path, organize(split, out)).fingerprint == split.fingerprint
    shutil.rmtree(out)
    table = organize(split, out, copy=True)
    assert sorted(path.name for path in out.iterdir()) == ["split.csv", "test", "train", "val"]
    assert [s.target for s in _again(out, table).test] == [s.target for s in split.test]


def test_copies(tmp_path: Path, write_images: WriteImages):
    data = write_images(tmp_path / "data", {"A": 12, "B": 12}, images=1)
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        sub = path.parent / f"day{number}"
        sub.mkdir()
        path.rename(sub / ("Scan.png" if number % 2 else "scan.jpg.png"))
    split = split_of(DataSource(str(data)))
    table = organize(split, tmp_path / "out", copy=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["split.csv", "test", "train", "val"]
    for folders in (split_of(DataSource(str(tmp_path / "out"))), _again(tmp_path / "out", table)):
        for part, samples in folders.parts.items():
            copied = sorted((folders.classes[s.label], s.path.read_bytes()) for s in samples)
            assert copied == sorted((split.classes[s.label], s.path.read_bytes()) for s in split.parts[part])
    names = [path.relative_to(tmp_path).as_posix().lower() for path in (tmp_path / "out").rglob("*.png")]
    assert len(names) == len(set(names)) == 24


def test_class_names_stay_within_the_folder(tmp_path: Path):
    lines = ["image,label"]
    for number in range(24):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"i{number}.png")
        lines.append(f"i{number},{('../../up', 'a/b: c')[number % 2]}")
    (tmp_path / "l.csv").write_text("\n".join(lines))
    split = split_of(DataSource(str(tmp_path), table=str(tmp_path / "l.csv")))
    out = tmp_path.with_name("out-" + tmp_path.name)
    table = organize(split, out, copy=True)
    assert {path.name for path in (out / "train").iterdir()} == {"_.._up", "a_b_ c"}
    assert _again(out, table).classes == ("../../up", "a/b: c")


def test_what_is_there_is_left_alone(tmp_path: Path, tiny_data: Path):
    split = split_of(DataSource(str(tiny_data)))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()
    for copy in (False, True):
        with pytest.raises(DataError, match="not empty"):
            organize(split, full, copy=copy)
        with pytest.raises(DataError, match="lies within the data"):
            organize(split, tiny_data / "out", copy=copy)
    assert [path.name for path in full.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    organize(split, tmp_path / "empty")
    split.train[3].path.unlink()
    with pytest.raises(MachineError, match="cannot be written or copied"):
        organize(split, tmp_path / "cut", copy=True)
    assert not (tmp_path / "cut").exists()
    assert not list(tmp_path.glob(".*"))


def test_counts_and_sizes(tiny_data: Path):
    split = split_of(DataSource(str(tiny_data)))
    parts = count_parts(split)
    assert sum(part.images for part in parts.values()) == 80
    assert sum(part.patients for part in parts.values()) == 40
    assert sum(part.classes["SICK"] for part in parts.values()) == 40
    split.train[0].path.write_bytes(b"damaged")
    sizes, modes = image_sizes(split.train)
    assert set(sizes) == {"40x40"} and set(modes) == {"L"}
    assert sizes.total() == len(split.train) - 1
