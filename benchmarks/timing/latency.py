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
# Percents of the runs at which the distribution is kept.
QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds a single inference takes, over ``runs`` runs.

    Attributes:
        p50_low_ms, p50_high_ms: 95 % interval of the median, between two of the runs in order, without any assumption
            on their distribution but that they are independent (Conover 1999, Practical Nonparametric Statistics,
            section 3.2).
        quantiles_ms: at the percents of :data:`QUANTILES`.
    """

    p50_ms: float
    p90_ms: float
    runs: int
    p99_ms: float
    p50_low_ms: float
    p50_high_ms: float
    quantiles_ms: tuple[float, ...]


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
    p50, p90, p99 = (float(value) for value in np.percentile(ms, [50, 90, 99]))
    ranked = sorted(ms)
    # The normal approximation of the binomial: the base install has no scipy, and the runs are many.
    first = max(0, int((len(ms) - 1.96 * len(ms) ** 0.5) / 2))
    quantiles = tuple(float(value) for value in np.percentile(ms, QUANTILES))
    return Latency(p50, p90, len(ms), p99, ranked[first], ranked[len(ms) - 1 - first], quantiles)
