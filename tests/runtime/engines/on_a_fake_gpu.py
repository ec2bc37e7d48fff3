"""What the TensorRT engine asks of a GPU, and what becomes of it where that fails: with a fake driver and a fake
TensorRT, in a process of their own, which test_tensorrt_engine.py starts."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import fake_tensorrt
import msgspec
import numpy as np
import pytest
from onnx import TensorProto
from small_models import images, on_the_cpu, write_gpu_bundle, write_means

import medcompress.runtime
from medcompress.benchmarks.timing.worker import Worker
from medcompress.cli.build import _print_plan
from medcompress.cli.main import run
from medcompress.runtime import building, doctor, gpu, plans, trial
from medcompress.runtime.building import Built
from medcompress.runtime.bundle import Variant, open_bundle
from medcompress.runtime.engines import cuda_memory, load_engine, tensorrt_engine, tensorrt_lane, tensorrt_library
from medcompress.runtime.engines.tensorrt_builder import build, key_here
from medcompress.runtime.errors import EngineAbsent, EngineError
from medcompress.runtime.golden import make_picture, read_golden
from medcompress.runtime.machine import this_machine
from medcompress.runtime.plans import find
from medcompress.runtime.remedies import _of_forms
from medcompress.runtime.sealing import seal
from medcompress.runtime.selftest import check_variant

DRIVER = fake_tensorrt.DRIVER


class Watch:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def started(self, *what: object) -> None:
        self.told.append(("started", *what))

    def stepped(self, *what: object) -> None:
        self.told.append(("stepped", *what))

    def finished(self, *what: object) -> None:
        self.told.append(("finished", *what))

    def noted(self, what: str) -> None:
        self.told.append(("noted", what))


@pytest.fixture(autouse=True)
def _whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    fake_tensorrt.FAKE.clear()
    fake_tensorrt.DESERIALIZED.clear()
    yield
    DRIVER.fake_fail(b"", 0)
    DRIVER.fake_hang(0)
    DRIVER.fake_count(1)
    DRIVER.fake_version(13000)
    gpu._probed.cache_clear()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_means(tmp_path / "model.onnx")


def built(model: Path, precision: str = "fp32", outputs: tuple[str, ...] = (), **how: bool):
    return build(model, key_here(model, precision, outputs), Watch(), **how)


def test_a_plan_runs_batches_of_any_size_again_and_again_and_gives_all_back(model: Path) -> None:
    before = DRIVER.fake_live()
    built(model)
    engine = load_engine("tensorrt", [model], "fp32", 3)
    assert engine.executed.engine == f"tensorrt {fake_tensorrt.__version__}"
    assert (engine.executed.device, engine.executed.precision, engine.executed.threads) == ("Fake GPU", "fp32", 3)
    for seed, count in enumerate((1, 1, 1, 1, 5, 5, 5, 64, 65, 130, 2, 1, 1)):
        batch = images(count, seed)
        np.testing.assert_array_equal(engine.run(batch), on_the_cpu(model, batch))
    (parts,) = engine.parts(images(1), 1)
    assert parts.graph, "later runs of one size are one launch"
    engine.close()
    assert DRIVER.fake_live() == before
    with pytest.raises(EngineError, match="closed"):
        engine.run(images(1))


def test_tensorrt_10_is_asked_for_strong_types(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(fake_tensorrt, "__version__", "10.1.0")
    built(model)
    engine = load_engine("tensorrt", [model], "fp32", 1)
    np.testing.assert_array_equal(engine.run(images(3)), on_the_cpu(model, images(3)))


def test_what_cannot_be_captured_runs_without_a_graph(model: Path) -> None:
    built(model)
    engine = load_engine("tensorrt", [model], "fp32", 1)
    DRIVER.fake_fail(b"cuGraphInstantiate", 900)
    for seed in range(4):
        np.testing.assert_array_equal(engine.run(images(2, seed)), on_the_cpu(model, images(2, seed)))
    assert not engine.parts(images(2), 1)[0].graph


def test_tensors_within_and_halves_come_as_32_bits(tmp_path: Path) -> None:
    model = write_means(tmp_path / "half.onnx", kind=TensorProto.FLOAT16)
    record = built(model, "fp16", ("pooled",))
    assert (record.precision, record.layers) == ("fp16", {"fp16": 1})
    logits, pooled = load_engine("tensorrt", [model], "fp16", 1, ("pooled",)).run_all(images(3))
    assert logits.dtype == pooled.dtype == np.float32
    np.testing.assert_allclose(pooled[:, :, 0, 0], images(3).mean((2, 3)), atol=2e-3)
    with pytest.raises(EngineError, match="no tensor elsewhere"):
        built(model, "fp16", ("elsewhere",))
    with pytest.raises(EngineError, match="medcompress build"):
        load_engine("tensorrt", [model], "fp16", 1)


def test_threads_share_the_lanes_and_never_each_others_images(model: Path) -> None:
    built(model)
    engine = load_engine("tensorrt", [model], "fp32", 1)
    wrong: list[object] = []

    def ask(seed: int) -> None:
        for turn in range(8):
            batch = images(1 + (seed + turn) % 3, seed * 100 + turn)
            if not np.array_equal(engine.run(batch), on_the_cpu(model, batch)):
                wrong.append((seed, turn))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_gpu_that_is_lost_is_an_error_and_no_one_waits_for_it_twice(model: Path, monkeypatch) -> None:
    built(model)
    engine = load_engine("tensorrt", [model], "fp32", 1)
    engine.run(images(1))
    DRIVER.fake_fail(b"cuMemcpyHtoDAsync", 46)
    with pytest.raises(EngineError, match="CUDA_ERROR_DEVICE_UNAVAILABLE"):
        engine.run(images(1))
    DRIVER.fake_fail(b"", 0)
    engine.run(images(1))
    engine.run(images(2))
    before = DRIVER.fake_live()
    monkeypatch.setattr(tensorrt_lane, "LIMIT_S", 0.1)
    DRIVER.fake_hang(1)
    with pytest.raises(cuda_memory.GpuTimeout, match="no answer"):
        engine.run(images(1))
    monkeypatch.setattr(tensorrt_lane, "LIMIT_S", 3600)
    with pytest.raises(EngineError, match="no answer"):
        engine.run(images(1))
    engine.close()
    assert DRIVER.fake_live() == before, "to free memory is to wait for the GPU"
    *lanes, whole = tensorrt_engine._LEFT
    assert len(lanes) == 2 and isinstance(whole, fake_tensorrt.ICudaEngine)


def test_too_little_memory_is_told_as_such(model: Path) -> None:
    fake_tensorrt.FAKE.add("build")
    with pytest.raises(EngineError, match="not enough memory of the GPU is free, 6144 of 8192 MiB"):
        built(model)
    fake_tensorrt.FAKE.clear()
    built(model)
    before = DRIVER.fake_live()
    DRIVER.fake_fail(b"cuMemAlloc", 2)
    with pytest.raises(EngineError, match="not enough memory"):
        load_engine("tensorrt", [model], "fp32", 1)
    DRIVER.fake_fail(b"", 0)
    fake_tensorrt.FAKE.add("memory")
    with pytest.raises(EngineError, match="prepare an inference"):
        load_engine("tensorrt", [model], "fp32", 1)
    assert DRIVER.fake_live() == before


def test_the_operator_and_layer_the_parser_refuses_are_named(tmp_path: Path) -> None:
    model = write_means(tmp_path / "odd.onnx", last="Hardmax")
    with pytest.raises(EngineError, match="operator Hardmax of the layer last: no importer for it"):
        built(model)
    model = write_means(tmp_path / "fixed.onnx", batch=4)
    with pytest.raises(EngineError, match=r"takes image of \(4, 3, 4, 4\)"):
        built(model)


def test_progress_is_told_and_a_build_can_be_stopped(model: Path) -> None:
    class Impatient(Watch):
        def stepped(self, *what: object) -> None:
            raise KeyboardInterrupt

    watch = Watch()
    build(model, key_here(model, "fp32"), watch)
    assert watch.told[0] == ("started", "Building Engine", "", 3)
    assert [what[0] for what in watch.told[1:]] == ["stepped"] * 3 + ["finished"]
    other = write_means(model.with_name("other.onnx"), last="Sigmoid")
    with pytest.raises(KeyboardInterrupt):
        build(other, key_here(other, "fp32"), Impatient())
    with pytest.raises(EngineError, match="no plan was built"):
        find(key_here(other, "fp32"))


def test_a_timing_cache_is_used_again_and_a_corrupt_one_thrown_away(model: Path, tmp_path: Path) -> None:
    built(model)
    (cache,) = (tmp_path / "state" / "plans").glob("timing-*.cache")
    assert cache.read_bytes() == b"timings+"
    built(model)
    assert cache.read_bytes() == b"timings++"
    cache.write_bytes(b"timings, and more that nobody measured")
    watch = Watch()
    build(model, key_here(model, "fp32"), watch)
    assert "timing cache was thrown away" in watch.told[0][1]
    assert cache.read_bytes() == b"timings+"
    key = key_here(model, "fp32")
    plans.keep_timing_cache(key, b"whole, and of another TensorRT")
    watch = Watch()
    build(model, key, watch)
    assert "does not take its timing cache" in watch.told[0][1]
    assert cache.read_bytes() == b"timings+"


def test_only_a_whole_plan_of_ours_reaches_tensorrt(model: Path, tmp_path: Path) -> None:
    built(model)
    (plan,) = (tmp_path / "state" / "plans").glob("*.plan")
    whole = plan.read_bytes()
    fake_tensorrt.DESERIALIZED.clear()
    plan.write_bytes(whole[:-1] + b"x")
    with pytest.raises(EngineError, match=r"not as it was written.*run: medcompress build"):
        load_engine("tensorrt", [model], "fp32", 1)
    plan.write_bytes(whole)
    plan.chmod(0o666)
    with pytest.raises(EngineError, match="other users"):
        load_engine("tensorrt", [model], "fp32", 1)
    plan.chmod(0o644)
    plan.rename(plan.with_name("elsewhere"))
    plan.symlink_to(plan.with_name("elsewhere"))
    with pytest.raises(EngineError, match="is a link"):
        load_engine("tensorrt", [model], "fp32", 1)
    assert not fake_tensorrt.DESERIALIZED


def test_a_version_compatible_plan_runs_on_a_later_tensorrt(model: Path, monkeypatch) -> None:
    here = fake_tensorrt.__version__
    later, earlier = f"{here}.1", here.rpartition(".")[0]
    built(model)
    monkeypatch.setattr(fake_tensorrt, "__version__", later)
    with pytest.raises(EngineError, match=rf"another TensorRT \({here}; here: {later}\)"):
        load_engine("tensorrt", [model], "fp32", 1)
    monkeypatch.setattr(fake_tensorrt, "__version__", here)
    built(model, version_compatible=True)
    monkeypatch.setattr(fake_tensorrt, "__version__", later)
    engine = load_engine("tensorrt", [model], "fp32", 1)
    np.testing.assert_array_equal(engine.run(images(2)), on_the_cpu(model, images(2)))
    monkeypatch.setattr(fake_tensorrt, "__version__", earlier)
    with pytest.raises(EngineError, match="another TensorRT"):
        load_engine("tensorrt", [model], "fp32", 1)


def test_without_cuda_python_or_pycuda_it_is_absent(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(cuda_memory, "bindings", None)
    monkeypatch.setattr(cuda_memory, "pycuda", None)
    cuda_memory.cuda.cache_clear()
    with pytest.raises(EngineAbsent, match="cuda-python"):
        built(model)
    monkeypatch.undo()
    cuda_memory.cuda.cache_clear()


def test_a_driver_too_old_for_this_tensorrt_is_told_with_both_versions(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensorrt_library, "_made_for_cuda", lambda: 13)
    DRIVER.fake_version(12040)
    gpu._probed.cache_clear()
    with pytest.raises(EngineError, match=r"is made for CUDA 13, and the driver here runs CUDA 12\.4 at most"):
        load_engine("tensorrt", [model], "fp32", 1)


def test_build_makes_a_variant_answer_and_a_lost_gpu_hands_over_to_the_next(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    bundle = write_gpu_bundle(tmp_path / "bundle")
    with pytest.warns(RuntimeWarning, match="no plan was built.*medcompress build"):
        assert medcompress.runtime.load(bundle).variant.name == "onnxruntime-fp32"
    DRIVER.fake_count(2)
    gpu._probed.cache_clear()
    monkeypatch.setattr(trial, "_TURNS", 1)
    assert run(["build", str(bundle), "--json"]) == 0
    told = capsys.readouterr()
    assert "of 2 GPUs the first is used, Fake GPU; CUDA_VISIBLE_DEVICES chooses another" in told.err
    assert "building its plan" in told.err
    found = msgspec.json.decode(told.out, type=Built)
    (plan,) = found.plans
    assert (plan.ok, plan.kept, plan.golden_error, plan.shares.graph) == (True, False, 0, True)
    assert building._found(plan.record.key, False) == plan.record, "it is not built again"
    assert building._found(plan.record.key, True) is None, "but for another TensorRT it is"
    _print_plan(plan)
    assert "runs in  fp32: 1 layers in fp32" in capsys.readouterr().out
    predictor = medcompress.runtime.load(bundle, variant="tensorrt-fp32")
    assert predictor.predict(make_picture()).variant == "tensorrt-fp32"
    predictor.close()
    (kept,) = (tmp_path / "state").glob("placement-*")
    kept.unlink()  # whichever was quicker: TensorRT's is the bundle's own choice
    predictor = medcompress.runtime.load(bundle)
    answer = predictor.predict(make_picture())
    assert answer.variant == "tensorrt-fp32"
    DRIVER.fake_fail(b"cuEventQuery", 46)
    with pytest.warns(RuntimeWarning, match="CUDA_ERROR_DEVICE_UNAVAILABLE"):
        again = predictor.predict(make_picture())
    assert again.variant == "onnxruntime-fp32"
    assert again.probabilities == answer.probabilities
    predictor.close()


def test_what_measures_a_model_builds_its_plan_first(model: Path) -> None:
    with Worker() as worker:
        assert worker.load("tensorrt", [model], "fp32", 1).device == "Fake GPU"
        assert worker.engine_times((1, 3, 4, 4), 2) == [1.5, 1.5]
    assert find(key_here(model, "fp32"))


def test_the_doctor_says_to_build_the_plan(tmp_path: Path) -> None:
    bundle = open_bundle(write_gpu_bundle(tmp_path / "bundle"))
    check, _ = check_variant(bundle, read_golden(bundle), bundle.manifest.variants[0], 1)
    form = doctor.Form(check.name, False, check.status, None, None, None, None, False)
    (problem,) = _of_forms(bundle, doctor.Examined(str(bundle.folder), forms=(form,)), this_machine())
    assert problem.what == "tensorrt-fp32 does not run here: no plan was built from it on this machine"
    assert problem.mend == f"medcompress build {bundle.folder}"


def test_without_tensorrt_the_extra_is_named(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(["build", str(write_gpu_bundle(tmp_path / "bundle"))]) == 3
    assert "pip install 'medcompress[tensorrt]'" in capsys.readouterr().err


def test_build_says_which_plan_does_not_run(tmp_path: Path, capsys) -> None:
    bundle = write_gpu_bundle(tmp_path / "bundle")
    fake_tensorrt.FAKE.add("build")
    assert run(["build", str(bundle)]) == 3
    assert "not enough memory of the GPU is free" in capsys.readouterr().err


def test_what_cannot_be_built_keeps_no_other_from_being_built(tmp_path: Path, capsys, monkeypatch) -> None:
    folder = write_gpu_bundle(tmp_path / "bundle")
    manifest = open_bundle(folder).manifest
    write_means(folder / "odd.onnx", last="Hardmax", size=16)
    odd = Variant("tensorrt-odd", "tensorrt", "fp32", ("odd.onnx",), ("nvidia",))
    seal(folder, msgspec.structs.replace(manifest, files={}, variants=(odd, *manifest.variants)))
    monkeypatch.setattr(trial, "_TURNS", 1)
    assert run(["build", str(folder), "--json"]) == 3
    found = msgspec.json.decode(capsys.readouterr().out, type=Built)
    assert [(plan.variant, plan.ok) for plan in found.plans] == [("tensorrt-fp32", True)]
    assert (
        list(found.failed) == ["tensorrt-odd"] and "operator Hardmax of the layer last" in found.failed["tensorrt-odd"]
    )
