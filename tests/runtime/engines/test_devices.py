"""Engines of other devices on a machine that may have none: what really ran is told, and a fall-back is an error."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import openvino as ov
import pytest
from small_models import images, on_the_cpu, write_means, write_quantized

from medcompress.runtime import requirements
from medcompress.runtime.engines import Executed, load_engine, onnxruntime_gpu, onnxruntime_provider, openvino_engine
from medcompress.runtime.errors import EngineAbsent, EngineError
from medcompress.runtime.golden import TOLERANCE
from medcompress.runtime.gpu import Gpu, this_gpu, why_no_gpu
from medcompress.runtime.hardware import Cpu

FAKE_GPU = Gpu("Fake GPU", "8.6", "580.65.06", "13.0", 24 * 2**30, 1, "0000:01:00.0")
CPU = Cpu("a CPU", "x86_64", ("avx2",), 1)
on_a_gpu = pytest.mark.skipif(this_gpu() is None, reason=why_no_gpu() or "there is a GPU")


def test_auto_says_that_it_ran_on_the_cpu(tmp_path: Path) -> None:
    if ov.Core().available_devices != ["CPU"]:
        pytest.skip("AUTO has another device to choose here")
    model, batch = write_means(tmp_path / "model.onnx"), images(3)
    engine = load_engine("openvino-auto", [model], "fp32", 1)
    assert engine.executed == Executed(engine.executed.engine, "CPU, chosen by AUTO", "fp32", 1)
    assert np.allclose(engine.run(batch), on_the_cpu(model, batch), atol=1e-5)
    with pytest.raises(EngineError, match="does not execute fp16 on a device of its choice"):
        load_engine("openvino-auto", [model], "fp16", 1)


@pytest.mark.parametrize(("engine", "device"), [("openvino-gpu", "GPU"), ("openvino-npu", "NPU")])
def test_a_device_openvino_does_not_see_is_absent(tmp_path: Path, engine: str, device: str) -> None:
    if any(name.startswith(device) for name in ov.Core().available_devices):
        pytest.skip(f"there is a {device} here")
    with pytest.raises(EngineAbsent, match=f"OpenVINO sees no {device} here, only CPU"):
        load_engine(engine, [write_means(tmp_path / "model.onnx")], "fp16", 1)


def test_a_device_of_fixed_shapes_takes_a_batch_image_by_image(tmp_path: Path) -> None:
    model, batch = write_means(tmp_path / "model.onnx"), images(5)
    engine = openvino_engine._load(ov.Core(), "CPU", {}, [model], "fp32", 1, ("flat",), single=True)
    logits, flat = engine.run_all(batch)
    assert np.allclose(logits, on_the_cpu(model, batch), atol=1e-5)
    assert flat.shape == (5, 3)


def test_an_openvino_device_that_gives_no_answer_is_waited_for_once(tmp_path: Path) -> None:
    """The CPU in its place, which is given no time at all for a great many images."""
    compiled = ov.Core().compile_model(write_means(tmp_path / "model.onnx", size=64), "CPU")
    executed = Executed("openvino", "GPU.0", "fp16", 1)
    engine = openvino_engine.OpenVinoEngine(compiled, executed, limits_s=(20.0, 20.0))
    assert np.allclose(engine.run(images(3, 0, 64)), on_the_cpu(tmp_path / "model.onnx", images(3, 0, 64)), atol=1e-5)
    engine = openvino_engine.OpenVinoEngine(compiled, executed, limits_s=(0.0, 0.0))
    for count in (3000, 1):
        with pytest.raises(EngineError, match=r"^the GPU\.0 gave no answer in 0 s; restart the machine$"):
            engine.run(images(count, 0, 64))
    engine.close()


def test_without_a_gpu_its_engines_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_gpu, "this_gpu", lambda: None)
    monkeypatch.setattr(onnxruntime_gpu, "why_no_gpu", lambda: "no NVIDIA driver")
    for engine in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        with pytest.raises(EngineAbsent, match=r"^no NVIDIA driver$"):
            load_engine(engine, [write_means(tmp_path / "model.onnx")], "fp16", 1)


def test_an_onnxruntime_for_cpus_is_no_silent_fall_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("the onnxruntime that is installed has CUDA")
    monkeypatch.setattr(onnxruntime_gpu, "this_gpu", lambda: FAKE_GPU)
    model = write_means(tmp_path / "model.onnx")
    for engine in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        with pytest.raises(EngineAbsent, match="for CPUs alone; pip uninstall -y onnxruntime onnxruntime-gpu"):
            load_engine(engine, [model], "fp16", 1)
    with pytest.raises(EngineError, match="does not execute int8; use TensorRT"):
        load_engine("onnxruntime-cuda", [model], "int8", 1)
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(onnxruntime_provider, "_version", versions.get)
    with pytest.raises(EngineAbsent, match="are both installed, and overwrite each other's files; pip uninstall"):
        load_engine("onnxruntime-cuda", [model], "fp32", 1)


def test_layers_that_run_elsewhere_are_an_error_that_names_them(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    onnxruntime_provider.ask_for_assignment(options)
    session = ort.InferenceSession(str(write_means(tmp_path / "model.onnx")), options, ["CPUExecutionProvider"])
    onnxruntime_provider.check_assignment(session, "CPUExecutionProvider")
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider does not take GlobalAveragePool \(.* on the CPU"):
        onnxruntime_provider.check_assignment(session, "CUDAExecutionProvider")


def test_buffers_are_kept_for_the_first_shapes_and_others_run_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own code on a session of the CPU, in whose memory its buffers then lie."""
    monkeypatch.setattr(onnxruntime_gpu, "_DEVICE", "cpu")
    model = write_means(tmp_path / "model.onnx")
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    engine = onnxruntime_gpu.OnnxRuntimeGpuEngine(session, Executed("onnxruntime", "CPU", "fp32", 1))
    random = np.random.default_rng(0)
    for count in (1, 2, 1, 3, 1, 4, 5, 2, 6, 7, 7, 1):
        batch = random.standard_normal((count, 3, 4, 4), dtype=np.float32)
        assert np.allclose(engine.run(batch), on_the_cpu(model, batch), atol=1e-6)
    assert sorted(shape[0] for shape in engine._bound) == [1, 2, 3, 4, 5, 6]
    first = engine.run(np.zeros((1, 3, 4, 4), np.float32))
    engine.run(np.ones((1, 3, 4, 4), np.float32))
    assert not first.any(), "an answer is no buffer that the next one overwrites"
    with pytest.raises(EngineError, match="could not run the model"):
        engine.run(np.zeros((1, 2, 4, 4), np.float32))
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.run(batch)


