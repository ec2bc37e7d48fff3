"""The figures on a GPU, as far as they can be held to without one: the engines are fakes, and torch runs on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.progress import console
from medcompress.compress.against import gpu, torch_gpu
from medcompress.compress.against.torch_gpu import COMPILED, EAGER, GRAPHS
from medcompress.runtime.gpu import why_no_gpu

FAKE = (sys.executable, str(Path(__file__).parents[2] / "fake_engine.py"))
HALF = "onnxruntime-cuda-fp16"


@pytest.mark.skipif(not why_no_gpu(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line() -> None:
    command = [sys.executable, "-P", "-m", "medcompress.compress.against.gpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert why_no_gpu() in done.stderr


def test_every_form_is_timed_and_one_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr(gpu, "_ROUNDS", 1)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.01)

    def fake(name: str, **model: object) -> Candidate:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"logits": [0.0, 1.0], **model}))
        return Candidate(name, "fake", "fp16", (path,), command=FAKE)

    forms = [fake(HALF, engine_ms=0.001), fake(EAGER), fake(COMPILED, most=8), fake("tensorrt-int8", fail="load")]
    found = {form.name: form for form in gpu.time_gpu(forms, (3, 8, 8))}
    assert list(found) == [form.name for form in forms]
    assert found[HALF].engine_ms == 0.001 and found[EAGER].engine_ms is None
    assert found[HALF].p50_ms and found[HALF].images_per_second and not found[HALF].failed
    assert found[COMPILED].p50_ms and found[COMPILED].images_per_second is None
    assert "not enough memory" in found[COMPILED].failed
    assert found["tensorrt-int8"].p50_ms is None and "told not to load" in found["tensorrt-int8"].failed
    result = gpu.Found("net", "a fake GPU", {}, tuple(found.values()), gpu.goals_of(tuple(found.values())))
    assert msgspec.json.decode(msgspec.json.encode(result), type=gpu.Found) == result
    gpu._print(result)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and len({row.count("|") for row in rows}) == 1


def test_goals_are_of_the_fastest_peer() -> None:
    def form(name: str, ms: float, rate: float) -> gpu.Form:
        return gpu.Form(name, "fp16", p50_ms=ms, images_per_second=rate)

    forms = [form(HALF, 1, 900), form(EAGER, 4, 100), form(COMPILED, 2, 1000), form(GRAPHS, 1.1, 800)]
    goals = gpu.goals_of([*forms, form("tensorrt-int8", 0.5, 3000)])
    assert [goal.ratio for goal in goals] == [4, 1.1, 0.9, None, 2]
    assert [goal.met for goal in goals] == [True, False, True, None, True]
    assert all(goal.met is None for goal in gpu.goals_of([]))


def test_the_networks_of_torch_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medcompress.runtime.decision import Decision
    from medcompress.runtime.preprocessing import Preprocessing
    from medcompress.trained.spec import ModelSpec

    monkeypatch.setattr(torch_gpu, "_DEVICE", "cpu")
    spec = ModelSpec("timm/resnet10t", Preprocessing((32, 32)), Decision("binary", ("clear", "opacity"), "opacity"))
    eager = torch_gpu.candidates(spec, tmp_path)[0]
    assert [eager.name, eager.precision] == [EAGER, "tf32"]
    batch = np.zeros((2, 3, 32, 32), np.float32)
    for precision in ("fp32", "fp16"):
        engine = torch_gpu.load(eager.files, precision, 1)
        answer = engine.run(batch)
        assert answer.shape == (2, 2) and answer.dtype == np.float32 and np.isfinite(answer).all()


@pytest.mark.gpu
@pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu())
def test_on_a_real_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medcompress.benchmarks.timing.gpu import BATCHES, measure_device, memory_used
    from medcompress.benchmarks.timing.worker import Worker
    from medcompress.compress.against import latency

    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setitem(latency.NETWORKS, "small", ("resnet10t", 64, 1.5))
    monkeypatch.setattr(gpu, "_ROUNDS", 1)
    shape, forms = gpu.make_forms("small", tmp_path)
    found = {form.name: form for form in gpu.time_gpu(forms, shape)}
    assert {HALF, EAGER, COMPILED, GRAPHS} <= set(found)
    assert found[HALF].p50_ms and found[HALF].images_per_second, found[HALF].failed
    assert found[EAGER].engine_ms and found[EAGER].p50_ms and found[EAGER].engine_ms < found[EAGER].p50_ms
    half = next(form for form in forms if form.name == HALF)
    with Worker() as worker:
        worker.load(half.engine, half.files, half.precision, 1)
        figures = measure_device(worker, shape, nvidia=True, seconds=0.2)
    assert list(figures.images_per_second) == list(BATCHES)
    assert figures.images_per_second[64] > figures.images_per_second[1]
    assert memory_used() is None or (figures.device_memory_mib or 0) > 0
    assert figures.energy_mj is None or figures.energy_mj > 0
