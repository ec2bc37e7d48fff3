"""What the search chooses among: how much of the network's work is left, and at which size it looks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import torch

from ...trained.checkpoint import Checkpoint, rebuild
from ..pruning.counting import count_macs
from ..pruning.options import Pruning
from ..pruning.target import Target

# (height, width); None is what the preprocessing gives.
Size: TypeAlias = tuple[int, int] | None

LEAST, MOST = 0.01, 0.9
_SIDES = (7 / 8, 3 / 4, 5 / 8, 1 / 2)
# Sides are multiples of it: networks halve their input several times.
_STEP = 8
# Of a size's own work a point leaves less: else nothing would be pruned.
_ROOM = 0.95
# Shares that differ by less are one network: channels go in steps.
_SAME = 1.1


class Point(msgspec.Struct, frozen=True):
    """One network of those that can be made.

    Attributes:
        share: of the multiply-accumulates of the dense network at its full size, 0..1.
        size: it looks at.
    """

    share: float
    size: Size = None

    @staticmethod
    def near(share: float, size: Size) -> Point:
        """With a share of two digits, which names and folders are made of."""
        return Point(float(f"{share:.2g}"), size)

    def pruning(self, epochs: int, seed: int) -> Pruning:
        """How it is asked for: in one round."""
        return Pruning(Target("macs", self.share), rounds=1, epochs=epochs, shrunk=self.size, seed=seed)

    @property
    def name(self) -> str:
        return self.pruning(0, 0).name

    def is_near(self, other: Point) -> bool:
        """Whether the two are one network, but for a channel here and there."""
        return self.size == other.size and abs(math.log(self.share / other.share)) < math.log(_SAME)


def sizes_of(checkpoint: Checkpoint) -> dict[Size, float]:
    """Every size the network takes, the full one first -> the largest share of its MACs a point may have there.

    Found out by one blank image each: transformers with a fixed grid of patches take no other size.
    """
    spec = checkpoint.spec
    height, width = spec.shrunk or spec.preprocessing.size
    dense = count_macs(rebuild(checkpoint), spec.preprocessing.shape)
    found: dict[Size, float] = {None: MOST}
    for side in _SIDES:
        size = (_stepped(side * height), _stepped(side * width))
        if size in found or size[0] >= height or size[1] >= width:
            continue
        try:
            smaller = rebuild(dataclasses.replace(checkpoint, spec=msgspec.structs.replace(spec, shrunk=size)))
            with torch.inference_mode():
                smaller(torch.zeros(1, *spec.preprocessing.shape))
        except Exception:  # networks refuse a size each in its own way
            continue
        most = min(MOST, _ROOM * count_macs(smaller, spec.preprocessing.shape) / dense)
        if most > LEAST:
            found[size] = most
    return found


def first_points(sizes: Sequence[Size]) -> list[Point]:
    """Where the search begins: what is known to be a good guess for classifiers of medical images."""
    shares = [(0.25, 0), (0.1, 0), (0.04, 0), (0.1, 1), (0.04, 1), (0.02, 0)]
    middle = 2 if len(sizes) > 2 else 1
    return [Point.near(share, sizes[middle if down else 0]) for share, down in shares if not down or len(sizes) > 1]


def _stepped(side: float) -> int:
    return max(_STEP, round(side / _STEP) * _STEP)
