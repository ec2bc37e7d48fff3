"""Phantoms are the same every time, labelled as synthetic, and split by patient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.errors import DataError, MachineError
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.phantom import CLASSES, draw_phantom, write_phantoms


def test_same_arguments_give_the_same_files(tmp_path: Path):
    count = write_phantoms(tmp_path / "a", patients=20, size=64)
    assert write_phantoms(tmp_path / "b", patients=20, size=64) == count
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == count and 60 <= count <= 100
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    write_phantoms(tmp_path / "c", patients=20, size=64, seed=1)
    assert any(
        (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()
        for file in files
        if (tmp_path / "c" / file).exists()
    )


def test_set_is_split_by_patient_and_says_what_it_is(tmp_path: Path):
    write_phantoms(tmp_path / "p", patients=20, size=64)
    split = split_of(DataSource(str(tmp_path / "p")))
    assert split.classes == CLASSES and split.unrecognised == 0
    stems = [{sample.path.stem.split("-")[0] for sample in part} for part in (split.train, split.val, split.test)]
    assert [len(part) for part in stems] == [14, 2, 4]
    assert len(set.union(*stems)) == 20
    assert "synthetic phantom" in (tmp_path / "p" / "README.txt").read_text().lower()


def test_images_of_a_patient_differ_and_opacities_are_brighter_than_lungs():
    first, second = draw_phantom(3, 0), draw_phantom(3, 1)
    assert first.shape == (224, 224) and first.dtype == np.uint8
    assert not np.array_equal(first, second)
    lungs = np.s_[60:140, 40:90]
    clear = np.mean([draw_phantom(patient, 0)[lungs].mean() for patient in range(0, 40, 2)])
    opaque = np.mean([draw_phantom(patient, 0)[lungs].mean() for patient in range(1, 40, 2)])
    assert opaque > clear + 3


def test_refusals_leave_nothing_behind(tmp_path: Path):
    with pytest.raises(DataError, match="too few"):
        write_phantoms(tmp_path / "p", patients=4)
    (tmp_path / "full").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "full" / "mine.png")
    with pytest.raises(DataError, match="is not empty"):
        write_phantoms(tmp_path / "full", patients=20)
    (tmp_path / "file").touch()
    with pytest.raises((DataError, MachineError)):
        write_phantoms(tmp_path / "file" / "p", patients=20, size=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_phantoms_and_spec_need_no_torch():
    code = "import sys, medcompress.trained.phantom, medcompress.trained.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
