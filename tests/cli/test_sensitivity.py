"""``medcompress sensitivity``: its document, its table, its picture, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.documents import Failed, Sensitive
from medcompress.cli.main import run
from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint

QUICK = ("--shares", "50", "--images", "4")


@pytest.fixture
def without_test(checkpoint: Path, phantoms: Path, tmp_path: Path) -> Path:
    """The checkpoint, its data moved to where every test image is no image."""
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    for image in (data / "test").rglob("*.png"):
        image.write_bytes(b"not to be read")
    stored = load_checkpoint(checkpoint)
    path = tmp_path / "run" / "best.pth"
    path.parent.mkdir()
    save_checkpoint(path, dataclasses.replace(stored, data=msgspec.structs.replace(stored.data, folder=str(data))))
    return path


def test_a_document_a_picture_and_no_test_image(without_test: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "pictures" / "sensitivity.svg"
    arguments = ["sensitivity", str(without_test.parent), "--shares", "50,75", "--images", "4", "--out", str(out)]
    assert run([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    found = msgspec.json.decode(captured.out, type=Sensitive, strict=True)
    assert (found.checkpoint, found.plot) == (str(without_test), str(out))
    assert found.data == str(tmp_path / "data")
    assert found.sensitivity.images == 4
    for group in found.sensitivity.groups:
        assert [loss.share for loss in group.losses] == [0.5, 0.75]
        assert group.units > group.losses[-1].gone >= group.losses[0].gone
        assert group.losses[-1].macs >= group.losses[0].macs
        assert group.layers
    drawn = out.read_text()
    assert drawn.startswith("<?xml")
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


def test_a_table(checkpoint: Path, capsys) -> None:
    assert run(["sensitivity", str(checkpoint), *QUICK]) == 0
    out = capsys.readouterr().out
    for told in ("4 validation images", "AUROC lost", "MACs saved", "at 50 %", "answers changed"):
        assert told in out
    rows = [line.split()[0] for line in out.splitlines() if line.lstrip().startswith(("layer", "conv1"))]
    assert rows.index("layer1.0.conv1") < rows.index("layer2.0.conv1") < rows.index("layer4.0.conv1")
    kept = ("--keep", "layer4.*", "--keep", "layer2.0.conv1")
    assert run(["sensitivity", str(checkpoint), *QUICK, *kept]) == 0
    out = capsys.readouterr().out
    assert "layer1.0.conv1" in out and "layer4.0.conv1" not in out and "layer2.0.conv1" not in out


def test_other_images_are_told(checkpoint: Path, phantoms: Path, tmp_path: Path, capsys) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    next(iter((data / "train").rglob("*.png"))).unlink()
    assert run(["sensitivity", str(checkpoint), "--data", str(data), *QUICK, "--json"]) == 0
    captured = capsys.readouterr()
    (warning,) = msgspec.json.decode(captured.out, type=Sensitive).warnings
    assert "some may have trained it" in warning and warning in captured.err


def test_what_is_refused(checkpoint: Path, tmp_path: Path, capsys) -> None:
    stored = load_checkpoint(checkpoint)
    lost = tmp_path / "lost.pth"
    gone = msgspec.structs.replace(stored.data, folder=str(tmp_path / "gone"))
    save_checkpoint(lost, dataclasses.replace(stored, data=gone))
    for arguments, message in (
        ([lost], "which is not there any more; give the folder with --data"),
        ([checkpoint, "--data", tmp_path / "none"], "none"),
        ([tmp_path / "best.pth"], "best.pth"),
        ([tmp_path], "holds no best.pth"),
        ([checkpoint, "--shares", "50,25"], "rising percentages"),
        ([checkpoint, "--shares", "0"], "rising percentages"),
        ([checkpoint, "--shares", "half"], "rising percentages"),
        ([checkpoint, "--shares", "nan"], "rising percentages"),
        ([checkpoint, "--keep", "layer9"], "no layer is called layer9"),
        ([checkpoint, "--keep", "*"], "no channels that can go"),
        ([checkpoint, "--out", tmp_path / "plot.jpg"], "end its name with .svg, .png, .pdf"),
    ):
        assert run(["sensitivity", *map(str, arguments), "--json"]) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
        assert msgspec.json.decode(captured.out, type=Failed).error["code"] == 2


def test_a_picture_that_cannot_be_written(checkpoint: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "plot.svg"
    assert run(["sensitivity", str(checkpoint), *QUICK, "--out", str(out)]) == 3
    assert "cannot be written" in capsys.readouterr().err
