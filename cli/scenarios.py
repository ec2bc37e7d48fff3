"""``medcompress benchmark --scenario``: every variant under one of MLPerf's loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from .documents import print_json
from .table import wide_console

if TYPE_CHECKING:
    from ..benchmarks.timing.scenario_result import ScenarioResult, Scenarios
    from ..benchmarks.timing.scenarios import Load
    from ..runtime.bundle import Bundle

_ABOVE_0 = click.FloatRange(min=0, min_open=True)
_OPTIONS = (
    click.option(
        "--scenario",
        type=click.Choice(["single-stream", "multi-stream", "server", "offline"]),
        help="Time the variants under this load of MLPerf's LoadGen; without it, the table.",
    ),
    click.option("--variant", help="With --scenario: this one only."),
    click.option("--seconds", type=_ABOVE_0, help="With --scenario: a test lasts at least; by default 10."),
    click.option("--target-qps", type=_ABOVE_0, help="Of a server, queries a second; by default the most it holds."),
    click.option("--latency-bound", type=_ABOVE_0, help="Of a server's p99, milliseconds; by default 100."),
)


def scenario_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the parameters scenario, variant, seconds, target_qps and latency_bound to a command; None by default."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def measure(bundle: Bundle, images: Sequence[Path], load: Load, variant: str | None, as_json: bool) -> int:
    """Measure and print; the exit code. Raises what ``run_scenarios`` raises."""
    from ..benchmarks.timing.scenarios import run_scenarios

    found = run_scenarios(bundle, load, images, variant)
    if as_json:
        print_json(found)
    else:
        print_scenarios(found)
    return 0


def print_scenarios(found: Scenarios) -> None:
    """Print the results to stdout, the reasons of those that do not count, and what was not measured."""
    first = found.results[0]
    server, offline = found.scenario == "server", found.scenario == "offline"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", no_wrap=True)
    names = ["runs as", "threads", f"{first.metric}, {first.unit}"]
    names += ["asked for", f"late > {first.latency_bound_ms:g} ms"] if server else []
    names += [] if offline else ["≤ 99 %"] * (not server) + ["mean ms", "p50 ms", "p90 ms", "p99 ms"]
    for name in (*names, "samples" if offline else "queries", "s", "LoadGen"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in found.results:
        table.add_row(result.variant, *_cells(result))
    console = wide_console(165)
    title = f"{found.bundle}: {found.scenario}, MLPerf-style (LoadGen {first.loadgen}), {found.cpu.kind}"
    console.print(title, soft_wrap=True)
    console.print(table)
    for result in found.results:
        if not result.valid:
            console.print(f"{result.variant}: invalid: {result.why}", soft_wrap=True)
    for name, reason in found.not_run.items():
        console.print(f"{name}: not measured: {reason}", soft_wrap=True)
    quoted = f"A figure is quoted with what it rests on, as here: {first.figure:.4g} {first.unit} ({first.label})."
    console.print(f"{found.inputs}; {found.method}. {quoted}", soft_wrap=True)


def _cells(result: ScenarioResult) -> list[str]:
    cells = [result.precision, f"{result.workers} x {result.threads}", f"{result.figure:.2f}"]
    if result.scenario == "server":
        cells += [f"{result.target_qps or 0:.1f}", f"{100 * (result.late or 0):.1f} %"]
    if result.scenario != "offline":
        bound = [] if result.scenario == "server" else [_ms(result.early_stopping_ms)]
        cells += [*bound, *(_ms(value) for value in (result.mean_ms, result.p50_ms, result.p90_ms, result.p99_ms))]
    count = result.samples if result.scenario == "offline" else result.queries
    return [*cells, str(count), f"{result.seconds:.1f}", "valid" if result.valid else "INVALID"]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
