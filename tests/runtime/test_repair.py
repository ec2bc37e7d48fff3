"""A variant that is damaged, or starts to fail, is set aside, and the next one answers."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medcompress.runtime import load
from medcompress.runtime.bundle import Bundle, open_bundle
from medcompress.runtime.engines import Engine, load_engine
from medcompress.runtime.errors import BundleError, EngineError
from medcompress.runtime.trial import check_apart
from medcompress.runtime.variants import by_preference


class Faulty:
    """A real engine, and a fault that begins when it is told to; it also tells how many are in ``run`` at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fault = ""
        self.gate: threading.Barrier | None = None
        self.executed = engine.executed

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def run(self, batch: np.ndarray) -> np.ndarray:
        if self.gate is not None:
            self.gate.wait(timeout=20)
        if self.fault == "error":
            raise EngineError("its memory went away")
        answer = self._engine.run(batch)
        return answer * np.nan if self.fault == "nan" else answer


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Faulty]:
    """Every engine that is loaded from now on, in the order they were."""
    engines: list[Faulty] = []

    def remember(*arguments: object, **options: object) -> Faulty:
        engines.append(Faulty(load_engine(*arguments, **options)))  # type: ignore[arg-type]
        return engines[-1]

    monkeypatch.setattr("medcompress.runtime.variants.load_engine", remember)
    return engines


def order(bundle: Bundle) -> list[str]:
    """Those that run here, as they are tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aside = {setback.split(":")[0] for setback in load(bundle.folder).setbacks}
    return [variant.name for variant in by_preference(bundle) if variant.name not in aside]


def damage(bundle: Bundle, name: str) -> Path:
    path = bundle.folder / bundle.manifest.variant(name).files[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return path


def test_what_is_damaged_is_passed_over_and_what_is_left_answers(bundle: Path, image: Path) -> None:
    opened = open_bundle(bundle)
    first, second, *_ = order(opened)
    path = damage(opened, first)
    with pytest.warns(RuntimeWarning, match=path.name):
        predictor = load(bundle)
    assert predictor.predict(image).variant == second
    assert "was changed" in next(setback for setback in predictor.setbacks if setback.startswith(first))
    (bundle / "model.onnx").unlink()
    with pytest.warns(RuntimeWarning, match=path.name):
        assert load(bundle).predict(image).variant == second
    for variant in opened.manifest.variants:
        (bundle / variant.files[0]).unlink(missing_ok=True)
    with pytest.raises(BundleError, match=first):
        load(bundle)


@pytest.mark.parametrize("fault", ["error", "nan"])
def test_what_fails_while_it_runs_is_replaced_and_the_image_is_answered(
    pristine_bundle: Path, image: Path, started: list[Faulty], fault: str
) -> None:
    predictor = load(pristine_bundle)
    first = predictor.variant.name
    before = predictor.predict(image)
    started[-1].fault = fault
    with pytest.warns(RuntimeWarning, match=f"{first} failed") as warned:
        after = predictor.predict(image)
    assert len(warned) == 1
    assert after.variant == predictor.variant.name != first
    assert after.probabilities == load(pristine_bundle, variant=after.variant).predict(image).probabilities
    assert after.label == before.label
    assert first in " ".join(predictor.setbacks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert predictor.predict(image).variant == after.variant, "once: it stays with the next"


def test_threads_that_meet_the_same_failure_replace_it_once(
    pristine_bundle: Path, image: Path, started: list[Faulty]
) -> None:
    predictor = load(pristine_bundle)
    first, engine = predictor.variant.name, started[-1]
    engine.gate, engine.fault = threading.Barrier(4), "error"  # all four are inside before any of them fails
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore")
        answers = list(pool.map(predictor.predict, [image] * 4))
    assert {answer.variant for answer in answers} == {predictor.variant.name}
    assert len(predictor.setbacks) == len({setback.split(":")[0] for setback in predictor.setbacks})
    assert len(started) == 1 + len(predictor.setbacks), f"beside {first} only those were started that were set aside"


def test_one_that_was_asked_for_has_no_successor(pristine_bundle: Path, image: Path, started: list[Faulty]) -> None:
    predictor = load(pristine_bundle, variant="onnxruntime-fp32")
    started[-1].fault = "error"
    for _ in range(2):
        with pytest.raises(EngineError, match="onnxruntime-fp32: its memory went away"):
            predictor.predict(image)
    started[-1].fault = ""
    assert predictor.predict(image).variant == "onnxruntime-fp32"


def _break_nothing(bundle: Bundle, names: list[str]) -> str:
    return names[0]


def _break_the_second(bundle: Bundle, names: list[str]) -> str:
    damage(bundle, names[1])
    return names[0]


def _break_the_running(bundle: Bundle, names: list[str]) -> str:
    damage(bundle, names[0])
    return names[1]


@pytest.mark.parametrize("change", [_break_nothing, _break_the_second, _break_the_running])
def test_on_demand_every_variant_is_held_against_its_golden_vectors(
    bundle: Path, image: Path, started: list[Faulty], change: Callable[[Bundle, list[str]], str]
) -> None:
    opened = open_bundle(bundle)
    names = order(opened)
    started.clear()
    predictor = load(bundle)
    expected = change(opened, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = predictor.self_test()
    assert found.runs == predictor.variant.name == predictor.predict(image).variant == expected
    assert {check.name for check in found.variants if check.ok} == set(names) - {
        c.name for c in found.variants if c.damaged
    }
    assert len(found.damaged) == (change is not _break_nothing)
    if change is _break_the_second:  # it is nobody's successor any more
        next(engine for engine in started if engine.executed == predictor.executed).fault = "error"
        with pytest.warns(RuntimeWarning, match=names[2]):
            assert predictor.predict(image).variant == names[2]


def test_a_self_test_notices_an_engine_that_drifted_since_it_was_started(
    pristine_bundle: Path, started: list[Faulty]
) -> None:
    predictor = load(pristine_bundle)
    first = predictor.variant.name
    started[-1].fault = "nan"
    with pytest.warns(RuntimeWarning, match=f"{first} failed"):
        predictor.self_test()
    assert predictor.variant.name != first


@pytest.mark.parametrize("name", ["manifest.json", "golden.npz"])
def test_what_everything_rests_on_is_not_gone_without(bundle: Path, name: str) -> None:
    predictor = load(bundle)
    (bundle / name).write_bytes((bundle / name).read_bytes() + b" ")
    with pytest.raises(BundleError):
        predictor.self_test()


# What an engine does that dies: it takes its process along, whatever that is.
CRASHES = """
import os, sys
if "medcompress.runtime.trial" in sys.orig_argv:
    from medcompress.runtime import checks
    real = checks.start_variant
    def start(bundle, golden, variant, *rest, **options):
        if variant.name == os.environ["CRASHES"]:
            print("a line of its own", flush=True)
            os.kill(os.getpid(), 11)
        return real(bundle, golden, variant, *rest, **options)
    checks.start_variant = start
