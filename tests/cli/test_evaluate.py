"""``evaluate`` and ``compare``: documents, tables and exit codes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.documents import Evaluated, Failed
from medcompress.cli.main import run
from medcompress.runtime.decision import Decision
from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint
from medcompress.trained.results.comparison import Comparison

pytestmark = pytest.mark.usefixtures("blank_plots")


@pytest.fixture(scope="module")
def left(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What evaluating the checkpoint leaves."""
    out = tmp_path_factory.mktemp("left") / "one"
    assert run(["evaluate", str(checkpoint), "--draws", "50", "--out", str(out)]) == 0
    return out


def test_evaluate_prints_a_document(checkpoint: Path, capsys) -> None:
    assert run(["evaluate", str(checkpoint), "--part", "val", "--draws", "50", "--json"]) == 0
    captured = capsys.readouterr()
    found = msgspec.json.decode(captured.out, type=Evaluated)
    assert (found.model, found.part, found.ran) == (str(checkpoint), "val", "torch fp32")
    assert found.assessment.figures["auroc"].value is not None
    assert "flatter" in found.warnings[0] and captured.err.count("warning:") == 1


def test_evaluate_prints_tables(checkpoint: Path, capsys) -> None:
    assert run(["evaluate", str(checkpoint), "--draws", "50"]) == 0
    out = capsys.readouterr().out
    for told in ("AUROC", "balanced accuracy", "95 % interval", "SYNTHETIC-OPACITY", "test images", "Brier"):
        assert told in out


def test_names_are_shown_as_they_are(checkpoint: Path, tmp_path: Path, capsys) -> None:
    stored = load_checkpoint(checkpoint)
    decision = Decision("binary", ("[a]", "[b]"), "[b]")
    data = tmp_path / "data"
    for name, made in zip(stored.spec.decision.classes, decision.classes, strict=True):
        shutil.copytree(Path(stored.data.folder) / "test" / name, data / made)
    spec = msgspec.structs.replace(stored.spec, decision=decision)
    model = tmp_path / "[bold]" / "best.pth"
    model.parent.mkdir()
    save_checkpoint(model, dataclasses.replace(stored, spec=spec))
    assert run(["evaluate", str(model), "--data", str(data), "--draws", "20", "--out", str(tmp_path / "[x]")]) == 0
    out = capsys.readouterr().out
    assert out.count("[a]") == 1 and out.count("[b]") == 2 and "[bold]" in out
    assert run(["compare", str(tmp_path / "[x]"), "--draws", "20"]) == 0
    out = capsys.readouterr().out
    assert "[x]" in out and "\\" not in out


def test_compare(left: Path, checkpoint: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "two"
    assert run(["evaluate", str(checkpoint), "--draws", "50", "--out", str(other)]) == 0
    capsys.readouterr()
    arguments = ["compare", str(left), str(other), "--draws", "50", "--out", str(tmp_path / "both")]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    for told in ("one", "two", "reference", "+0.0000", "AUROC"):
        assert told in out
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"comparison.json", "comparison.png"}
    assert run([*arguments, "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Comparison)
    assert len(found.rows) == 2


def test_other_images_are_described_by_a_table(checkpoint: Path, phantoms: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "flat").mkdir()
    lines = ["file,label,patient"]
    for image in sorted((phantoms / "train").rglob("*.png")):
        shutil.copy(image, tmp_path / "flat")
        lines.append(f"{image.name},{image.parent.name},{image.stem.split('-')[0]}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines))
    arguments = ["evaluate", str(checkpoint), "--table", str(table), "--draws", "0", "--json", "--part", "all"]
    assert run([*arguments, "--data", str(tmp_path / "flat")]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Evaluated)
    assert found.assessment.images == len(lines) - 1 > found.assessment.patients > 1
    assert run(arguments) == 2
    assert "--table" in capsys.readouterr().err


def test_bad_input_ends_with_code_2(left: Path, tmp_path: Path, capsys) -> None:
    for arguments in (
        ["compare", str(tmp_path)],
        ["compare"],
        ["evaluate", str(tmp_path)],
        ["compare", str(left), "x"],
    ):
        assert run([*arguments, "--json"]) == 2, arguments
        captured = capsys.readouterr()
        assert msgspec.json.decode(captured.out, type=Failed).error["code"] == 2
        assert "Traceback" not in captured.err
