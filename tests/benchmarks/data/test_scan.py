from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.data.scan import refuse_unreadable, scan
from medcompress.runtime.errors import DataError


def write(path: Path, seed: int = 0, **how: object) -> Sample:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50), np.uint8)).save(path, **how)
    return Sample(path, (1, 0), path.stem)


def test_every_unreadable_image_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [write(tmp_path / f"{n}.png", n) for n in range(5)]
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes((tmp_path / "2.png").read_bytes()[:300])
    scanned = scan(samples)
    assert [sample.path.name for sample in scanned.samples] == ["0.png", "2.png", "4.png"]
    assert len(scanned.hashes) == len(scanned.facts) == len(scanned.thumbnails) == 3
    assert [Path(entry.path).name for entry in scanned.unreadable] == ["1.png", "3.png"]
    with pytest.raises(DataError, match=r"^2 of 5 images cannot be read: .*1\.png: is empty .*1 more"):
        refuse_unreadable(scanned)
    said = capsys.readouterr().err.replace("\n", "")
    assert "1.png" in said
    assert "3.png" in said
    refuse_unreadable(scanned.part(samples[:1]))


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    samples = [
        write(tmp_path / "a.png"),
        write(tmp_path / "b.jpg", quality=95),
        write(tmp_path / "c.jpg", quality=50, exif=exif),
    ]
    png, fine, coarse = scan(samples).facts
    assert (png.format, png.width, png.height, png.mode, png.quantization, png.exif) == ("PNG", 50, 40, "L", 0, False)
    assert 0 < fine.quantization < coarse.quantization
    assert (fine.exif, coarse.exif) == (False, True)
