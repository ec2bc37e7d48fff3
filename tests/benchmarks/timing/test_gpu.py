"""What is told of a form on an accelerator. Engine and driver are fakes: no GPU is needed, and none is timed."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.evaluation import answer
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.report.device_tables import DEVICE
from medcompress.benchmarks.report.html import render_html
from medcompress.benchmarks.report.markdown import render_markdown
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.timing import gpu
from medcompress.benchmarks.timing.worker import Worker
from medcompress.cli.table import print_table
from medcompress.runtime.gpu import Gpu, why_no_gpu
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.records import from_json, to_json

FAKE = (sys.executable, str(Path(__file__).parents[2] / "fake_engine.py"))
MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "report" / "reports.py")))
SHAPE = (3, 8, 8)


def fake(folder: Path, name: str, requires: tuple[str, ...] = (), **model: object) -> Candidate:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"logits": [0.0, 1.0], **model}))
    return Candidate(name, "fake", "fp16", (path,), requires, command=FAKE)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """An engine that tells its own time, and holds 16 images at most."""
    model = fake(tmp_path, "fake", engine_ms=0.25, most=16)
    with Worker(model.command) as worker:
        worker.load(model.engine, model.files, model.precision, 1)
        yield worker


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """1000 mJ more at every look, and 512 MiB in use while the worker lives, 192 when it has ended."""
    energy = iter(range(0, 10**6, 1000))

    def used(pci: str) -> int:
        return 512 * 2**20 if worker._child.poll() is None else 192 * 2**20

    monkeypatch.setattr(gpu, "this_gpu", lambda: Gpu("a fake", "9.0", "580", "13.0", 2**36, pci="0"))
    monkeypatch.setattr(gpu, "nvml", SimpleNamespace(energy_mj=lambda pci: next(energy), memory_used_bytes=used))


def test_figures_of_a_device(worker: Worker, fake_driver: None) -> None:
    found = gpu.measure_device(worker, SHAPE, nvidia=True, seconds=0.01)
    assert found.engine_ms == 0.25
    assert list(found.images_per_second) == [1, 8, 16], "32 do not fit, and 64 are not tried"
    assert all(rate > 0 for rate in found.images_per_second.values())
    assert found.device_memory_mib == 320, "however much others took since it was loaded"
    assert found.energy_mj is not None and 0 < found.energy_mj <= 1000 / 6  # at least five runs and a warm-up


def test_what_nothing_tells_is_none(tmp_path: Path) -> None:
    model = fake(tmp_path, "fake")
    with Worker(model.command) as worker:
        worker.load(model.engine, model.files, model.precision, 1)
        found = gpu.measure_device(worker, SHAPE, seconds=0.001)
    assert found.engine_ms is found.energy_mj is found.device_memory_mib is None
    assert list(found.images_per_second) == list(gpu.BATCHES)


@pytest.mark.skipif(not why_no_gpu(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.evaluation.ROUNDS", 1)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.01)
    candidates = [fake(tmp_path, "reference"), fake(tmp_path, "fast", ("nvidia",), engine_ms=0.25)]
    rows = answer(candidates, "reference", Preprocessing((8, 8)), {}, 1).rows
    assert rows[1].status == f"not run here: {why_no_gpu()}"
    assert rows[1].p50_ms is rows[1].engine_ms is None and not rows[1].images_per_second
    assert rows[0].p50_ms and not rows[0].images_per_second, "on a CPU one image at a time is what is timed"
    print_table(rows, "title", "reference")
    printed = capsys.readouterr().out
    assert "fast: not run here: " in printed and "on an accelerator" not in printed


def on_gpu(row: Row) -> Row:
    return msgspec.structs.replace(
        row,
        name="tensorrt-int8",
        engine="tensorrt",
        device="TensorRT on a fake GPU",
        p50_ms=2.0,
        engine_ms=1.5,
        images_per_second={1: 500.0, 64: 12345.0},
        energy_mj=70.25,
        device_memory_mib=321.0,
    )


def test_the_tables_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    report = MADE.binary()
    rows = (*report.rows, on_gpu(report.rows[1]))
    report = msgspec.structs.replace(report, rows=rows)
    assert from_json(to_json(report), type(report), "report").rows == rows
    print_table(rows, "title", report.chosen)
    for text in (capsys.readouterr().out, render_markdown(report), render_html(report)):
        for figure in ("75", "500", "12345", "70.2", "321"):
            assert figure in text.replace(",", "")
    assert DEVICE in render_markdown(report)


def test_the_report_says_why_none_ran() -> None:
    report = MADE.binary()
    missing = Row("tensorrt-fp16", "tensorrt", "fp16", 0, "not run here: no NVIDIA driver")
    report = msgspec.structs.replace(report, rows=(*report.rows, missing))
    for text in (render_markdown(report), render_html(report)):
        assert "Forms for an accelerator: not run here: no NVIDIA driver." in text and DEVICE not in text
