"""The pipeline: its verdicts, and what is left when it is stopped at the worst moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from medcompress.benchmarks.cautions import cautions_of
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.report.record import Report
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.tolerance import MARGINS, Tolerance
from medcompress.cli.main import run
from medcompress.compress import environment
from medcompress.compress.int8 import emission, ladder
from medcompress.compress.optimize import optimize
from medcompress.compress.options import Options
from medcompress.compress.recipes import REFERENCE
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError, DataError, InputError, MachineError
from medcompress.runtime.hardware import Cpu
from medcompress.runtime.records import from_json
from medcompress.runtime.selftest import verify
from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint
from medcompress.trained.tasks import task_for

Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)


def _report(bundle: Path) -> Report:
    return from_json((bundle / "report.json").read_bytes(), Report, "report.json")


def test_the_bundle_holds_the_evidence(pristine_bundle: Path, checkpoint: Path) -> None:
    manifest = open_bundle(pristine_bundle).manifest
    report = _report(pristine_bundle)
    assert {variant.name for variant in manifest.variants} == {found.name for found in report.rows if found.passed}
    assert manifest.verdict == report.verdict == "pass"
    calibration = json.loads((pristine_bundle / "calibration.json").read_text())
    assert len(calibration["sha256"]) == len(set(calibration["sha256"])) > 16
    assert str(checkpoint.parent) not in (pristine_bundle / "manifest.json").read_text(), "no path of the build machine"
    page = (pristine_bundle / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert all(found.name in page for found in report.rows)
    assert verify(pristine_bundle).runs


def test_figures_that_mean_little_are_said_to_first(pristine_bundle: Path) -> None:
    told = " ".join(_report(pristine_bundle).cautions)
    assert "few" in told, "the phantoms of the tests have a handful of test images"
    usual = [Row(REFERENCE, "onnxruntime", "fp32", 1000, "reference")]
    assert cautions_of(usual, REFERENCE, {"A": 30, "B": 300}, Tolerance()) == ()
    assert "flips" in cautions_of(usual, REFERENCE, {"A": 30, "B": 300}, Tolerance(flips=1))[0]
    chance = Row(REFERENCE, "onnxruntime", "fp32", 1, "reference", auroc=0.55)
    assert "hardly tells the classes apart" in cautions_of([chance], REFERENCE, {"A": 99, "B": 99}, Tolerance())[0]


def test_what_cannot_be_proven_here_is_told_at_once(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    without = Cpu("an older CPU", "x86_64", ("avx2",), 1)
    monkeypatch.setattr("medcompress.compress.inputs.this_cpu", lambda: without)
    with pytest.raises(MachineError, match="no vnni"):
        optimize(Options(checkpoint, int8=True, targets=("cpu-vnni",), out=tmp_path / "b"))
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_not_replaced_unasked(checkpoint: Path, bundle: Path) -> None:
    with pytest.raises(InputError, match="--force"):
        optimize(Options(checkpoint, out=bundle, int8=True))
    (bundle / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a bundle"):
        optimize(Options(checkpoint, out=bundle, int8=True, replace=True))


def test_images_that_are_gone_or_changed_are_told(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    data, out = shutil.copytree(phantoms, tmp_path / "data"), tmp_path / "b"
    stored, own = load_checkpoint(checkpoint), tmp_path / "best.pth"
    save_checkpoint(own, replace(stored, data=msgspec.structs.replace(stored.data, folder=str(data))))
    hidden = data.rename(tmp_path / "hidden")
    with pytest.raises(DataError, match="--data"):
        optimize(Options(own, int8=True, out=out))
    with pytest.raises(DataError, match="no such folder"):
        optimize(Options(own, int8=True, out=out, data=tmp_path / "nowhere"))
    hidden.rename(data)
    extra = data / "test" / "SYNTHETIC-CLEAR" / "patient9999-0.png"
    shutil.copy(next((data / "train" / "SYNTHETIC-CLEAR").glob("*.png")), extra)
    with pytest.raises(DataError, match="changed since"):
        optimize(Options(own, int8=True, out=out))
    # Accepted by name, the same picture in training and test is still found.
    with pytest.raises(DataError, match=r"same picture as .*patient9999-0"):
        optimize(Options(own, int8=True, out=out, data=data))
    assert not out.exists()


def test_classes_that_do_not_match_are_refused(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    other = shutil.copytree(phantoms, tmp_path / "other")
    for part in ("train", "val", "test"):
        (other / part / "SYNTHETIC-CLEAR").rename(other / part / "HEALTHY")
    with pytest.raises(DataError, match="HEALTHY"):
        optimize(Options(checkpoint, data=other, out=tmp_path / "b"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_what_is_no_checkpoint_is_refused_before_any_work(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        optimize(Options(path, int8=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.pth"]


def test_too_little_disk_is_told_before_any_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(MachineError, match="MB are needed"):
        optimize(Options(checkpoint, int8=True, out=tmp_path / "b"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_only_looks_like_a_stopped_run_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    precious = tmp_path / "b.partial" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(InputError, match="not a stopped run"):
        optimize(Options(checkpoint, int8=True, out=tmp_path / "b"))
    assert precious.read_text() == "years of work"


def test_a_disk_that_fills_up_ends_the_run_with_code_3_and_no_bundle(
    checkpoint: Path, begun: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = begun(tmp_path / "b")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "variants/x")

    monkeypatch.setattr(ladder, "make_apart", full)
    assert run(["optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--out", str(out)]) == 3
    assert "the disk is full" in capsys.readouterr().err
    assert not out.exists()


CHILD = """
import json, os, signal, sys, time
request = json.loads(sys.stdin.buffer.read())
if request["engine"] == "openvino":
    os.kill(os.getpid(), signal.SIGSEGV)
