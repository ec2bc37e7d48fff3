"""What the verdict does to exit codes, bundles and the kiosk's own evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medcompress.benchmarks.progress import console
from medcompress.benchmarks.report.record import Report
from medcompress.benchmarks.tolerance import MARGINS
from medcompress.cli.main import run
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.records import from_json

# Nothing measured is beyond them, and the few test phantoms show nothing.
OPEN = "".join(f"{name}: 0.99\n" for name in MARGINS)
# As on a PC where it is not installed.
NO_TORCH = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name.partition(".")[0] == "torch" else find(name, path, target)
PathFinder.find_spec = without
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)


@pytest.fixture
def margins(tmp_path: Path) -> Path:
    path = tmp_path / "tolerance.yaml"
    path.write_text(OPEN)
    return path


def report_of(folder: Path) -> Report:
    return from_json((folder / "report.json").read_bytes(), Report, "report.json")


@pytest.mark.usefixtures("one_rung")
def test_what_is_inconclusive_ends_with_1_unless_it_is_accepted(
    checkpoint: Path,
    margins: Path,
    begun: Callable[[Path], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = begun(tmp_path / "bundle")
    arguments = ["optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--tolerance", str(margins), "--json"]
    assert run([*arguments, "--out", str(out)]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["verdict"], printed["accepted"]) == ("inconclusive", False)
    assert {variant.precision for variant in open_bundle(out).manifest.variants} == {"fp32"}
    first = report_of(out).registration
    assert first.before and first.source == "tolerance.yaml"

    begun(out)
    assert run([*arguments, "--out", str(out), "--force", "--accept-inconclusive"]) == 0
    manifest = open_bundle(out).manifest
    assert (manifest.verdict, manifest.accepted) == ("inconclusive", True)
    assert "int8" in {variant.precision for variant in manifest.variants}
    assert "accepted" in (out / "report.html").read_text()


def test_margins_changed_after_a_look_are_told(
    checkpoint: Path, margins: Path, begun: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = begun(tmp_path / "bundle")
    # The float forms are enough to look at.
    arguments = ["optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--budget", "0"]
    arguments += ["--tolerance", str(margins), "--out", str(out)]
    run(arguments)
    seen = report_of(out).registration.measured
    later = 4_000_000_000
    margins.write_text(margins.read_text() + "minimum: 2\n")
    os.utime(margins, (later, later))
    begun(out)
    run([*arguments, "--force"])
    registration = report_of(out).registration
    assert registration.measured == seen, "when the images were first answered is remembered"
    assert not registration.before


def test_the_kiosk_makes_the_same_evidence_without_torch(pristine_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    hook, out = tmp_path / "hook", tmp_path / "evidence"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(NO_TORCH)
    command = [sys.executable, "-m", "medcompress.cli.main", "benchmark", str(pristine_bundle)]
    done = subprocess.run(
        [*command, "--data", str(phantoms), "--out", str(out), "--json"],
        env={**os.environ, "PYTHONPATH": str(hook)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    report = report_of(out)
    assert report.rule == "locked in the bundle"
    assert {row.name for row in report.rows} == {row["name"] for row in json.loads(done.stdout)["variants"]}
    assert report.evidence
    assert any("few" in caution for caution in report.cautions)
    assert {path.name for path in out.iterdir()} >= {"report.html", "report.md", "model_card.md", "flips.csv"}


def test_a_report_is_not_written_into_a_bundle(
    bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (bundle, bundle / "variants"):
        assert run(["benchmark", str(bundle), "--data", str(phantoms), "--out", str(folder)]) == 2
        assert "is a bundle, or lies in one" in capsys.readouterr().err
    open_bundle(bundle).check_files()


@pytest.mark.parametrize("extra", [["--out", "x"], ["--tolerance", "x"], ["--metadata", "x"], ["--variant", "x"]])
def test_options_that_would_be_ignored_are_refused(
    pristine_bundle: Path, extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["benchmark", str(pristine_bundle), *extra]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
