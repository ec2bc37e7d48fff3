"""What calibration found out about every tensor: how its values are distributed, as data."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.records import from_json, to_json, write_whole

# Of a histogram, from -limit to limit: at least 1,024 of them lie within the values, for 256 levels.
BINS = 4096


class TensorRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one tensor, over all calibration images.

    Attributes:
        low, high: the least and the greatest value seen.
        limit: the histogram spans -limit to limit.
        counts: of values, in :data:`BINS` bins of equal width; of large tensors a regular sample is counted.
        channel_low, channel_high: least and greatest value of each channel: of axis 1 where the tensor has four axes
            (convolutions), else of the last.
    """

    low: float
    high: float
    limit: float
    counts: tuple[int, ...]
    channel_low: tuple[float, ...]
    channel_high: tuple[float, ...]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The value each bin stands for (BINS,)."""
        edges = np.linspace(-self.limit, self.limit, BINS + 1)
        return (edges[1:] + edges[:-1]) / 2


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a float graph over a set of images; gathered once, used by every emission.

    Attributes:
        images: that were run.
        growth: by how much the ranges still widened over the last part of the images, a share of their width, the mean
            over the tensors: near 0, more images would change little.
        tensors: by name, every float tensor of the graph, its input too.
    """

    images: int
    growth: float
    tensors: dict[str, TensorRange]


def write_ranges(path: Path, ranges: Ranges) -> None:
    """To a JSON file."""
    write_whole(path, to_json(ranges))


def read_ranges(path: Path) -> Ranges:
    """What :func:`write_ranges` wrote.

    Raises:
        InputError: not such a file.
    """
    return from_json(path.read_bytes(), Ranges, str(path))
