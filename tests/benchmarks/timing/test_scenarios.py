"""LoadGen's four scenarios, run for real on a tiny model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from medcompress.benchmarks.progress import console
from medcompress.benchmarks.timing import loadgen_child
from medcompress.benchmarks.timing.loadgen import LEAST_QUERIES, LoadTest, LoadWorker, Outcome, Scenario, read_log
from medcompress.benchmarks.timing.scenarios import TRIES, Load, _serve, run_scenarios
from medcompress.runtime.bundle import SCHEMA, Bundle, Manifest, Variant, open_bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.engines import Executed
from medcompress.runtime.errors import EngineError, InputError, MachineError
from medcompress.runtime.golden import Golden, make_picture
from medcompress.runtime.hardware import this_cpu
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.sealing import seal

pytest.importorskip("mlperf_loadgen")
onnx = pytest.importorskip("onnx")

SIZE = (8, 8)
SECONDS = 0.3
NAME = "onnxruntime-fp32"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of one model that runs, one for another kind of CPU, and one that is no model."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    folder.mkdir()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "weight")
    image = helper.make_tensor_value_info("image", kind, ["batch", 3, *SIZE])
    logits = helper.make_tensor_value_info("logits", kind, ["batch", 2])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "broken.onnx").write_bytes(b"no model")
    preprocessing = Preprocessing(SIZE)
    other = "dotprod" if this_cpu().architecture == "x86_64" else "vnni"
    variants = (
        Variant(NAME, "onnxruntime", "fp32", ("model.onnx",)),
        Variant("elsewhere", "onnxruntime", "fp32", ("model.onnx",), (other,)),
        Variant("broken", "onnxruntime", "fp32", ("broken.onnx",)),
    )
    inputs = np.random.default_rng(0).integers(0, 256, (3, *SIZE), dtype=np.uint8)
    outputs = {variant.name: np.zeros((3, 2), dtype=np.float32) for variant in variants}
    picture = make_picture()
    golden = Golden(inputs, outputs, picture, preprocessing.render(picture))
    (folder / "golden.npz").write_bytes(golden.to_bytes())
    manifest = Manifest(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        verdict="pass",
        reason="a test",
        chosen=NAME,
        reference=NAME,
        threads=1,
        decision=Decision("binary", ("CLEAR", "OPACITY"), "OPACITY"),
        preprocessing=preprocessing,
        variants=variants,
        spec={},
        lineage={},
    )
    seal(folder, manifest)
    return open_bundle(folder)


@pytest.mark.parametrize(
    ("scenario", "unit"), [("single-stream", "ms"), ("multi-stream", "ms"), ("offline", "samples/s")]
)
def test_each_variant_that_runs_gets_its_figure(tiny: Bundle, scenario: Scenario, unit: str) -> None:
    found = run_scenarios(tiny, Load(scenario, threads=1, seconds=SECONDS))
    (result,) = found.results
    assert set(found.not_run) == {"elsewhere", "broken"}
    assert "needs a CPU with" in found.not_run["elsewhere"]
    assert "cannot load" in found.not_run["broken"]
    assert result.valid, result.why
    assert (result.variant, result.precision, result.unit) == (NAME, "fp32", unit)
    assert result.figure > 0
    assert result.seconds >= SECONDS
    assert result.label.startswith("MLPerf-style, ")
    assert found.inputs == "3 golden inputs of the bundle"
    if scenario == "single-stream":
        assert (result.workers, result.samples, result.figure) == (1, result.queries, result.p90_ms)
        assert result.p50_ms and result.p90_ms and result.p99_ms
        assert result.p50_ms <= result.p90_ms <= result.p99_ms
        assert result.early_stopping_ms and result.early_stopping_ms >= result.p90_ms
    elif scenario == "multi-stream":
        assert result.queries >= LEAST_QUERIES["multi-stream"]
        assert (result.samples, result.figure) == (8 * result.queries, result.p99_ms)
        assert result.early_stopping_ms and result.early_stopping_ms >= result.figure
    else:
        assert result.queries == 1 and result.samples > 64
        assert result.p99_ms is None
        assert f"{result.samples} samples" in result.label


def test_a_server_at_a_rate_it_can_hold(tiny: Bundle) -> None:
    load = Load("server", threads=1, seconds=SECONDS, target_qps=1000, latency_bound_ms=5000)
    (result,) = run_scenarios(tiny, load, variant=NAME).results
    assert result.valid, result.why
    assert result.scheduled_qps == pytest.approx(1000, rel=0.2)
    assert result.completed_qps and result.completed_qps <= result.scheduled_qps
    assert (result.figure, result.late, result.tries) == (result.scheduled_qps, 0, ())
    assert (result.target_qps, result.latency_bound_ms) == (1000, 5000)


def test_a_server_asked_for_too_much_is_invalid_and_says_why(tiny: Bundle) -> None:
    load = Load("server", threads=1, seconds=SECONDS, target_qps=200_000, latency_bound_ms=1)
    (result,) = run_scenarios(tiny, load, variant=NAME).results
    assert not result.valid
    assert "Reduce target QPS" in result.why
    assert result.late and result.late > 0.01


def test_without_a_rate_a_server_is_given_several(tiny: Bundle) -> None:
    (result,) = run_scenarios(tiny, Load("server", threads=1, seconds=SECONDS), variant=NAME).results
    assert 1 <= len(result.tries) <= TRIES
    valid = [each.target_qps for each in result.tries if each.valid]
    assert result.target_qps == (max(valid) if valid else result.tries[-1].target_qps)
    assert result.valid == bool(valid)


PLAN = LoadTest("server", 60.0, workers=2, capacity=100.0, latency_bound_ms=100.0)


def _server(holds: float, queries: int = 1000) -> Any:
    """A server of which half the answers are late above a rate; of few queries LoadGen holds none valid."""

    def test(plan: LoadTest) -> Outcome:
        late = queries // 2 if plan.target_qps > holds else 0
        return Outcome("0", queries, queries, 1.0, not late and queries > 459, "", 1.0, 1.0, 1.0, 1.0, late=late)

    return test


@pytest.mark.parametrize("holds", [5.0, 40.0, 80.0, 110.0])
def test_the_search_ends_just_under_the_rate_it_holds(holds: float) -> None:
    plan, outcome, tries = _serve(PLAN, None, _server(holds))
    assert outcome.valid
    assert holds - 125 / 2**TRIES <= plan.target_qps <= holds
    assert len(tries) == TRIES


def test_the_search_gives_up_where_no_rate_would_do() -> None:
    _, outcome, tries = _serve(PLAN, None, _server(holds=80, queries=100))
    assert not outcome.valid and len(tries) == 1, "a lower rate has fewer queries still"
    slow = msgspec.structs.replace(PLAN, capacity=10.0)
    plan, outcome, tries = _serve(slow, None, _server(holds=0))
    assert not outcome.valid and (plan.target_qps, tries) == (5, ()), "a sample alone is over the bound"
    short = msgspec.structs.replace(PLAN, seconds=0.1)
    plan, outcome, tries = _serve(short, None, _server(holds=0))
    assert (plan.target_qps, tries) == (50, ()), "no test is long enough for the queries LoadGen needs"


def test_images_of_the_users_are_the_samples(tiny: Bundle, tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(np.full((20, 30), 50 * index, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    load = Load("single-stream", threads=1, seconds=SECONDS)
    assert run_scenarios(tiny, load, sorted(tmp_path.glob("*.png")), NAME).inputs == "2 images"


def test_what_cannot_be_measured_is_an_error_where_nothing_else_was(tiny: Bundle) -> None:
    load = Load("single-stream", threads=1, seconds=SECONDS)
    with pytest.raises(EngineError, match="broken: ONNX Runtime cannot load"):
        run_scenarios(tiny, load, variant="broken")
    with pytest.raises(InputError, match=NAME):
        run_scenarios(tiny, load, variant="another")


def test_stdout_and_the_current_folder_are_left_alone(tiny: Bundle, tmp_path: Path) -> None:
    # LoadGen reads such a file from the current folder by itself.
    (tmp_path / "audit.config").write_text("*.SingleStream.min_query_count = 1000000\n")
    code = (
        "import sys\n"
        "from medcompress.benchmarks.timing.scenarios import Load, run_scenarios\n"
        "from medcompress.runtime.bundle import open_bundle\n"
        "load = Load('single-stream', 1, 0.2)\n"
        f"(result,) = run_scenarios(open_bundle(sys.argv[1]), load, variant='{NAME}').results\n"
        "print(result.valid, result.queries < 1_000_000)\n"
    )
    command = [sys.executable, "-c", code, str(tiny.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    assert done.stdout == "True True\n"
    assert f"{NAME}: single-stream" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["audit.config"]


def test_a_child_that_dies_under_load_is_an_engine_error(tiny: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros((2, *SIZE), dtype=np.uint8))
    with LoadWorker(30) as worker:
        worker.load("onnxruntime", [tiny.folder / "model.onnx"], "fp32", 1)
        capacity = worker.prepare(tmp_path / "inputs.npy", tiny.manifest.preprocessing, 1, 0.05)
        threading.Timer(0.3, worker._child.kill).start()
        with pytest.raises(EngineError, match="SIGKILL"):
            worker.test(LoadTest("single-stream", 30, 1, capacity), tmp_path / "logs")


class _Failing:
    """An engine that fails once it is told to."""

    executed = Executed("fake", "none", "fp32", 1)
    fails = False

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        time.sleep(0.0005)
        if self.fails:
            raise EngineError("told to fail")
        return batch

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("scenario", "workers"), [("single-stream", 1), ("multi-stream", 2), ("offline", 2)])
def test_an_engine_that_fails_under_load_ends_the_test(tmp_path: Path, scenario: Scenario, workers: int) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros((2, *SIZE), dtype=np.uint8))
    engine = _Failing()
    system = loadgen_child._System(engine)
    prepare = msgspec.to_builtins(Preprocessing(SIZE))
    capacity = system.prepare(str(tmp_path / "inputs.npy"), prepare, workers, 0.05)["capacity"]
    engine.fails = True
    with pytest.raises(EngineError, match="told to fail"):
        system.test(msgspec.to_builtins(LoadTest(scenario, 0.1, workers, capacity)), str(tmp_path))


@pytest.mark.parametrize("content", ["", ":::MLLOG {", ':::MLLOG {"key": "result_validity", "value": "VALID"}', "\xff"])
def test_a_log_without_a_result_is_an_engine_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "detail.txt"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(EngineError, match="no result in its log"):
        read_log(path, "single-stream", 1.0)
    with pytest.raises(EngineError, match="no result in its log"):
        read_log(tmp_path / "none", "single-stream", 1.0)


@pytest.mark.parametrize(
    ("scenario", "change"),
    [
        ("offline", {"target_qps": 5.0}),
        ("single-stream", {"latency_bound_ms": 5.0}),
        ("server", {"target_qps": 0.0}),
        ("server", {"latency_bound_ms": float("nan")}),
        ("server", {"seconds": float("inf")}),
        ("server", {"threads": 0}),
    ],
)
def test_loads_that_make_no_sense_are_refused(scenario: Scenario, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Load(scenario, **{"threads": 1, **change})


def test_without_loadgen_the_error_names_the_extra(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcompress.benchmarks.timing.loadgen.find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"medcompress\[loadgen\]"):
        run_scenarios(tiny, Load("offline", 1))


@pytest.mark.parametrize(
    "load",
    [
        Load("server", 1, SECONDS, target_qps=200_000, latency_bound_ms=1),
        Load("single-stream", 1, SECONDS),
        Load("offline", 1, SECONDS),
    ],
)
def test_the_table_shows_figures_verdicts_and_reasons(
    tiny: Bundle, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    from medcompress.cli.scenarios import print_scenarios

    found = run_scenarios(tiny, load)
    print_scenarios(found)
    text = capsys.readouterr().out
    (result,) = found.results
    assert f"{result.figure:.2f}" in text
    assert f"MLPerf-style (LoadGen {result.loadgen})" in text
    assert result.label in text
    assert (f"{NAME}: invalid: " in text) == (not result.valid)
    assert result.why in text
    assert "broken: not measured: " in text
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_the_command_prints_one_document_and_nothing_else(tiny: Bundle) -> None:
    import click
    from click.testing import CliRunner

    from medcompress.benchmarks.timing.scenario_result import Scenarios
    from medcompress.cli.scenarios import measure, scenario_options

    @click.command()
    @scenario_options
    def command(scenario: Scenario, variant: str, seconds: float, target_qps: float, latency_bound: float) -> int:
        load = Load(scenario, 1, seconds, target_qps, latency_bound)
        return measure(tiny, [], load, variant, as_json=True)

    arguments = ["--scenario", "server", "--variant", NAME, "--seconds", "0.3", "--target-qps", "900"]
    done = CliRunner().invoke(command, [*arguments, "--latency-bound", "2000"])
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.stdout, type=Scenarios)
    assert (found.results[0].target_qps, found.results[0].latency_bound_ms) == (900, 2000)
    assert CliRunner().invoke(command, ["--scenario", "datacenter"]).exit_code == 2
    assert CliRunner().invoke(command, [*arguments, "--seconds", "0"]).exit_code == 2
