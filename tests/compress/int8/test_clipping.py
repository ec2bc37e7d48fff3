"""Each clipping against its definition, written out slowly."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from medcompress.compress.int8.clipping import PERCENTILE, clip
from medcompress.compress.int8.plan import Clipping
from medcompress.compress.int8.ranges import BINS, TensorRange

METHODS: tuple[Clipping, ...] = ("minmax", "percentile", "entropy", "lse")
Values = npt.NDArray[np.float64]


def measured(values: Values) -> TensorRange:
    low, high = float(values.min()), float(values.max())
    limit = math.ldexp(1.0, math.frexp(max(-low, high))[1])
    counts, _ = np.histogram(values, bins=np.linspace(-limit, limit, BINS + 1))
    return TensorRange(low, high, limit, tuple(counts.tolist()), (low,), (high,))


def squared_error(values: Values, low: float, high: float, levels: int = 256) -> float:
    """Of quantizing the very values."""
    step = (high - low) / (levels - 1)
    zero_point = round(-low / step)
    quantized = np.clip(np.rint(values / step) + zero_point, 0, levels - 1)
    return float(np.mean(((quantized - zero_point) * step - values) ** 2))


def draw(kind: str, count: int = 60_000) -> Values:
    random = np.random.default_rng(0)
    values = {
        "normal": random.standard_normal(count),
        "relu": np.maximum(random.standard_normal(count), 0),
        "relu6": np.clip(random.standard_normal(count) * 6, 0, 6),
        "silu": (x := random.standard_normal(count) * 3) / (1 + np.exp(-x)),
        "laplace": random.laplace(size=count),
        "heavy": random.standard_t(3, count),
        "heavy relu": np.maximum(random.standard_t(3, count), 0),
        "lopsided": np.where(random.random(count) < 0.999, random.standard_normal(count), 40 * random.random(count)),
        "negative": -np.abs(random.laplace(size=count)),
        "even": random.uniform(-1, 3, count),
        "ends": random.choice([-2.0, 5.0], count),
        "sigmoid": 1 / (1 + np.exp(-random.standard_normal(count) * 4)),
    }[kind]
    return np.asarray(values, np.float64)


KINDS = "normal relu relu6 silu laplace heavy,heavy relu,lopsided negative even ends sigmoid".replace(
    " relu,", "_relu,"
)
KINDS = [kind.replace("_", " ") for kind in KINDS.replace(",", " ").split()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clipping", METHODS)
def test_a_range_holds_zero_and_is_within_the_values(kind: str, clipping: Clipping) -> None:
    tensor = measured(draw(kind))
    low, high = clip(tensor, clipping)
    assert min(tensor.low, 0) <= low <= 0 <= high <= max(tensor.high, 0)
    assert low < high


@pytest.mark.parametrize("clipping", METHODS)
def test_zeros_alone_get_a_range_too(clipping: Clipping) -> None:
    counts = [0] * BINS
    counts[BINS // 2] = 1000
    assert clip(TensorRange(0.0, 0.0, 2.0**-100, tuple(counts), (0.0,), (0.0,)), clipping) == (0.0, 1.0)


def test_minmax_is_all_of_it() -> None:
    values = draw("heavy")
    assert clip(measured(values), "minmax") == (values.min(), values.max())
    assert clip(measured(values[values > 1]), "minmax") == (0, values.max())


def test_the_percentile_cuts_heavy_tails_and_nothing_else() -> None:
    values = draw("heavy")
    low, high = clip(measured(values), "percentile")
    tensor = measured(values)
    assert high - low < 0.8 * (tensor.high - tensor.low)
    width, outside = 2 * tensor.limit / BINS, (1 - PERCENTILE) / 2
    assert np.mean(values < low) <= outside < np.mean(values < low + width)
    assert np.mean(values > high) <= outside < np.mean(values > high - width)
    for bounded in ("relu6", "ends"):
        tensor = measured(draw(bounded))
        assert clip(tensor, "percentile") == (tensor.low, tensor.high)


@pytest.mark.parametrize("levels", [256, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_lse_is_as_good_as_the_best_of_all_ranges_on_the_very_values(kind: str, levels: int) -> None:
    values = draw(kind, 5_000)
    tensor = measured(values)
    low, high = clip(tensor, "lse", levels=levels)
    lows, highs = (np.unique(end * np.linspace(0.04, 1, 25)) for end in (min(tensor.low, 0), max(tensor.high, 0)))
    best = min(squared_error(values, a, b, levels) for a in lows for b in highs if a < b)
    # With few levels the rounding of the zero point alone moves the error by some percent from one range to the next.
    assert squared_error(values, low, high, levels) <= (1.02 if levels == 256 else 1.05) * best


@pytest.mark.parametrize("kind", ["relu6", "even", "ends"])
def test_lse_never_clips_where_the_values_are_at_the_ends(kind: str) -> None:
    tensor = measured(draw(kind))
    assert clip(tensor, "lse") == (tensor.low, tensor.high)


def test_lse_cuts_one_end_and_leaves_the_other() -> None:
    values = draw("lopsided")
    values[values < 0] = -4
    tensor = measured(values)
    low, high = clip(tensor, "lse", levels=16)
    assert high < 0.6 * tensor.high
    assert low == pytest.approx(-4, rel=0.05)


def test_lse_is_not_fooled_by_exact_zeros() -> None:
    values = draw("heavy relu")
    many_zeros = np.concatenate((values, np.zeros(20 * len(values))))
    assert clip(measured(many_zeros), "lse") == pytest.approx(clip(measured(values), "lse"), rel=0.02)


def divergence(counts: Values, start: int, end: int, levels: int) -> float:
    """Migacz 2017, slide 38, for the bins from ``start`` to ``end``."""
    kept = counts[start:end]
    true = kept.copy()
    true[0] += counts[:start].sum()
    true[-1] += counts[end:].sum()
    level = np.searchsorted(np.arange(levels + 1) * len(kept) // levels, np.arange(len(kept)), side="right") - 1
    told = np.zeros(len(kept))
    for number in range(levels):
        first, last = np.searchsorted(level, [number, number + 1])
        filled = true[first:last] > 0
        told[first:last][filled] = kept[first:last].sum() / max(1, filled.sum())
    p, q = true / true.sum(), told / told.sum()
    if np.any((p > 0) & (q == 0)):
        return math.inf
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


@pytest.mark.parametrize("kind", ["heavy", "lopsided", "silu"])
def test_entropy_finds_the_least_divergence(kind: str) -> None:
    values = draw(kind)
    tensor = measured(values)
    levels = 64
    low, high = clip(tensor, "entropy", levels=levels)
    counts, edges, middle = np.array(tensor.counts, float), tensor.edges, BINS // 2
    first, last = np.flatnonzero(counts)[[0, -1]]
    candidates = {}
    for reach in range(1, middle + 1):
        start, end = max(middle - reach, first), min(middle + reach, last + 1)
        if end - start >= levels and counts[start:end].sum() >= 0.99 * counts.sum():
            candidates[reach] = divergence(counts, start, end, levels)
    best = min(candidates, key=lambda reach: (candidates[reach], -reach))
    assert low == pytest.approx(max(tensor.low, edges[max(middle - best, first)]), rel=1e-9)
    assert high == pytest.approx(min(tensor.high, edges[min(middle + best, last + 1)]), rel=1e-9)


def test_entropy_cuts_an_outlier() -> None:
    values = np.append(draw("normal"), 50.0)
    assert clip(measured(values), "entropy")[1] < 10


def test_entropy_keeps_values_that_are_all_far_from_zero() -> None:
    values = 0.5 + 0.02 * draw("normal")  # a gate's: a threshold below all of them would cost no divergence
    low, high = clip(measured(values), "entropy")
    assert low == 0
    assert np.mean(values > high) <= 0.01