def test_a_gpu_that_gives_no_answer_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = ort.InferenceSession(str(write_means(tmp_path / "model.onnx")), providers=["CPUExecutionProvider"])
    engine = onnxruntime_gpu.OnnxRuntimeGpuEngine(session, Executed("onnxruntime", "CPU", "fp32", 1))
    released = threading.Event()
    monkeypatch.setattr(onnxruntime_gpu, "_FIRST_LIMIT_S", 0.05)
    monkeypatch.setattr(engine, "_run", lambda session, batch: released.wait())
    with pytest.raises(EngineError, match="the GPU gave no answer"):
        engine.run(images(1))
    monkeypatch.setattr(onnxruntime_gpu, "_FIRST_LIMIT_S", 3600)
    with pytest.raises(EngineError, match="the GPU gave no answer"):
        engine.run(images(1))
    engine.close()
    released.set()


def test_a_plan_of_the_tensorrt_provider_is_for_one_model_and_one_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime names them by the model's file name and tensors: one trained again has the same."""
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(onnxruntime_provider, "_MOST_PLANS", 3)
    first, again = tmp_path / "1" / "model.onnx", tmp_path / "2" / "model.onnx"
    for path, content in ((first, b"weights"), (again, b"weights, trained again")):
        path.parent.mkdir()
        path.write_bytes(content)

    def folder(path: Path, *tensors: str) -> str:
        return onnxruntime_provider.plan_cache(FAKE_GPU, path, tensors).get("trt_engine_cache_path", "")

    found = [folder(first), folder(again), folder(first, "maps")]
    assert len(set(found)) == 3 and folder(first) == found[0]
    for place in (Path(found[0]), Path(found[0]).parent):
        place.chmod(0o777)
        assert not folder(first), "who may write a plan decides what runs"
        place.chmod(0o700)
    (Path(found[1]) / "old.engine").write_bytes(b"")
    os.utime(found[1], (1, 1))
    again.write_bytes(b"and again")
    assert folder(again) and not Path(found[1]).exists()
    assert Path(found[0]).exists()


