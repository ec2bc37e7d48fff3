"""The lines a report draws, as few points as show them."""

from __future__ import annotations

import heapq

import msgspec
import numpy as np
import numpy.typing as npt

from .bootstrap import Floats
from .judged import Judged, reliability
from .metrics import require_scikit_learn

# Of a ROC curve.
POINTS = 200
# As far as a point left out may lie from the line: a third of a pixel in a plot of 600. Where that takes more points
# than there may be (a poor model on 400 images and more), the farthest lay at 0.003.
APART = 0.0005


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points of a line, thinned to what a picture shows: ROC (false alarms, sensitivity) or reliability.

    Attributes:
        x, y: of equal length, 0 to 1.
        name: the class; of several classes the reliability is that of the ``answer``.
        weight: of reliability: images a point stands for; empty of a ROC.
        at: of a ROC: the operating point.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    weight: tuple[int, ...] = ()
    at: tuple[float, float] | None = None


def roc_curves(found: Judged) -> tuple[Curve, ...]:
    """Of two classes the positive one's, of more each against the rest; those with images on both sides.

    Raises:
        MachineError: scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.metrics import roc_curve

    curves = []
    for c in found.judgeable:
        truth, answered = found.target[:, c], found.answers[:, c]
        known = truth >= 0
        x, y, _ = roc_curve(truth[known] == 1, found.probabilities[known, c])
        points = np.stack([x, y], axis=1)[_thinned(x, y)].round(5)
        at = float(answered[truth == 0].mean()), float(answered[truth == 1].mean())
        curves.append(Curve(found.decision.classes[c], *map(tuple, points.T.tolist()), at=at))
    return tuple(curves)


def reliability_curves(found: Judged) -> tuple[Curve, ...]:
    """Mean probability and share of true ones, bin by bin; which, see
    :func:`medcompress.benchmarks.statistics.judged.reliability`.
    """
    curves = []
    for place, part in reliability(found).items():
        name = "answer" if found.decision.kind == "multiclass" else found.decision.classes[found.columns[place]]
        counts = np.bincount(part.bin)
        held = counts > 0
        x, y = (np.bincount(part.bin, each)[held] / counts[held] for each in (part.probability, part.outcome))
        curves.append(Curve(name, tuple(x.tolist()), tuple(y.tolist()), tuple(counts[held].tolist())))
    return tuple(curves)


def _thinned(x: Floats, y: Floats) -> npt.NDArray[np.intp]:
    """The points to keep, at most :data:`POINTS`, the ends among them.

    Douglas and Peucker (1973), "Algorithms for the reduction of the number of points required to represent a
    digitized line", Cartographica 10:112-122, the farthest point of all first.
    """
    kept = [0, len(x) - 1]
    waiting = [_farthest(x, y, 0, len(x) - 1)]
    while len(kept) < POINTS and waiting:
        apart, point, first, last = heapq.heappop(waiting)
        if -apart <= APART:
            break
        kept.append(point)
        heapq.heappush(waiting, _farthest(x, y, first, point))
        heapq.heappush(waiting, _farthest(x, y, point, last))
    return np.sort(np.asarray(kept))


def _farthest(x: Floats, y: Floats, first: int, last: int) -> tuple[float, int, int, int]:
    """Minus the distance of the point farthest from the line between two others; the point, and the two."""
    if last - first < 2:
        return 0.0, first, first, last
    along, up = x[last] - x[first], y[last] - y[first]
    inner = slice(first + 1, last)
    distance = np.abs(up * (x[inner] - x[first]) - along * (y[inner] - y[first])) / np.hypot(along, up)
    place = int(distance.argmax())
    return -float(distance[place]), first + 1 + place, first, last
