"""How long one inference takes, measured so that two engines can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

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
        p50_low_ms, ..., p99_high_ms: 95 % interval of that quantile, see :func:`quantile_interval`; None where the
            runs are too few for that end. An upper one takes 6 runs for the median, 36 for p90 and 368 for p99.
        quantiles_ms: at the percents of :data:`QUANTILES`.
    """

    p50_ms: float
    p90_ms: float
    runs: int
    p99_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    quantiles_ms: tuple[float, ...]
    p90_low_ms: float | None = None
    p90_high_ms: float | None = None
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None


def measure(
    workers: Mapping[str, Worker], shape: Sequence[int], rounds: Iterable[int] = range(ROUNDS), batch: int = 1
) -> dict[str, Latency | EngineError]:
    """Time all workers in turn, round after round, so that a slow minute of the machine meets all of them alike.

    Threads are as many as each engine was loaded with, and not bound to cores: on a machine that other work shares that
    made medians and their ratios no steadier, and a thread that is bound cannot leave a core which others take.

    Args:
        workers: name -> a worker with its model loaded.
        shape: of one input, (channels, height, width).
        rounds: one pass over all workers each; an iterable, so that a caller can show progress.
        batch: inputs of one inference.
    """
    taken: dict[str, list[float]] = {name: [] for name in workers}
    failed: dict[str, EngineError] = {}
    for _ in rounds:
        for name, worker in workers.items():
            if name in failed:
                continue
            try:
                taken[name] += worker.time((batch, *shape), SECONDS, LEAST_RUNS)
            except EngineError as error:
                failed[name] = error
    return {name: failed.get(name) or latency_of(ms) for name, ms in taken.items()}


def quantile_interval(
    values: npt.ArrayLike, share: float, confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Interval of the value that ``share`` of all runs stay within: two of the measured values, in their order.

    Exact by the binomial distribution of how many runs stay within it, and so true of whatever distribution the runs
    have, as long as they are independent (Conover 1999, Practical Nonparametric Statistics, section 3.2). Runs in a
    row are so only roughly.

    Args:
        values: (N,) in any order.
        share: 0.5 is the median; between 0 and 1, neither of them.
        confidence: at least this is reached, half of what is left on either side.

    Returns:
        Low and high; None for an end that so few values cannot give.
    """
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ranked)
    taken = np.arange(count)
    # Each chance from the one before it, as logarithms: 10,000 runs leave the range of doubles.
    steps = np.log((count - taken) / (taken + 1) * (share / (1 - share)))
    chances = np.exp(count * np.log1p(-share) + np.concatenate(([0.0], np.cumsum(steps))))
    tail = (1 - confidence) / 2
    # So many of the lowest values, and of the highest, can be left out.
    below = int(np.searchsorted(np.cumsum(chances), tail, side="right"))
    above = int(np.searchsorted(np.cumsum(chances[::-1]), tail, side="right"))
    return float(ranked[below - 1]) if below else None, float(ranked[count - above]) if above else None


def latency_of(ms: Sequence[float]) -> Latency:
    """What single runs of so many milliseconds come to."""
    p50, p90, p99 = (float(value) for value in np.percentile(ms, [50, 90, 99]))
    quantiles = tuple(float(value) for value in np.percentile(ms, QUANTILES))
    ends = [quantile_interval(ms, share) for share in (0.5, 0.9, 0.99)]
    return Latency(p50, p90, len(ms), p99, *ends[0], quantiles, *ends[1], *ends[2])
