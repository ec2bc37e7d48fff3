"""Forms on a GPU or another accelerator: what their latency is made of, and what many images at once take."""

from __future__ import annotations

from ..row import Row
from .record import Report
from .tables import Column, Table, filled
from .words import NONE, milliseconds, number, percent

DEVICE = (
    "Engine: by the device's clock, without copies; the rest of the median is copies, launches and waiting. Images a "
    "second: batches of that size one after the other, copies included. Energy: of the whole GPU, for one image at a "
    "time, by its driver. Memory: of the GPU, with all these batches run."
)
_ON_CPU = ("onnxruntime", "openvino", "openvino-auto", "torch")


def device_table(report: Report) -> Table:
    """Empty without such forms; where none ran it says why."""
    sizes = sorted({size for row in report.rows for size in row.images_per_second})
    titles = ("runs as", "median ms", "99 % within", "engine ms", "its share")
    rates = [f"images/s, {size} at once" for size in sizes]
    columns = (Column("variant", words=True), *map(Column, (*titles, *rates, "energy, mJ", "memory, MiB")))
    measured = [row for row in report.rows if row.images_per_second]
    rows = tuple(
        (
            row.name,
            row.runs_as,
            milliseconds(row.p50_ms),
            milliseconds(row.p99_ms),
            milliseconds(row.engine_ms),
            percent(row.engine_share, 0),
            *(_rate(row, size) for size in sizes),
            number(row.energy_mj, 1),
            number(row.device_memory_mib, 0),
        )
        for row in measured
    )
    marked = tuple(place for place, row in enumerate(measured) if row.name == report.chosen)
    device = next((row.device.partition(" on ")[2] for row in measured if row.device), "")
    caption = f"On an accelerator{f', {device}' if device else ''}"
    return filled(Table(caption, columns, rows, marked, _not_run(report)))


def device_note(report: Report) -> str:
    """What the table's figures are; empty where it has none."""
    return DEVICE if any(row.images_per_second for row in report.rows) else ""


def _rate(row: Row, size: int) -> str:
    rate = row.images_per_second.get(size)
    return NONE if rate is None else f"{rate:,.0f}"


def _not_run(report: Report) -> str:
    """Why none ran, each reason once."""
    reasons = {row.status: None for row in report.rows if row.state == "not run here" and row.engine not in _ON_CPU}
    return f"Forms for an accelerator: {'; '.join(reasons)}." if reasons else ""
