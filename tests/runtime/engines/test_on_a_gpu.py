"""TensorRT for real: plans of small graphs, built and run on this machine's NVIDIA GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from small_models import images, on_the_cpu, write_means, write_quantized

from medcompress.runtime.engines import load_engine
from medcompress.runtime.golden import TOLERANCE
from medcompress.runtime.gpu import this_gpu, why_no_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(this_gpu() is None, reason=why_no_gpu() or "there is a GPU")]


@pytest.fixture(autouse=True)
def _tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt", exc_type=ImportError)
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))


class Quiet:
    """Is told how far a build is."""

    def __init__(self) -> None:
        self.phases = 0

    def started(self, phase: str, parent: str, steps: int) -> None:
        self.phases += 1

    def stepped(self, phase: str, step: int) -> None:
        pass

    def finished(self, phase: str) -> None:
        pass

    def noted(self, what: str) -> None:
        pass


def built(model: Path, precision: str, outputs: tuple[str, ...] = (), **how: bool):
    from medcompress.runtime.engines.tensorrt_builder import build, key_here

    watch = Quiet()
    record = build(model, key_here(model, precision, outputs), watch, **how)
    assert watch.phases, "TensorRT tells its progress"
    return record


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("compatible", [False, True])
def test_a_quantized_graph_runs_in_8_bits_as_onnx_runtime_does(tmp_path: Path, compatible: bool) -> None:
    model = write_quantized(tmp_path / "model.onnx")
    record = built(model, "int8", version_compatible=compatible)
    # Whether the inspector tells of a version-compatible plan's layers is TensorRT's affair.
    assert compatible or record.layers.get("int8", 0) >= 2, record.layers
    engine = load_engine("tensorrt", [model], "int8", 1)
    assert engine.executed.precision == "int8"
    assert engine.executed.device == this_gpu().name
    for count in (1, 1, 1, 1, 7, 7, 7, 64, 70):
        batch = images(count, count, 32)
        assert error(engine.run(batch), on_the_cpu(model, batch)) <= TOLERANCE["int8"]
    parts = engine.parts(images(1, 0, 32), 20)
    assert all(part.engine > 0 and part.whole > 0 for part in parts)
    assert parts[-1].graph
    engine.close()


def test_halves_and_tensors_within(tmp_path: Path) -> None:
    model = write_means(tmp_path / "model.onnx", kind=TensorProto.FLOAT16, size=16)
    built(model, "fp16", ("pooled",))
    _, pooled = load_engine("tensorrt", [model], "fp16", 1, ("pooled",)).run_all(images(3, 0, 16))
    np.testing.assert_allclose(pooled[:, :, 0, 0], images(3, 0, 16).mean((2, 3)), atol=0.01)


def test_fp32_is_not_tf32(tmp_path: Path) -> None:
    model = write_means(tmp_path / "model.onnx", size=16)
    built(model, "fp32")
    engine = load_engine("tensorrt", [model], "fp32", 1)
    assert engine.executed.precision == "fp32"
    assert error(engine.run(images(5, 0, 16)), on_the_cpu(model, images(5, 0, 16))) <= TOLERANCE["fp32"]


def test_threads_get_their_own_answers(tmp_path: Path) -> None:
    model = write_means(tmp_path / "model.onnx", size=16)
    built(model, "fp32")
    engine = load_engine("tensorrt", [model], "fp32", 1)
    wrong: list[tuple[int, int]] = []

    def ask(seed: int) -> None:
        for turn in range(50):
            batch = images(1 + (seed + turn) % 3, seed * 100 + turn, 16)
            if error(engine.run(batch), on_the_cpu(model, batch)) > TOLERANCE["fp32"]:
                wrong.append((seed, turn))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
