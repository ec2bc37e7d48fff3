"""How long one inference takes, measured so that two engines can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from ...runtime.errors import EngineError
from .worker import Worker

# Single-stream, batch 1, after a warm-up, as in MLPerf's single-stream scenario, whose figure is the p90.
ROUNDS = 8
SECONDS = 0.25
LEAST_RUNS = 3


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds a single inference takes: median and 90th percentile over ``runs`` runs."""

    p50_ms: float
    p90_ms: float
    runs: int


def measure(
    workers: Mapping[str, Worker], shape: Sequence[int], rounds: Iterable[int] = range(ROUNDS)
) -> dict[str, Latency | EngineError]:
    """Time all workers in turn, round after round, so that a slow minute of the machine meets all of them alike.

    Args:
        workers: name -> a worker with its model loaded.
        shape: of one input, (channels, height, width).
        rounds: one pass over all workers each; an iterable, so that a caller can show progress.
    """
    taken: dict[str, list[float]] = {name: [] for name in workers}
    failed: dict[str, EngineError] = {}
    for _ in rounds:
        for name, worker in workers.items():
            if name in failed:
                continue
            try:
                taken[name] += worker.time((1, *shape), SECONDS, LEAST_RUNS)
            except EngineError as error:
                failed[name] = error
    return {name: failed.get(name) or _summary(ms) for name, ms in taken.items()}


def _summary(ms: list[float]) -> Latency:
    p50, p90 = np.percentile(ms, [50, 90])
    return Latency(float(p50), float(p90), len(ms))
