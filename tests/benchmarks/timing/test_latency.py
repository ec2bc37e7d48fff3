"""Quantiles of the runs, each with an interval that holds whatever the runs are distributed like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from medcompress.benchmarks.row import Row
from medcompress.benchmarks.timing.latency import QUANTILES, Latency, measure, quantile_interval
from medcompress.runtime.errors import EngineError

SHARES = (0.5, 0.9, 0.99)


class _Clock:
    """In place of a worker: the next runs it was given."""

    def __init__(self, *rounds: Sequence[float]) -> None:
        self._rounds = list(rounds)

    def time(self, shape: Sequence[int], seconds: float, least: int) -> list[float]:
        if not self._rounds:
            raise EngineError("its process ended (SIGSEGV)")
        return list(self._rounds.pop(0))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("count", [2, 5, 6, 24, 35, 36, 200, 367, 368, 1000, 10_000])
def test_the_ends_are_those_the_binomial_allows_and_no_tighter_ones_are(count: int, share: float) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    # The values are their own places, from 1.
    low, high = quantile_interval(np.arange(1, count + 1), share)
    if low is None:
        assert binom.cdf(0, count, share) > 0.025
    else:
        assert binom.cdf(low - 1, count, share) <= 0.025 < binom.cdf(low, count, share)
    if high is None:
        assert binom.sf(count - 1, count, share) > 0.025
    else:
        assert binom.sf(high - 1, count, share) <= 0.025 < binom.sf(high - 2, count, share)


@pytest.mark.parametrize(("share", "enough"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_too_few_runs_have_no_upper_end(share: float, enough: int) -> None:
    assert quantile_interval(np.arange(enough - 1), share)[1] is None
    assert quantile_interval(np.arange(enough), share)[1] == enough - 1


@pytest.mark.parametrize("share", SHARES)
def test_covers_as_often_as_it_says(share: float) -> None:
    """On a skewed distribution with two peaks, whose quantiles are known."""
    rng = np.random.default_rng(3)

    def runs(count: int) -> np.ndarray:
        return 3 + rng.gamma(1.2, 0.1, count) + (rng.random(count) < 0.04) * rng.gamma(2, 2, count)

    true = np.quantile(runs(2_000_000), share)
    tries = 1500
    ends = [quantile_interval(runs(500), share) for _ in range(tries)]
    missed_low = sum(low is not None and low > true for low, _ in ends) / tries
    missed_high = sum(high is not None and high < true for _, high in ends) / tries
    # Three standard errors of the simulation beyond what either side may miss.
    most = 0.025 + 3 * (0.025 * 0.975 / tries) ** 0.5
    assert missed_low <= most and missed_high <= most
    assert missed_low + missed_high > 0.015, "wider than it has to be"


def test_equal_runs_and_any_order() -> None:
    assert quantile_interval([3.0] * 50, 0.5) == (3.0, 3.0)
    values = np.random.default_rng(0).random(99)
    assert quantile_interval(values, 0.9) == quantile_interval(values[::-1], 0.9)


def test_a_higher_confidence_is_wider() -> None:
    values = np.arange(1000.0)
    wide, narrow = (quantile_interval(values, 0.9, confidence) for confidence in (0.99, 0.8))
    assert None not in (*wide, *narrow)
    assert wide[0] < narrow[0] < 900 < narrow[1] < wide[1]  # pyright: ignore


def test_rounds_are_put_together_and_each_quantile_has_its_interval() -> None:
    runs = np.random.default_rng(1).permutation(np.arange(1, 1001) / 10)
    worker = _Clock(*runs.reshape(8, 125).tolist())
    found = measure({"a": worker}, (3, 8, 8))["a"]  # pyright: ignore
    assert isinstance(found, Latency)
    assert found.runs == 1000 and len(found.quantiles_ms) == len(QUANTILES)
    for name in ("p50", "p90", "p99"):
        low, middle, high = (getattr(found, f"{name}{end}_ms") for end in ("_low", "", "_high"))
        assert low < middle < high
    assert (found.p50_low_ms, found.p50_high_ms) == (46.9, 53.2)  # the 469th and 532nd of 1,000


def test_a_worker_that_ends_takes_no_other_with_it() -> None:
    workers = {"well": _Clock(*[[1.0, 2.0, 3.0]] * 8), "ends": _Clock([1.0, 2.0, 3.0])}
    found = measure(workers, (3, 8, 8))  # pyright: ignore
    assert isinstance(found["ends"], EngineError)
    assert isinstance(found["well"], Latency)
    assert found["well"].runs == 24
    assert found["well"].p50_high_ms is not None
    assert found["well"].p90_high_ms is found["well"].p99_high_ms is None


def test_all_of_it_fits_into_a_row() -> None:
    assert set(Latency.__struct_fields__) <= set(Row.__struct_fields__)