def test_what_cuda_graphs_refuse_is_told_by_operator_and_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA provider is a fake, which takes no graph; the session is the CPU's."""
    model, tries = write_means(tmp_path / "model.onnx"), []
    monkeypatch.setattr(onnxruntime_gpu, "_gpu", lambda provider: FAKE_GPU)
    make = ort.InferenceSession

    def session(path: str, options: ort.SessionOptions, providers: list, **how: object) -> ort.InferenceSession:
        ((_, settings),) = providers
        tries.append(settings)
        if "enable_cuda_graph" in settings:
            raise RuntimeError("all compute graph nodes have not been partitioned to the CUDA EP")
        made = make(path, options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(made, "get_providers", lambda: ["CUDAExecutionProvider"])
        return made

    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider does not take GlobalAveragePool"):
        load_engine("onnxruntime-cuda", [model], "fp32", 1)
    assert [settings["use_tf32"] for settings in tries] == ["0", "0"]
    # Where all of it runs on the GPU, and only the graph is refused.
    monkeypatch.setattr(onnxruntime_gpu, "check_assignment", lambda session, provider: None)
    engine = load_engine("onnxruntime-cuda", [model], "fp32", 1)
    assert engine.executed.device == "CUDAExecutionProvider without CUDA graphs on Fake GPU"
    engine.close()


def test_a_damaged_plan_of_the_tensorrt_provider_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is a fake: it takes no plan that lies there, and writes its own."""
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(onnxruntime_gpu, "_gpu", lambda provider: FAKE_GPU)
    model = write_means(tmp_path / "model.onnx")
    tries: list[bool] = []

    def session(provider: str, options: dict[str, str], *rest: object) -> ort.InferenceSession:
        plan = Path(options["trt_engine_cache_path"]) / "TRTKernel_0.engine"
        tries.append(plan.exists())
        if plan.exists() or len(tries) == 1:
            raise EngineError("could not deserialize engine from cache")
        plan.write_bytes(b"a plan")
        return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime_gpu, "_session", session)
    with pytest.raises(EngineError, match="deserialize"):
        load_engine("onnxruntime-tensorrt", [model], "fp16", 1)
    for _ in range(2):
        load_engine("onnxruntime-tensorrt", [model], "fp16", 1).close()
    assert tries == [False, False, True, False], "what fails without a plan is not tried again"


def test_a_driver_too_old_for_this_onnxruntime_is_told_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "cuda_version", "14.1", raising=False)
    monkeypatch.setattr(onnxruntime_gpu, "this_gpu", lambda: FAKE_GPU)
    with pytest.raises(EngineError, match=r"is made for CUDA 14, and driver 580\.65\.06 here runs CUDA 13\.0 at most"):
        load_engine("onnxruntime-cuda", [write_means(tmp_path / "model.onnx")], "fp32", 1)
    monkeypatch.setattr(ort, "cuda_version", "13.0")
    assert not onnxruntime_provider.driver_too_old(FAKE_GPU)


def test_what_a_machine_lacks_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(requirements.DEVICES, "nvidia", lambda: "no NVIDIA driver")
    assert requirements.lacking(("nvidia",), CPU) == "no NVIDIA driver"
    assert requirements.refusal(("nvidia", "vnni"), CPU) == "no NVIDIA driver"
    assert requirements.lacking(("vnni", "bf16"), CPU) == "needs a CPU with vnni, bf16"
    assert requirements.refusal(("vnni",), CPU) == "needs a CPU with vnni, this one is x86-avx2"
    assert requirements.lacking(("avx2",), CPU) == requirements.refusal((), CPU) == ""
    assert requirements.devices_of(("avx2", "nvidia")) == ("nvidia",)


def test_no_device_is_looked_for_that_no_variant_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> str:
        raise AssertionError("a device is looked for")

    for device in requirements.DEVICES:
        monkeypatch.setitem(requirements.DEVICES, device, asked)
    assert requirements.lacking(("vnni",), CPU)
    assert not requirements.lacking(("avx2",), CPU)


def _on_the_gpu(engine: str, model: Path, precision: str, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Its answers from CUDA graphs that were captured with other images, and between them of other shapes; each row is
    of another batch size."""
    loaded = load_engine(engine, [model], precision, 1)
    assert "ExecutionProvider on " in loaded.executed.device
    sizes = range(1, len(batch) + 1)
    for size in sizes:
        loaded.run(batch[:size][::-1])
        loaded.run(batch[:size] + 1)
    found = {size: loaded.run(batch[:size]) for size in reversed(sizes)}
    loaded.close()
    return np.stack([found[size][size - 1] for size in sizes])


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_cuda_answers_as_the_cpu_does(tmp_path: Path, precision: str) -> None:
    pytest.importorskip("onnx")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    model, batch = write_means(tmp_path / "model.onnx"), images(4)
    expected = on_the_cpu(model, batch)
    found = _on_the_gpu("onnxruntime-cuda", model, precision, batch)
    assert np.abs(found - expected).max() <= TOLERANCE[precision] * max(1.0, np.abs(expected).max())


@pytest.mark.gpu
@on_a_gpu
def test_cuda_runs_graphs_of_16_bits(tmp_path: Path) -> None:
    halve = pytest.importorskip("medcompress.compress.half").halve
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    model, batch = write_means(tmp_path / "model.onnx"), images(4)
    halve(model, tmp_path / "half.onnx", batch)
    expected = on_the_cpu(model, batch)
    found = _on_the_gpu("onnxruntime-cuda", tmp_path / "half.onnx", "fp16", batch)
    assert np.abs(found - expected).max() <= TOLERANCE["fp16"] * max(1.0, np.abs(expected).max())


@pytest.mark.gpu
@on_a_gpu
def test_tensorrt_by_onnxruntime_runs_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onnxruntime_provider.load_libraries("TensorrtExecutionProvider"):
        pytest.skip(onnxruntime_provider.absent("TensorrtExecutionProvider"))
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    model, batch = write_quantized(tmp_path / "model.onnx"), images(4, 0, 32)
    expected = on_the_cpu(model, batch)
    found = _on_the_gpu("onnxruntime-tensorrt", model, "int8", batch)
    assert np.abs(found - expected).max() <= TOLERANCE["int8"] * max(1.0, np.abs(expected).max())
    assert list((tmp_path / "state").rglob("*.engine")), "the plan is kept"
    shutil.rmtree(tmp_path / "state")
