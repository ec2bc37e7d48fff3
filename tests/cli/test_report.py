"""``medcompress report`` and ``medcompress results``."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.report.published import BEGIN, END
from medcompress.benchmarks.report.stored import read_report
from medcompress.cli.main import run
from medcompress.cli.report import Written
from medcompress.cli.results import Results
from medcompress.runtime.bundle import MANIFEST, Manifest, Variant
from medcompress.runtime.errors import BundleError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.records import to_json
from medcompress.runtime.sealing import seal

PAGES = ("report.html", "report.md", "model_card.md", "report.json")
MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "report" / "reports.py")))


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A bundle as far as its report goes: the model is a few bytes."""
    report = MADE.binary()
    folder = tmp_path / "best-int8"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "report.json").write_bytes(to_json(report))
    form = Variant(report.chosen, "onnxruntime", "fp32", ("model.onnx",))
    manifest = Manifest(
        schema=1,
        created=report.created,
        verdict="pass",
        reason=report.reason,
        chosen=report.chosen,
        reference=report.chosen,
        threads=1,
        decision=report.decision,
        preprocessing=Preprocessing((48, 48)),
        variants=(form,),
        spec={"architecture": "timm/resnet18"},
        lineage={},
    )
    seal(folder, manifest)
    return folder


def test_writes_the_four_files_and_says_where(sealed: Path, capsys) -> None:
    assert run(["report", str(sealed)]) == 0
    printed = capsys.readouterr().out
    out = sealed.with_name("best-int8-report")
    assert sorted(path.name for path in out.iterdir()) == sorted(PAGES)
    assert printed.startswith("PASS: ")
    assert all(str(out / name) in printed for name in PAGES)
    assert (out / "report.json").read_bytes() == (sealed / "report.json").read_bytes()
    assert "network: timm/resnet18" in (out / "model_card.md").read_text(encoding="utf-8")


def test_overwrites_its_own_files_only(sealed: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "there"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "report.html").write_text("old")
    assert run(["report", str(sealed), "--out", str(out), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Written)
    assert found.files == tuple(str(out / name) for name in PAGES)
    assert (out / "notes.txt").read_text() == "mine"
    assert "<!doctype html>" in (out / "report.html").read_text(encoding="utf-8")


def test_a_report_that_was_changed_is_refused(sealed: Path, capsys) -> None:
    stored = sealed / "report.json"
    stored.write_bytes(stored.read_bytes().replace(b'"verdict": "pass"', b'"verdict": "fail"'))
    assert run(["report", str(sealed)]) == 2
    assert "was changed after the bundle was written" in capsys.readouterr().err
    with pytest.raises(BundleError):
        read_report(sealed)


@pytest.mark.parametrize(("schema", "mend"), [(1, "make the bundle again"), (99, "update medcompress")])
def test_a_report_of_another_schema_says_how_to_mend_it(tmp_path: Path, schema: int, mend: str, capsys) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": schema, "other": 1}))
    assert run(["report", str(path)]) == 2
    assert mend in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 2}', b"\xff\xfe"])
def test_what_is_no_report_is_refused_in_a_line(tmp_path: Path, content: bytes, capsys) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    assert run(["report", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_folder_without_a_report_is_refused(tmp_path: Path, capsys) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_report_alone_has_pages_too(tmp_path: Path, capsys) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(to_json(MADE.binary("fail")))
    assert run(["report", str(path)]) == 0
    assert capsys.readouterr().out.startswith("FAIL: ")
    assert (tmp_path / "report-report" / "report.md").exists()


def test_results_of_bundles_and_reports(sealed: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(to_json(MADE.multiclass()))
    assert run(["results", str(sealed), str(other)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"**{MADE.CHOSEN}**") == 2
    assert run(["results", str(sealed), str(other), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Results)
    assert [each.chosen for each in found.reports] == [MADE.CHOSEN] * 2
    assert found.into == ""


def test_results_into_a_file_twice_are_the_same(sealed: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# a\n\n{BEGIN}\n{END}\n\nend\n", encoding="utf-8")
    for _ in range(2):
        assert run(["results", str(sealed), "--into", str(readme)]) == 0
        text = readme.read_text(encoding="utf-8")
        assert text.startswith("# a\n") and text.endswith("\nend\n")
        assert text.count(f"**{MADE.CHOSEN}**") == 1


def test_results_without_a_place_are_refused_and_nothing_is_written(sealed: Path, tmp_path: Path, capsys) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no markers")
    assert run(["results", str(sealed), "--into", str(readme)]) == 2
    assert BEGIN in capsys.readouterr().err
    assert readme.read_text() == "no markers"
    assert (sealed / MANIFEST).exists()


def test_a_folder_that_cannot_be_written_is_a_line(sealed: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert run(["report", str(sealed), "--out", str(tmp_path / "file" / "below")]) == 3
    assert "give another --out" in capsys.readouterr().err
