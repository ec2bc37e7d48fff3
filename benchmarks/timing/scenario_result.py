"""What came of a load: the figure of one variant, how it may be quoted, and LoadGen's verdict on it."""

from __future__ import annotations

import msgspec

from ...runtime.bundle import Variant
from ...runtime.engines import Executed
from ...runtime.errors import EngineError
from ...runtime.hardware import Cpu
from .loadgen import STREAMS, LoadTest, Outcome, Scenario


class Try(msgspec.Struct, frozen=True):
    """One test of the search for a server's rate."""

    target_qps: float
    valid: bool
    p99_ms: float
    late: float


class ScenarioResult(msgspec.Struct, frozen=True):
    """One variant under one load.

    Attributes:
        label: how this figure may be quoted.
        loadgen: its version.
        precision: executed, as the engine tells it.
        workers: inferences side by side, of ``threads`` each.
        seconds: the test took.
        valid, why: LoadGen's own verdict, and its reasons where it is invalid.
        metric, figure, unit: the scenario's figure. single-stream: p90 of the latency; multi-stream: p99 of the
            latency of 8 samples; server: queries scheduled a second; offline: samples a second.
        early_stopping_ms: LoadGen's bound of that p90 or p99: it is at most this, with 99 % confidence.
        mean_ms, p50_ms, p90_ms, p99_ms: latency of a query; None for ``offline``, whose one query is the whole test.
        target_qps, scheduled_qps, completed_qps, latency_bound_ms: of ``server``, queries a second.
        late: share of the queries over the bound, 0..1.
        tries: the rates the search tried, in order; empty where the rate was given, or none would do.
    """

    scenario: Scenario
    label: str
    loadgen: str
    variant: str
    engine: str
    precision: str
    device: str
    threads: int
    workers: int
    queries: int
    samples: int
    seconds: float
    valid: bool
    why: str
    metric: str
    figure: float
    unit: str
    early_stopping_ms: float | None = None
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    target_qps: float | None = None
    scheduled_qps: float | None = None
    completed_qps: float | None = None
    latency_bound_ms: float | None = None
    late: float | None = None
    tries: tuple[Try, ...] = ()


class Scenarios(msgspec.Struct, frozen=True):
    """``benchmark --scenario --json``: every variant that runs here under one load.

    Attributes:
        inputs: what the samples are.
        method: what is timed, in words.
        not_run: variant -> why it was not measured.
    """

    bundle: str
    scenario: Scenario
    cpu: Cpu
    inputs: str
    method: str
    results: tuple[ScenarioResult, ...]
    not_run: dict[str, str]


def result_of(
    variant: Variant, executed: Executed, plan: LoadTest, outcome: Outcome, tries: tuple[Try, ...]
) -> ScenarioResult:
    """The result of the test ``outcome``.

    Raises:
        EngineError: LoadGen's log has no figure for the scenario.
    """
    metric, figure, unit = {
        "single-stream": ("p90 latency", outcome.p90_ms, "ms"),
        "multi-stream": (f"p99 latency of {STREAMS}", outcome.p99_ms, "ms"),
        "server": ("scheduled", outcome.scheduled_qps, "queries/s"),
        "offline": ("throughput", outcome.samples_per_second, "samples/s"),
    }[plan.scenario]
    if figure is None:
        raise EngineError(f"LoadGen's log has no figure for {plan.scenario}")
    server, offline = plan.scenario == "server", plan.scenario == "offline"
    # LoadGen sends all samples of an offline test as one query.
    queries = outcome.samples if offline else outcome.queries
    return ScenarioResult(
        scenario=plan.scenario,
        label=f"MLPerf-style, {queries} {'samples' if offline else 'queries'}, {outcome.seconds:.3g} s",
        loadgen=outcome.loadgen,
        variant=variant.name,
        engine=executed.engine,
        precision=executed.precision,
        device=executed.device,
        threads=executed.threads,
        workers=plan.workers,
        queries=outcome.queries,
        samples=outcome.samples,
        seconds=outcome.seconds,
        valid=outcome.valid,
        why=outcome.why,
        metric=metric,
        figure=figure,
        unit=unit,
        early_stopping_ms=outcome.early_stopping_ms,
        mean_ms=None if offline else outcome.mean_ms,
        p50_ms=None if offline else outcome.p50_ms,
        p90_ms=None if offline else outcome.p90_ms,
        p99_ms=None if offline else outcome.p99_ms,
        target_qps=plan.target_qps if server else None,
        scheduled_qps=outcome.scheduled_qps,
        completed_qps=outcome.completed_qps,
        latency_bound_ms=plan.latency_bound_ms if server else None,
        late=outcome.late / outcome.queries if server else None,
        tries=tries,
    )
