"""Run candidates on labelled images and time them: every engine in its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..runtime.engines import Executed
from ..runtime.errors import EngineAbsent, EngineError
from ..runtime.hardware import this_cpu
from ..runtime.preprocessing import Preprocessing
from ..runtime.requirements import devices_of, lacking
from .candidate import Candidate
from .progress import stage, track
from .row import Row
from .timing.gpu import measure_device
from .timing.latency import ROUNDS, Latency, measure
from .timing.worker import LIMIT_S, Worker

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What every candidate answered, and how fast it is.

    Attributes:
        rows: in the candidates' order, without figures of accuracy.
        logits: part -> name -> raw outputs (N, classes), of those that answered.
    """

    rows: tuple[Row, ...]
    logits: dict[str, dict[str, Logits]]


def save_logits(path: Path, logits: Mapping[str, Mapping[str, Logits]]) -> None:
    """Raw outputs of :class:`Answers` to an .npz file."""
    entries: dict[str, Any] = {f"{part}/{name}": found for part, each in logits.items() for name, found in each.items()}
    np.savez(path, allow_pickle=False, **entries)


def read_logits(path: Path) -> dict[str, dict[str, Logits]]:
    """What :func:`save_logits` wrote."""
    logits: dict[str, dict[str, Logits]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for entry in stored:
            part, name = entry.split("/", 1)
            logits.setdefault(part, {})[name] = stored[entry]
    return logits


def answer(
    candidates: Sequence[Candidate],
    reference: str,
    preprocessing: Preprocessing,
    images: Mapping[str, Path],
    threads: int,
    limit_s: float = LIMIT_S,
) -> Answers:
    """Run every candidate on all images, then time them all side by side.

    A candidate that crashes, hangs or cannot run here becomes a row that says so; the others go on.

    Args:
        images: part -> an .npy file of rendered images.
        threads: of one inference.

    Raises:
        EngineError: the reference itself cannot run.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        executed: dict[str, Executed] = {}
        logits: dict[str, dict[str, Logits]] = {part: {} for part in images}
        problems: dict[str, str] = {}
        for candidate in candidates:
            lacks = lacking(candidate.requires, this_cpu())
            if lacks:
                problems[candidate.name] = f"not run here: {lacks}"
                continue
            stage(f"  measuring {candidate.name}")
            worker = stack.enter_context(Worker(candidate.command, limit_s))
            try:
                executed[candidate.name] = worker.load(candidate.engine, candidate.files, candidate.precision, threads)
                if candidate.judged:
                    found = {part: _run(worker, npy, preprocessing) for part, npy in images.items()}
                    for part, outputs in found.items():
                        expected = logits[part].get(reference, outputs)
                        if outputs.shape != expected.shape:
                            raise EngineError(f"its outputs are {outputs.shape}, the reference's {expected.shape}")
                        logits[part][candidate.name] = outputs
                workers[candidate.name] = worker
            except EngineError as error:
                if candidate.name == reference:
                    raise EngineError(f"the reference {reference} does not run here: {error}") from error
                problems[candidate.name] = f"{'not run here' if isinstance(error, EngineAbsent) else 'error'}: {error}"
                worker.close()
        rounds = track(range(ROUNDS), "Timing all variants in turn", ROUNDS)
        latency = measure(workers, preprocessing.shape, rounds)
        failed = latency.get(reference)
        if isinstance(failed, EngineError):
            raise EngineError(f"the reference {reference} does not run here: {failed}")
        on_device = {
            candidate.name: _on_device(workers[candidate.name], preprocessing, "nvidia" in candidate.requires)
            for candidate in candidates
            if devices_of(candidate.requires) and isinstance(latency.get(candidate.name), Latency)
        }
    rows = []
    for candidate in candidates:
        name = candidate.name
        row = Row(
            name,
            candidate.engine,
            executed[name].precision if name in executed else candidate.precision,
            candidate.size_bytes if candidate.judged else 0,
            problems.get(name, "measured" if candidate.judged else "baseline"),
        )
        row = _with_latency(row, latency.get(name), executed.get(name))
        rows.append(msgspec.structs.replace(row, **on_device.get(name, {})))
    return Answers(tuple(_with_speedups(rows, reference)), logits)


def _run(worker: Worker, npy: Path, preprocessing: Preprocessing) -> Logits:
    outputs = worker.run(npy, preprocessing)
    if not np.isfinite(outputs).all():
        raise EngineError("its outputs are not all numbers")
    return outputs


def _on_device(worker: Worker, preprocessing: Preprocessing, nvidia: bool) -> dict[str, Any]:
    """The fields of DeviceFigures; nothing where the device failed after its latency was known."""
    try:
        return msgspec.structs.asdict(measure_device(worker, preprocessing.shape, nvidia=nvidia))
    except EngineError as error:
        stage(f"note: the device was not measured further: {error}")
        return {}


def _with_latency(row: Row, latency: Latency | EngineError | None, executed: Executed | None) -> Row:
    if latency is None or executed is None:
        return row
    if isinstance(latency, EngineError):
        return msgspec.structs.replace(row, status=f"error: {latency}")
    return msgspec.structs.replace(
        row, **msgspec.structs.asdict(latency), device=executed.device, threads=executed.threads
    )


def _with_speedups(rows: Sequence[Row], reference: str) -> list[Row]:
    base = next((row.p50_ms for row in rows if row.name == reference), None)
    eager = next((row.p50_ms for row in rows if row.status == "baseline"), None)
    return [
        msgspec.structs.replace(
            row,
            speedup_vs_reference=base / row.p50_ms if base and row.p50_ms else None,
            speedup_vs_eager=eager / row.p50_ms if eager and row.p50_ms else None,
        )
        for row in rows
    ]
