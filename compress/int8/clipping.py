"""Which range of a tensor's values its 256 levels span: all of them, or fewer for finer levels.

A range always holds 0, which padding and Relu need to be exact. Values beyond its ends become the end, are clipped.
Exact zeros, of which Relu makes many, have no rounding error under any range; so what the histogram's bin of 0 holds
above its neighbours counts as such. Everything else of a bin counts as spread evenly over it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .plan import Clipping
from .ranges import BINS, TensorRange

Floats = npt.NDArray[np.float64]

# Of the values, half of the rest is cut off at each end. Of the four shares tried by Wu et al. 2020, "Integer
# Quantization for Deep Learning Inference" (https://arxiv.org/abs/2004.09602), it is the greatest that a histogram of
# some millions of values (300 images, 16,384 of each) still knows well: hundreds lie outside, at 99.999 % dozens.
PERCENTILE = 0.9999

# The whole range stands unless clipping takes off more than this share of the squared error: half a step less at each
# end takes 0.8 % off that of evenly spread values, and is worth nothing on images not seen.
_WORTH = 0.01
_MOST_CLIPPED = 0.01
_ZERO = BINS // 2
_TINY = 2.0**-100


def clip(tensor: TensorRange, clipping: Clipping, *, levels: int = 256) -> tuple[float, float]:
    """The range to quantize the tensor over.

    Args:
        clipping: ``minmax``, all values seen; ``percentile``, :data:`PERCENTILE` of them; ``entropy``, the least
            Kullback-Leibler divergence; ``lse``, the least squared error of rounding and clipping together.
        levels: that the range is divided into, its ends among them.

    Returns:
        low and high, ``low <= 0 <= high`` and ``low < high``; 0 and 1 for a tensor of zeros.
    """
    low, high = min(tensor.low, 0.0), max(tensor.high, 0.0)
    if high - low < _TINY:
        return 0.0, 1.0
    if clipping == "minmax":
        return low, high
    histogram = _histogram(tensor)
    if clipping == "percentile":
        found = _percentile(histogram)
    elif clipping == "entropy":
        found = _entropy(histogram, levels)
    else:
        found = _least_squared_error(histogram, levels, (low, high))
    low, high = float(max(low, min(found[0], 0.0))), float(min(high, max(found[1], 0.0)))
    return (low, high) if high - low >= _TINY else (0.0, 1.0)


class _Histogram(NamedTuple):
    """The bins from the first to the last that hold values, that of 0 among them.

    Attributes:
        edges: (bins + 1,), the outer two not beyond the values.
        counts: (bins,).
        zeros: of the counts, how many are exact zeros.
        zero: index of the bin from 0 upwards.
    """

    edges: Floats
    counts: Floats
    zeros: float
    zero: int

    @property
    def spread(self) -> Floats:
        """The counts without exact zeros."""
        spread = self.counts.copy()
        spread[self.zero] -= self.zeros
        return spread


def _histogram(tensor: TensorRange) -> _Histogram:
    counts = np.array(tensor.counts, np.float64)
    used = np.append(np.flatnonzero(counts), _ZERO)
    first, last = int(used.min()), int(used.max())
    edges, bin_width = tensor.edges, 2 * tensor.limit / BINS
    # A value may lie on the first edge of its bin: a bin has some width nevertheless.
    edges[first] = max(edges[first], min(tensor.low, 0.0, edges[first + 1] - bin_width / 1000))
    edges[last + 1] = min(edges[last + 1], max(tensor.high, 0.0, edges[last] + bin_width / 1000))
    zeros = max(0.0, counts[_ZERO] - max(counts[_ZERO - 1], counts[_ZERO + 1]))
    return _Histogram(edges[first : last + 2], counts[first : last + 1], zeros, _ZERO - first)


def _percentile(histogram: _Histogram) -> tuple[float, float]:
    """Whole bins, so that at least the share lies within."""
    outside = histogram.counts.sum() * (1 - PERCENTILE) / 2
    low = np.searchsorted(np.cumsum(histogram.counts), outside, side="right")
    high = np.searchsorted(np.cumsum(histogram.counts[::-1]), outside, side="right")
    return float(histogram.edges[low]), float(histogram.edges[len(histogram.counts) - high])


def _entropy(histogram: _Histogram, levels: int) -> tuple[float, float]:
    """The threshold whose quantized distribution tells the most of the true one.

    Migacz 2017, "8-bit Inference with TensorRT": of the values within a threshold (those beyond are put on the ends),
    the divergence from the same values merged into ``levels`` and spread out again over the bins that are not empty.
    Here the threshold cuts both signs, and the levels span what is left of the tensor's own range. As in NVIDIA's
    pytorch-quantization, the exact zeros are left out: they would cost divergence that is no error. A threshold that
    puts more than 1 % of the values on the ends is none: below all values of a gate, say, both distributions are one
    bin, and alike.

    Every sum over bins is a difference of cumulated sums, so all thresholds are tried at once.
    """
    counts = histogram.spread
    bins = len(counts)
    reach = np.arange(1, max(histogram.zero, bins - histogram.zero) + 1)
    start, end = np.maximum(histogram.zero - reach, 0), np.minimum(histogram.zero + reach, bins)
    wide = end - start >= levels
    if not wide.any() or not counts.any():
        return float(histogram.edges[0]), float(histogram.edges[-1])
    # From the widest down: the widest wins among equals.
    start, end = start[wide][::-1], end[wide][::-1]
    within, filled, information = (_cumulated(v) for v in (counts, counts > 0, _x_log_x(counts)))
    bounds = start[:, None] + (np.arange(levels + 1) * (end - start)[:, None]) // levels
    merged, spread_over = np.diff(within[bounds], axis=1), np.diff(filled[bounds], axis=1)
    below, above = within[start], within[-1] - within[end]
    first, last = counts[start], counts[end - 1]
    true = merged.copy()
    true[:, 0] += below
    true[:, -1] += above
    spread_over[:, 0] += (below > 0) & (first == 0)
    spread_over[:, -1] += (above > 0) & (last == 0)
    own = information[end] - information[start] - _x_log_x(first) - _x_log_x(last)
    own += _x_log_x(first + below) + _x_log_x(last + above)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.where(true > 0, true * np.log(merged / spread_over / merged.sum(axis=1, keepdims=True)), 0.0)
    total = within[-1]
    divergence = (own - told.sum(axis=1)) / total - np.log(total)
    divergence[np.isnan(divergence) | (below + above > _MOST_CLIPPED * total)] = np.inf
    best = int(np.argmin(divergence))
    return float(histogram.edges[start[best]]), float(histogram.edges[end[best]])


def _least_squared_error(histogram: _Histogram, levels: int, whole: tuple[float, float]) -> tuple[float, float]:
    """The ends whose expected squared error, of rounding and of clipping, is least.

    As Banner et al. 2019, "Post training 4-bit quantization" (https://arxiv.org/abs/1810.05723), but on the histogram
    itself, and for each end by itself. First on a wide grid with step**2 / 12 for the rounding error, then, around the
    best, with the error of the very levels.
    """
    shares = np.geomspace(0.02, 1, 80)
    lows, highs = (np.unique(end * shares) for end in whole)
    rounding = _rounding_error(histogram, lows, highs, levels)
    clipped = _clipping_error(histogram, highs)
    mirrored = _Histogram(-histogram.edges[::-1], histogram.counts[::-1], 0.0, 0)
    error = rounding + clipped + _clipping_error(mirrored, -lows)[:, None]
    i, j = np.unravel_index(np.argmin(error), error.shape)
    low, high = float(lows[i]), float(highs[j])
    for width in (0.05, 0.01):
        near = np.linspace(1 - width, 1 + width, 11)
        for _ in range(2):
            low = _best(histogram, [(max(low * share, whole[0]), high) for share in near], levels)[0]
            high = _best(histogram, [(low, min(high * share, whole[1])) for share in near], levels)[1]
    errors = _exact_error(histogram, np.array([whole, (low, high)]), levels)
    return (low, high) if errors[1] < (1 - _WORTH) * errors[0] else whole


def _best(histogram: _Histogram, ranges: list[tuple[float, float]], levels: int) -> tuple[float, float]:
    return ranges[int(np.argmin(_exact_error(histogram, np.array(ranges), levels)))]


def _rounding_error(histogram: _Histogram, lows: Floats, highs: Floats, levels: int) -> Floats:
    """Of the values within each low and high (lows, highs): step**2 / 12 each."""
    within = _cumulated(histogram.spread)
    below, up_to = (np.interp(ends, histogram.edges, within) for ends in (lows, highs))
    steps = (highs - lows[:, None]) / (levels - 1)
    return (up_to - below[:, None]) * steps**2 / 12


def _clipping_error(histogram: _Histogram, highs: Floats) -> Floats:
    """Of the values above each high (highs,): the square of their distance to it."""
    left, right = histogram.edges[:-1], histogram.edges[1:]
    density = histogram.spread / (right - left)
    beyond = [np.maximum(edge - highs[:, None], 0.0) for edge in (left, right)]
    return (_cube(beyond[1]) - _cube(beyond[0])) @ density / 3


def _exact_error(histogram: _Histogram, ranges: Floats, levels: int) -> Floats:
    """The summed squared error of the values under each (low, high) (ranges, 2), with the zero point rounded.

    Integrated over the levels: the antiderivative of (x - level(x))**2 is step**3 * (k / 12 + u**3 / 3), where k is the
    level's number from 0, and u the distance to it in steps.
    """
    low, high = ranges[:, :1], ranges[:, 1:]
    step = (high - low) / (levels - 1)
    zero_point = np.rint(-low / step)
    place = histogram.edges / step
    level = np.clip(np.rint(place), -zero_point, levels - 1 - zero_point)
    integral = _cube(step) * (level / 12 + _cube(place - level) / 3)
    density = histogram.spread / np.diff(histogram.edges)
    return np.diff(integral, axis=1) @ density


def _cube(values: Floats) -> Floats:
    return values * values * values  # ten times as fast as ** 3


def _cumulated(values: npt.NDArray[np.generic]) -> Floats:
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _x_log_x(values: Floats) -> Floats:
    return values * np.log(np.where(values > 0, values, 1.0))