import io
sys.stdin = io.TextIOWrapper(io.BytesIO(json.dumps(request).encode()))
from medcompress.compress.int8.emission import _child
_child()
"""


def test_a_converter_that_crashes_costs_its_own_form_only(
    checkpoint: Path,
    begun: Callable[[Path], Path],
    wide: Tolerance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child, out = tmp_path / "child.py", begun(tmp_path / "b")
    child.write_text(CHILD)
    monkeypatch.setattr(emission, "_COMMAND", (sys.executable, str(child)))
    outcome = optimize(Options(checkpoint, int8=True, targets=("cpu-avx2",), out=out, tolerance=wide))
    by_name = {found.name: found for found in outcome.report.rows}
    told = "error: not made: the process that made it ended (SIGSEGV)"
    assert by_name["openvino-int8-avx2"].status == told
    assert by_name["onnxruntime-int8-avx2"].passed
    assert outcome.report.verdict == "pass"
    steps = {step.form: step.outcome for step in outcome.report.steps}
    assert steps["openvino-int8-avx2"] == told.replace("not made: ", "")


def test_without_time_there_is_no_int8_form_and_it_is_said(
    checkpoint: Path, begun: Callable[[Path], Path], wide: Tolerance, tmp_path: Path
) -> None:
    out = begun(tmp_path / "b")
    report = optimize(Options(checkpoint, int8=True, targets=("cpu-avx2",), out=out, tolerance=wide, minutes=0)).report
    assert report.verdict == "fail"
    states = {row.name: row.status for row in report.rows if row.precision == "int8"}
    assert set(states.values()) == {"error: not made: the time of --budget was used up"}


@pytest.fixture
def start(program: list[str], checkpoint: Path) -> Start:
    """Start a run with margins that let everything pass, as a process of its own."""

    def begin(out: Path) -> subprocess.Popen[str]:
        tolerance = out.with_name("tolerance.yaml")
        tolerance.write_text("".join(f"{name}: 1\n" for name in MARGINS))
        command = [*program, "optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--out", str(out)]
        command += ["--tolerance", str(tolerance)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    return begin


def wait_for(child: subprocess.Popen[str], words: str) -> None:
    """Until it says them."""
    assert child.stderr
    assert any(words in line for line in child.stderr), words


def test_killed_at_any_stage_it_leaves_no_bundle_and_goes_on(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    for words in ("Exporting", "trying openvino", "Measuring", "Writing the bundle"):
        child = start(out)
        wait_for(child, words)
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL, words
        assert not out.exists(), words
    child = start(out)
    _, said = child.communicate()
    assert child.returncode == 0, said
    assert said.count("done before") == 11, "all stages up to the measurement were kept"
    assert verify(out).runs
    assert {path.name for path in tmp_path.iterdir()} - {"bundle-review"} == {"bundle", "tolerance.yaml"}


def test_two_runs_do_not_share_a_bundle_and_ctrl_c_ends_one_with_one_line_and_code_130(
    start: Start, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    child = start(out)
    try:
        wait_for(child, "Choosing")
        with pytest.raises(MachineError, match="another run"):
            optimize(Options(checkpoint, int8=True, out=out))
        wait_for(child, "Exporting")
        child.send_signal(signal.SIGINT)
        _, rest = child.communicate()
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert "Traceback" not in rest
    assert "goes on from there" in rest
    assert not out.exists()


def test_leaks_go_on_only_when_accepted_and_the_report_says_so(
    checkpoint: Path, phantoms: Path, wide: Tolerance, tmp_path: Path
) -> None:
    # Under the names of a task that is known, which the bundle then says it is for.
    data = shutil.copytree(phantoms, tmp_path / "data")
    for part in (data / "train", data / "val", data / "test"):
        (part / "SYNTHETIC-CLEAR").rename(part / "NORMAL")
        (part / "SYNTHETIC-OPACITY").rename(part / "PNEUMONIA")
    held = load_checkpoint(checkpoint)
    spec = msgspec.structs.replace(held.spec, decision=Decision("binary", ("NORMAL", "PNEUMONIA"), "PNEUMONIA"))
    known = tmp_path / "best.pth"
    save_checkpoint(known, replace(held, spec=spec))
    leaked = next((data / "train" / "NORMAL").glob("*.png"))
    shutil.copy(leaked, data / "test" / "NORMAL" / "patient9999-0.png")
    options = Options(known, data=data, out=tmp_path / "b", tolerance=wide)
    with pytest.raises(DataError, match=r"1 of \d+ held-out images are training images too.*--accept-leaks"):
        optimize(options)
    report = optimize(msgspec.structs.replace(options, accept_leaks=True)).report
    assert report.cautions[0].startswith("Leaks were accepted (1 of ")
    assert report.checks is not None
    assert report.checks.accepted
    assert open_bundle(tmp_path / "b").manifest.lineage["task"] == task_for(("NORMAL", "PNEUMONIA")).name
    page = (tmp_path / "b" / "report.html").read_text()
    assert "--accept-leaks" in page
    assert "patient9999" not in page, "a report travels: it names no file"


def test_every_unreadable_image_is_named(checkpoint: Path, phantoms: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(console, "quiet", False)
    data = shutil.copytree(phantoms, tmp_path / "data")
    for image in sorted((data / "test" / "SYNTHETIC-CLEAR").glob("*.png"))[:2]:
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of .* images cannot be read"):
        optimize(Options(checkpoint, data=data, out=tmp_path / "b"))
    assert capsys.readouterr().err.count("unreadable: ") == 2
