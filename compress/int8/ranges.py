"""What calibration found out about every tensor: how its values are distributed, as data."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.records import from_json, to_json, write_whole

# Of a histogram, from -limit to limit: at least 1,024 of them lie within the values, for 256 levels.
BINS = 4096


class TensorRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one tensor, over all calibration images.

    Attributes:
        low, high: the least and the greatest value seen.
        limit: the histogram spans -limit to limit; a power of two above every value, so that the histogram does not
            depend on the order of the images.
        counts: of values, in :data:`BINS` bins of equal width; of large tensors a regular sample is counted.
        channel_low, channel_high: least and greatest value of each channel: of axis 1 where the tensor has four axes
            (convolutions), else of the last; of the last, too, where a matrix product reads the tensor.
    """

    low: float
    high: float
    limit: float
    counts: tuple[int, ...]
    channel_low: tuple[float, ...]
    channel_high: tuple[float, ...]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Between the bins and around them (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)


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


class _StoredTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`TensorRange` in the file: its long lists are packed (in JSON: base64), or they would fill megabytes."""

    low: float
    high: float
    limit: float
    counts: bytes
    channel_low: bytes
    channel_high: bytes


class _StoredRanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: int
    growth: float
    tensors: dict[str, _StoredTensor]


def write_ranges(path: Path, ranges: Ranges) -> None:
    """To a JSON file; the lists of counts and of channels' ranges are packed, see :func:`_pack`."""
    stored = {
        name: _StoredTensor(
            tensor.low,
            tensor.high,
            tensor.limit,
            _pack(tensor.counts, "<i8"),
            _pack(tensor.channel_low, "<f8"),
            _pack(tensor.channel_high, "<f8"),
        )
        for name, tensor in ranges.tensors.items()
    }
    write_whole(path, to_json(_StoredRanges(ranges.images, ranges.growth, stored)))


def read_ranges(path: Path) -> Ranges:
    """What :func:`write_ranges` wrote.

    Raises:
        InputError: no file, or not such a file.
    """
    try:
        data = path.read_bytes()
    except OSError as why:
        raise InputError(f"{path}: cannot be read ({why.strerror}); calibrate again") from why
    stored = from_json(data, _StoredRanges, str(path))
    return Ranges(stored.images, stored.growth, {n: _restored(t, n, path) for n, t in stored.tensors.items()})


def _restored(stored: _StoredTensor, name: str, path: Path) -> TensorRange:
    try:
        counts = _unpack(stored.counts, "<i8")
        low, high = _unpack(stored.channel_low, "<f8"), _unpack(stored.channel_high, "<f8")
    except (zlib.error, ValueError) as why:
        raise InputError(f"{path}: the range of {name} is damaged ({why}); calibrate again") from why
    sound = (
        counts.size == BINS
        and counts.min() >= 0
        and low.size == high.size
        and -stored.limit <= stored.low <= stored.high <= stored.limit
        and bool(np.all(low <= high))
    )
    if not sound:
        raise InputError(f"{path}: the range of {name} contradicts itself, the file was changed; calibrate again")
    return TensorRange(
        stored.low, stored.high, stored.limit, tuple(counts.tolist()), tuple(low.tolist()), tuple(high.tolist())
    )


def _pack(values: Sequence[float], kind: str) -> bytes:
    """zlib of the values' little-endian bytes: all first bytes, then all second bytes, ..., which packs best."""
    planes = np.asarray(values, kind).view(np.uint8).reshape(-1, 8).T
    return zlib.compress(planes.tobytes(), 9)


def _unpack(packed: bytes, kind: str) -> npt.NDArray[Any]:
    planes = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view(kind).ravel()
