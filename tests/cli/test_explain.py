"""``medcompress explain``: a sheet a class, or one of the images that are named; and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from medcompress.cli.documents import Explained
from medcompress.cli.main import run
from medcompress.runtime.decision import Decision

pytest.importorskip("pytorch_grad_cam")


def test_a_sheet_for_each_class(checkpoint: Path, phantoms: Path, tmp_path: Path, capsys) -> None:
    arguments = ["explain", str(checkpoint), "--per-class", "4", "--out", str(tmp_path), "--json"]
    assert run(arguments) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Explained)
    assert [Path(path).name for path in found.sheets] == ["SYNTHETIC-CLEAR.png", "SYNTHETIC-OPACITY.png"]
    assert found.layer == "layer4"
    for path in found.sheets:
        rows = [row for row in found.images if row.sheet == path]
        assert 0 < len(rows) <= 4
        assert {row.truth for row in rows} == {Path(path).stem}
        assert all(row.right is (row.truth == row.answer) for row in rows)
        assert all(row.explained == row.answer and row.probability >= 0.5 for row in rows), "the answer is explained"
        assert [row.right for row in rows] == sorted(row.right is True for row in rows), "the wrong ones first"
        assert all(Path(row.input).is_relative_to(phantoms / "test") for row in rows)
        with Image.open(path) as sheet:
            assert sheet.height > len(rows) * 224
            pixels = np.asarray(sheet)
        # Its panels: the image is grey, the heat map is not.
        left, middle = pixels[112:336, 24:248].astype(int), pixels[112:336, 260:484].astype(int)
        assert (np.ptp(left, axis=2) == 0).all()
        assert left.std() > 10
        assert np.ptp(middle, axis=2).max() > 50 or not middle[:, :, 1].any()
    first = Path(found.sheets[0]).read_bytes()
    assert run(arguments) == 0
    assert Path(found.sheets[0]).read_bytes() == first, "the same seed draws the same sheet"


def test_one_class_and_another_part(checkpoint: Path, tmp_path: Path, capsys) -> None:
    asked = ["--class", "SYNTHETIC-OPACITY", "--part", "val", "--out", str(tmp_path), "--json"]
    assert run(["explain", str(checkpoint), *asked]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Explained)
    assert [Path(path).name for path in found.sheets] == ["SYNTHETIC-OPACITY.png"]
    assert {row.explained for row in found.images} == {"SYNTHETIC-OPACITY"}
    assert all("/val/" in row.input for row in found.images)


def test_images_that_are_named(checkpoint: Path, image: Path, tmp_path: Path, capsys) -> None:
    assert run(["explain", str(checkpoint), str(image), str(image), "--out", str(tmp_path), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Explained)
    assert found.sheets == (str(tmp_path / "images.png"),)
    assert [(row.input, row.truth, row.right) for row in found.images] == [(str(image), None, None)] * 2
    assert run(["explain", str(checkpoint), str(image), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'images.png'}: 1 image(s)\n"
    many = [str(image)] * 3
    assert run(["explain", str(checkpoint), *many, "--per-sheet", "2", "--out", str(tmp_path), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Explained)
    assert [Path(path).name for path in found.sheets] == ["images-1.png", "images-2.png"]
    assert [Path(row.sheet).name for row in found.images] == ["images-1.png", "images-1.png", "images-2.png"]


def test_a_run_is_named_by_its_folder(checkpoint: Path, image: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(checkpoint, tmp_path / "best.pth")
    assert run(["explain", str(tmp_path), str(image)]) == 0
    assert (tmp_path / "explained" / "images.png").is_file()
    (tmp_path / "empty").mkdir()
    assert run(["explain", str(tmp_path / "empty"), str(image)]) == 2
    assert "holds no best.pth" in capsys.readouterr().err


def test_data_that_moved(checkpoint: Path, phantoms: Path, tmp_path: Path, capsys) -> None:
    from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint

    stored = load_checkpoint(checkpoint)
    gone = msgspec.structs.replace(stored.data, folder=str(tmp_path / "gone"))
    moved = tmp_path / "moved.pth"
    save_checkpoint(moved, type(stored)(**{**vars(stored), "data": gone}))
    assert run(["explain", str(moved)]) == 2
    assert "which is not there any more; give the folder with --data" in capsys.readouterr().err
    assert run(["explain", str(moved), "--data", str(phantoms), "--per-class", "1", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("1 image(s)") == 2


def test_several_findings(checkpoint: Path, image: Path, tmp_path: Path, capsys) -> None:
    """The sheet explains the class that is named, else the likeliest, though none reaches the threshold."""
    from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint

    stored = load_checkpoint(checkpoint)
    decision = Decision("multilabel", stored.spec.decision.classes, threshold=0.999)
    several = tmp_path / "several.pth"
    spec = msgspec.structs.replace(stored.spec, decision=decision)
    save_checkpoint(several, type(stored)(**{**vars(stored), "spec": spec}))
    probabilities: dict[str, float] = {}
    for asked in (["--class", "SYNTHETIC-CLEAR"], ["--class", "SYNTHETIC-OPACITY"], []):
        assert run(["explain", str(several), str(image), "--out", str(tmp_path), "--json", *asked]) == 0
        (row,) = msgspec.json.decode(capsys.readouterr().out, type=Explained).images
        assert row.answer is None
        assert row.explained in (asked[1:] or decision.classes)
        probabilities[row.explained] = row.probability
    assert row.explained == max(probabilities, key=lambda name: probabilities[name])
    assert run(["explain", str(several), "--out", str(tmp_path), "--per-class", "2", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Explained)
    assert all(row.explained == row.truth and row.right is False for row in found.images)


def test_what_is_refused(checkpoint: Path, image: Path, tmp_path: Path, capsys) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(b"\x80\x04cposix\nsystem\n.")
    for arguments, message in (
        ([checkpoint, text], "notes.txt: is not a PNG"),
        ([checkpoint, image, tmp_path / "none.png"], "cannot be opened"),
        ([checkpoint, "--class", "SYNTHETIC-OPACTY"], "did you mean SYNTHETIC-OPACITY?"),
        ([checkpoint, "--class", "lung"], "it is one of SYNTHETIC-CLEAR, SYNTHETIC-OPACITY"),
        ([pickled, image], "a pickle can run any code"),
        ([tmp_path / "best.pth"], "best.pth"),
    ):
        assert run(["explain", *map(str, arguments), "--out", str(tmp_path / "out")]) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_real_radiographs(shared_data: Path, checkpoint: Path, tmp_path: Path, capsys) -> None:
    images = sorted((shared_data / "xray_fullres").iterdir())[:2]
    assert run(["explain", str(checkpoint), *map(str, images), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "images.png").is_file()


def test_an_output_folder_that_cannot_be_made(checkpoint: Path, image: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(image, tmp_path / "file")
    assert run(["explain", str(checkpoint), str(image), "--out", str(tmp_path / "file")]) == 2
    assert "Traceback" not in capsys.readouterr().err
