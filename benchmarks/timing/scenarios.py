"""How a bundle's variants stand MLPerf Inference's four loads on this machine: "MLPerf-style", never "MLPerf".

A run here is shorter than MLPerf's 600 s, on inputs of the user's, and nobody reviewed it: hence the label.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ...runtime.bundle import Bundle, Variant
from ...runtime.errors import EngineError, InputError
from ...runtime.golden import read_golden
from ...runtime.hardware import this_cpu
from ...runtime.requirements import refusal
from ..data.rendering import render_all
from ..progress import stage
from .loadgen import LEAST_QUERIES, LONGEST, LoadTest, LoadWorker, Outcome, Scenario, require_loadgen
from .scenario_result import ScenarioResult, Scenarios, Try, result_of

SECONDS = 10.0
# LoadGen's own default for a server.
LATENCY_BOUND_MS = 100.0
# Images held in memory as tensors: 77 MB at 224 pixels.
MOST_IMAGES = 128
# Tests of the search for a server's rate: they tell it to 1/32 of where it ends.
TRIES = 5
# Times what the warm-up managed: a rate beyond is refused.
_HOPELESS = 20
# It ends above what the warm-up managed, which may have met a slow moment.
_ROOM = 1.25
METHOD = (
    "preprocessing is not timed; every inference is a batch of one; the samples of a query, and queries that wait, "
    "are shared out to the workers, which share one loaded engine"
)
_WARM_UP_S = 1.0


class Load(msgspec.Struct, frozen=True):
    """The load to put on each variant.

    Attributes:
        threads: of one inference; as many inferences run side by side as this goes into the cores
            (single-stream: one).
        seconds: a test takes at least; MLPerf's take 600.
        target_qps: for ``server``, queries a second; None searches the highest rate at which LoadGen is content.
        latency_bound_ms: for ``server``: the p99 must stay under it; None takes :data:`LATENCY_BOUND_MS`.

    Raises:
        InputError: a number out of its range, or a server's setting for another scenario.
    """

    scenario: Scenario
    threads: int
    seconds: float = SECONDS
    target_qps: float | None = None
    latency_bound_ms: float | None = None

    def __post_init__(self) -> None:
        if self.scenario != "server" and (self.target_qps is not None or self.latency_bound_ms is not None):
            raise InputError(f"a target rate and a latency bound go with the server scenario, not {self.scenario}")
        for value in (self.threads, self.seconds, self.target_qps, self.latency_bound_ms):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"threads, seconds, rate and latency bound must be above 0, and {value} is not")


def run_scenarios(bundle: Bundle, load: Load, images: Sequence[Path] = (), variant: str | None = None) -> Scenarios:
    """Put the load on the bundle's variants in turn, each in a process of its own.

    Args:
        images: the samples, of which the first :data:`MOST_IMAGES` are used; without any, the bundle's golden inputs.
        variant: measure this one or none.

    Raises:
        MachineError: LoadGen is not installed.
        InputError: no such variant.
        BundleError: a file of the bundle was changed.
        DataError: an image cannot be read.
        EngineError: no variant could be measured.
    """
    require_loadgen()
    chosen = (bundle.manifest.variant(variant),) if variant else bundle.manifest.variants
    results: list[ScenarioResult] = []
    not_run: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="medcompress-") as name:
        scratch = Path(name)
        inputs = _inputs(bundle, images, scratch / "inputs.npy")
        for each in chosen:
            try:
                results.append(run_scenario(bundle, each, load, scratch))
            except EngineError as error:
                not_run[each.name] = str(error)
                stage(f"{each.name}: not measured: {error}")
    if not results:
        raise EngineError(f"no variant could be measured: {'; '.join(f'{k}: {v}' for k, v in not_run.items())}")
    return Scenarios(str(bundle.folder), load.scenario, this_cpu(), inputs, METHOD, tuple(results), not_run)


def run_scenario(bundle: Bundle, variant: Variant, load: Load, scratch: Path) -> ScenarioResult:
    """One variant under the load.

    Args:
        scratch: a folder with ``inputs.npy``, rendered images; LoadGen's logs are left in it.

    Raises:
        EngineError: it does not run here.
        BundleError: one of its files was changed.
    """
    why = refusal(variant.requires, this_cpu())
    if why:
        raise EngineError(why)
    files = [bundle.check(name) for name in variant.files]
    workers = 1 if load.scenario == "single-stream" else max(1, this_cpu().cores // load.threads)
    logs = scratch / variant.name
    with LoadWorker(load.seconds) as worker:
        executed = worker.load(variant.engine, files, variant.precision, load.threads)
        warm_up = min(_WARM_UP_S, load.seconds)
        capacity = worker.prepare(scratch / "inputs.npy", bundle.manifest.preprocessing, workers, warm_up)
        plan = LoadTest(load.scenario, load.seconds, workers, capacity)

        def test(plan: LoadTest) -> Outcome:
            rate = f" at {plan.target_qps:.1f} queries/s" if plan.target_qps else ""
            stage(f"{variant.name}: {load.scenario}{rate}, at least {load.seconds:g} s")
            return worker.test(plan, logs / str(len(list(logs.glob("*")))))

        if load.scenario == "server":
            plan = msgspec.structs.replace(plan, latency_bound_ms=load.latency_bound_ms or LATENCY_BOUND_MS)
            plan, outcome, tries = _serve(plan, load.target_qps, test)
            return result_of(variant, executed, plan, outcome, tries)
        outcome = test(plan)
        if load.scenario == "offline" and not outcome.valid and outcome.samples_per_second:
            # The warm-up met a slow moment, and LoadGen planned too few samples: its log says how many it needs.
            outcome = test(msgspec.structs.replace(plan, capacity=outcome.samples_per_second))
        return result_of(variant, executed, plan, outcome, ())


def _serve(
    plan: LoadTest, rate: float | None, test: Callable[[LoadTest], Outcome]
) -> tuple[LoadTest, Outcome, tuple[Try, ...]]:
    """The test at the given rate, or the one at the highest rate that was found valid, by bisection."""
    # Below the lowest rate the longest test has too few queries to be valid.
    low, high = LEAST_QUERIES["server"] / (LONGEST * plan.seconds), _ROOM * plan.capacity
    if rate is not None:
        # LoadGen makes all queries before it sends one: far beyond what can be answered they fill the memory.
        if not low <= rate <= _HOPELESS * plan.capacity:
            raise EngineError(
                f"--target-qps {rate:g}: it answers about {plan.capacity:.0f} queries/s here; give between {low:.1f} "
                f"and {_HOPELESS * plan.capacity:.0f}, or more --seconds for a lower one"
            )
        plan = msgspec.structs.replace(plan, target_qps=rate)
        return plan, test(plan), ()
    done: list[tuple[LoadTest, Outcome]] = []
    # Where one sample alone takes longer than the bound, no rate is slow enough: one test shows it.
    alone_ms = 1e3 * plan.workers / plan.capacity
    if low >= high or alone_ms > plan.latency_bound_ms:
        plan = msgspec.structs.replace(plan, target_qps=plan.capacity / 2)
        return plan, test(plan), ()
    for _ in range(TRIES):
        plan = msgspec.structs.replace(plan, target_qps=(low + high) / 2)
        outcome = test(plan)
        done.append((plan, outcome))
        if outcome.valid:
            low = plan.target_qps
        elif outcome.late:
            high = plan.target_qps
        else:  # too few queries to tell, and a lower rate has fewer still
            break
    # The valid rates rise from one to the next.
    plan, outcome = next((pair for pair in reversed(done) if pair[1].valid), done[-1])
    tries = (Try(asked.target_qps, found.valid, found.p99_ms, found.late / found.queries) for asked, found in done)
    return plan, outcome, tuple(tries)


def _inputs(bundle: Bundle, images: Sequence[Path], path: Path) -> str:
    """Write the rendered samples to an .npy file; what they are, in words."""
    if images:
        used = list(images)[:MOST_IMAGES]
        render_all(used, bundle.manifest.preprocessing, "render", path)
        return f"{len(used)} images"
    golden = read_golden(bundle).inputs
    np.save(path, golden)
    return f"{len(golden)} golden inputs of the bundle"
