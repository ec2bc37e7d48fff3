"""``medcompress data``: what is said of a set, as a table and as JSON, and the set organised."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from medcompress.cli.documents import Described
from medcompress.cli.main import run
from medcompress.cli.source import source_from
from medcompress.runtime.errors import DataError, InputError


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        for patient in range(12):
            for view in range(2):
                pixels = rng.integers(0, 256, (40, 40), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"patient{label}{patient:02d}-{view}.png")
    return tmp_path / "scans"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "flat"
    (folder / "images").mkdir(parents=True)
    lines = ["image_id,dx,lesion_id"]
    for number in range(30):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / "images" / f"I{number}.jpg")
        lines.append(f"I{number},{'mel' if number // 2 % 2 else 'nv'},L{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def test_json_and_text(scans: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["data", str(scans), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Described)
    assert (found.task, found.modality, found.kind, found.positive) == (
        "pneumonia",
        "chest X-ray",
        "binary",
        "PNEUMONIA",
    )
    assert sum(part.images for part in found.parts.values()) == 48
    assert sum(part.patients for part in found.parts.values()) == 24
    assert found.sizes == {"40x40": 48} and found.table is None and found.organized is None and found.leaks is None
    assert run(["data", str(scans)]) == 0
    text = capsys.readouterr()
    assert "PNEUMONIA" in text.out and "patients" in text.out and found.fingerprint in text.out
    assert "warning" not in text.err


def test_names_are_shown_as_they_are(scans: Path, capsys: pytest.CaptureFixture[str]):
    (scans / "NORMAL").rename(scans / "[a]")
    (scans / "PNEUMONIA").rename(scans / ":lungs:[b]")
    assert run(["data", str(scans)]) == 0
    text = capsys.readouterr().out
    assert "\n[a] " in text.replace("\n ", "\n") and ":lungs:[b]" in text


def test_a_table_beside_the_images_is_found(table: Path, capsys: pytest.CaptureFixture[str]):
    (table / "images" / "extra.jpg").write_bytes((table / "images" / "I0.jpg").read_bytes())
    assert run(["data", str(table), "--json", "--patient-column", "image_id"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Described)
    assert found.table == str(table / "metadata.csv") and found.classes == ("mel", "nv")
    assert sum(part.patients for part in found.parts.values()) == 30
    assert run(["data", str(table)]) == 0
    text = capsys.readouterr()
    assert "warning: 1 image(s)" in text.err and "30 RGB" in text.out.replace("\n", " ")


def test_organized_data_are_the_same_data(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert run(["data", str(scans), "--seed", "3", "--out", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["organized"] == str(out / "split.csv")
    assert run(["data", str(scans), "--table", first["organized"], "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert {key: first[key] for key in ("fingerprint", "parts")} == {
        key: second[key] for key in ("fingerprint", "parts")
    }
    assert run(["data", str(scans), "--out", str(tmp_path / "copy"), "--copy"]) == 0
    assert f"--data {tmp_path / 'copy'} --table" in capsys.readouterr().out
    assert len(list((tmp_path / "copy").rglob("*.png"))) == 48


def test_leaks_are_looked_for_when_asked(scans: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["data", str(scans), "--leaks"]) == 0
    assert "no leaks found" in capsys.readouterr().out
    same = (scans / "NORMAL" / "patient000-0.png").read_bytes()
    for patient in range(12):
        (scans / "NORMAL" / f"patient0{patient:02d}-1.png").write_bytes(same)
    assert run(["data", str(scans), "--leaks", "--json"]) == 0
    assert any("pixel by pixel" in finding for finding in json.loads(capsys.readouterr().out)["leaks"])


def test_contradicting_pairs_are_named(scans: Path, capsys: pytest.CaptureFixture[str]):
    first, second = scans / "NORMAL" / "patient000-0.png", scans / "PNEUMONIA" / "patient100-0.png"
    second.write_bytes(first.read_bytes())
    assert run(["data", str(scans), "--leaks", "--json"]) == 0
    leaks = json.loads(capsys.readouterr().out)["leaks"]
    (told,) = [line for line in leaks if line.startswith("different labels: ")]
    assert str(first) in told and str(second) in told and "1 pair of one picture has different labels" in leaks


def test_a_table_that_is_not_used_is_told(table: Path, capsys: pytest.CaptureFixture[str]):
    """Folders of parts of the whole are not classes."""
    images = table / "images"
    (table / "more").mkdir()
    for number in range(15):
        (images / f"I{number}.jpg").rename(table / "more" / f"I{number}.jpg")
    (table / "metadata.csv").rename(table / "labels.csv")
    (table / "prices.csv").write_text("file,label\na,b\nc,d\n")
    assert run(["data", str(table)]) == 0
    err = capsys.readouterr().err
    assert "labels.csv lies beside the images and is not used; --table" in err and "prices" not in err
    assert run(["data", str(table), "--table", str(table / "labels.csv")]) == 0
    assert "not used" not in capsys.readouterr().err


def test_wrong_usage_is_one_line_and_code_2(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.csv").write_text("a\n")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    for arguments, message in (
        ([str(tmp_path / "absent")], "there is no such folder or file; give a folder"),
        (["pneumoniamnits"], "did you mean the MedMNIST set pneumoniamnist?"),
        ([str(tmp_path / "text.csv")], "give the folder, and a CSV with --table"),
        ([str(tmp_path / "bad.npz")], "not a whole .npz"),
        ([str(scans), "--copy"], "--copy needs --out"),
        ([str(scans), "--out", str(scans)], "not empty"),
        ([str(scans), "--task", "pneumonai"], "did you mean pneumonia?"),
        ([str(scans), "--task", "brain-tumor-4"], "are not the model's classes"),
        ([str(scans), "--table", str(tmp_path / "text.csv")], "no rows below its header"),
    ):
        assert run(["data", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, (arguments, err)
        assert err.count("\n") == 1
    assert run(["data", str(scans), "--uncertain", "maybe"]) == 2
    assert run(["data", str(scans), "--uncertain", "zeros"]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_source_from_is_absolute_and_checked(scans: Path, table: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(scans.parent)
    source = source_from("scans", task="Pneumonia", uncertain="ones", seed=4)
    assert (source.folder, source.task, source.uncertain, source.seed) == (str(scans), "pneumonia", "ones", 4)
    assert source.table is None and source_from("flat").table == str(table / "metadata.csv")
    with pytest.raises(InputError, match="did you mean"):
        source_from("scans", task="pneumoni")
    with pytest.raises(DataError, match="no such folder or file"):
        source_from("nothing")


def test_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks"]) == 0
    told = capsys.readouterr().out
    assert "brain-tumour-4" in told and "flips: horizontal" in told and "pneumoniamnist" in told
    assert run(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"chexpert", "skin-lesions", "lung-disease-5", "bloodmnist"} <= {task["name"] for task in listed}
