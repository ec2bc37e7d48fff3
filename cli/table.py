"""The one table: every variant, how well it answers and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..benchmarks.row import Row


def wide_console(width: int) -> Console:
    """Stdout for results: names of classes, files and runs are shown as they are, ``[a]`` and ``:b:`` too.

    A pipe has no width of its own: there it is at least ``width``, for a table cut to 80 columns loses its figures.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, width)
    return console


def print_table(rows: Sequence[Row], title: str, chosen: str) -> None:
    """Print rows to stdout, the chosen one marked; speed-ups are against ONNX Runtime FP32 and torch eager."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("variant", no_wrap=True)
    table.add_column("runs as", no_wrap=True)
    accuracy = ("AUROC", "loss", "loss ≤", "sens.", "spec.", "max Δp", "flips")
    for name in ("MB", *accuracy, "p50 ms", "p90 ms", "x ORT", "x torch"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.name} *" if row.name == chosen else row.name,
            row.runs_as,
            f"{row.size_bytes / 1e6:.2f}" if row.size_bytes else "-",
            _number(row.auroc, 4),
            _number(row.auroc_drop, 4),
            _number(row.auroc_drop_bound, 4),
            _number(row.sensitivity, 3),
            _number(row.specificity, 3),
            _number(row.probability_change, 3),
            "-" if row.flips is None else str(row.flips),
            _number(row.p50_ms, 2),
            _number(row.p90_ms, 2),
            _number(row.speedup_vs_reference, 1),
            _number(row.speedup_vs_eager, 1),
            row.state,
            style="bold" if row.name == chosen else None,
        )
    console = wide_console(165)
    console.print(table)
    _print_devices(rows, console)
    for row in rows:
        if ":" in row.status:
            console.print(f"{row.name}: {row.status}", soft_wrap=True)


def _print_devices(rows: Sequence[Row], console: Console) -> None:
    """Of the forms on a GPU or another accelerator: the engine's share of the latency, throughput, energy, memory."""
    measured = [row for row in rows if row.images_per_second]
    if not measured:
        return
    sizes = sorted({size for row in measured for size in row.images_per_second})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("on an accelerator", no_wrap=True)
    rates = (f"images/s x{size}" for size in sizes)
    for name in ("p99 ms", "engine ms", "share", *rates, "mJ", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in measured:
        share = row.engine_share
        table.add_row(
            row.name,
            _number(row.p99_ms, 2),
            _number(row.engine_ms, 3),
            "-" if share is None else f"{share:.0%}",
            *(_number(row.images_per_second.get(size), 0) for size in sizes),
            _number(row.energy_mj, 1),
            _number(row.device_memory_mib, 0),
        )
    console.print(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