"""


def test_an_engine_that_crashes_in_the_self_test_is_set_aside_and_nothing_else(
    pristine_bundle: Path, image: Path, tmp_path: Path, started: list[Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = order(open_bundle(pristine_bundle))
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    predictor = load(pristine_bundle)
    started.clear()
    for crashes, at_fault in ((names[1], {names[1]}), (names[0], set())):
        monkeypatch.setenv("CRASHES", crashes)
        checks = {check.name: check for check in predictor.self_test().variants}
        assert {name for name in names if not checks[name].ok} == at_fault, "the one that runs answered by itself"
        assert all("SIGSEGV" in checks[name].status for name in at_fault)
        assert all(check.heat == "ok" for name, check in checks.items() if check.ok and name != crashes)
    assert not started, "nothing is loaded into this process"
    assert names[1] in " ".join(predictor.setbacks)
    assert predictor.predict(image).variant == names[0]


def test_an_engine_that_is_closed_while_it_runs_ends_what_it_began(
    pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(pristine_bundle, variant="openvino-fp32")
    engine = predictor._variants.running.engine
    batch = np.zeros((1, *predictor.bundle.manifest.preprocessing.shape), np.float32)
    expected, real = engine.run(batch), engine._infer  # type: ignore[attr-defined]

    def late(*given: object) -> list[np.ndarray]:
        predictor.close()
        return real(*given)

    monkeypatch.setattr(engine, "_infer", late)
    assert np.array_equal(engine.run(batch), expected)
    assert engine._idle.empty(), "a closed engine keeps no request, which would keep its model"  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="closed"):
        engine.run(batch)


def test_a_process_of_trials_takes_no_other_bundle(pristine_bundle: Path) -> None:
    opened = msgspec.structs.replace(open_bundle(pristine_bundle), identity="0" * 64)
    checks = check_apart(opened, opened.manifest.variants, 1)
    assert len(checks) == len(opened.manifest.variants)
    assert all("another bundle than was opened" in check.status for check in checks)
