"""What the networks that were looked at tell of one that was not."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...benchmarks.networks import Trial
from ..choice import SAME_SPEED
from .judging import FAR
from .points import Point, Size

# Milliseconds for a multiply-accumulate differ by less between two sizes: a network with so many times the work of
# another is slower.
_DENSER = 3.0


class Looked(msgspec.Struct, frozen=True):
    """One network that was looked at.

    Attributes:
        shortfall: see :class:`medcompress.compress.search.judging.Figures`; of one that was not judged FAR, and of one
            that was too slow to be judged 0.
        early: the same after the short recovery; None of one that was not judged.
        rung: the recovery whose checkpoint is meant: ``short`` or ``long``.
        unreachable: the network cannot be pruned so far.
    """

    point: Point
    trial: Trial
    shortfall: float
    early: float | None = None
    rung: str = ""
    unreachable: bool = False

    @property
    def passes(self) -> bool:
        return self.trial.state == "judged"


class Told(msgspec.Struct, frozen=True):
    """What is known of a network beforehand; ``p50_ms`` and ``shortfall`` are those of the one it is known from."""

    p50_ms: float
    shortfall: float


def quickest(looked: Iterable[Looked]) -> float:
    """Milliseconds of the fastest that is good enough; infinite where none is."""
    times = [each.trial.p50_ms for each in looked if each.passes and each.trial.p50_ms is not None]
    return min(times, default=float("inf"))


def slower(p50_ms: float, limit: float) -> bool:
    """Whether it is not clearly faster than the limit: by more than two measurements of one network differ."""
    return p50_ms * (1 + SAME_SPEED) > limit


def told_of(point: Point, looked: Iterable[Looked], sizes: dict[Size, float]) -> Told | None:
    """What is known of a network that was not looked at; None where it is worth a look.

    At one size more work is never faster, and hardly ever worse; what cannot be pruned so far cannot be further, nor at
    a larger size.

    Args:
        sizes: the largest first.
    """
    looked, order = list(looked), list(sizes)
    limit = quickest(looked)
    least = min((each.trial.macs_share for each in looked if each.trial.p50_ms == limit), default=1.0)
    if point.share > min(sizes[point.size], _DENSER * least):
        return Told(_worst(looked), 0.0)
    for other in looked:
        larger = order.index(point.size) <= order.index(other.point.size)
        if other.unreachable and larger and point.share <= other.point.share:
            return Told(_worst(looked), FAR)
        if other.point.size != point.size:
            continue
        time = other.trial.p50_ms or _worst(looked)
        less = point.share <= other.point.share
        if point.is_near(other.point):
            return Told(time, other.shortfall)
        if less and other.trial.state == "short":
            return Told(time, other.shortfall)
        if not less and other.trial.p50_ms and slower(other.trial.p50_ms, limit):
            return Told(time, 0.0)
    return None


def _worst(looked: Iterable[Looked]) -> float:
    return max((each.trial.p50_ms or 0.0 for each in looked), default=1.0)
