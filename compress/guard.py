"""Learning the input guard from a model's own images, and trying it on the test images.

No foreign image is needed. The limits come from scores that each image was given by a guard which had not seen its
patient (five folds), so that a set of 300 images is used whole; their level is that of split conformal prediction
(Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random world", chapter 4): of images drawn like these, at
most that share is refused in expectation. Whether the test images are drawn like these is then measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ..benchmarks.data.samples import Sample
from ..runtime.guard import ONLY_CAUTIONS, Guard
from ..runtime.learned import COLUMNS, Learned, Space
from ..runtime.preprocessing import Preprocessing
from ..runtime.sight import MEASURES, POSTURES, SIDE, posed
from . import calibration
from .looks import Looks, look
from .mistakes import MISTAKES, scrambled

FALSE_ALARMS = 0.01
IMAGES = 1500
LEAST_IMAGES = 50
_FOLDS = 5
_COMPONENTS = 32
_TORN = "torn"
# On the diagonal of the thumbnails' covariance, whose values have a variance near 1.
_RIDGE = 0.3
# What a posture's direction, or the appearance, has to catch of images that are so wrong, or it is of no use.
_LEAST_POWER = 0.5
# A measure's spread is never taken for smaller: what JPEG, another software or a few pixels change.
_LEAST_SPREAD = np.array([4.0, 3.0, 0.01, 0.005, 0.1, 0.3, 0.7, 1.5, 1.5, 0.03, 1.0])
# No column's limit is lower, in deviations: with few images the largest score seen says little.
_LEAST_LIMIT = 1.2, 3.0
# Sets whose images all have one shape were brought to it, and do not tell what shape they had.
_ONE_SHAPE = 0.01

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]
_LIKENESS = [i for i, name in enumerate(COLUMNS) if name.startswith(("thumbnail", "texture"))]
_POSTURES = {name: COLUMNS.index(name) for name in POSTURES}


class Guarded(msgspec.Struct, frozen=True):
    """What came of it: a guard or none, and in words what it sees, or why there is none."""

    guard: Guard | None
    words: str


def make_guard(
    train: Sequence[Sample], test: Sequence[Sample], preprocessing: Preprocessing, seed: int, file: Path
) -> Guarded:
    """Learn a guard from training and validation images, leave what it learned in ``file``, and try it on test images.

    At most 1500 images are learned from, in the proportions of their classes, as many patients as can be.

    Raises:
        DataError: images that cannot be read.
    """
    chosen = calibration.choose(train, seed, min(IMAGES, len(train)))
    learned = learn(look(chosen, preprocessing)[""], [sample.patient for sample in chosen], seed)
    if isinstance(learned, str):
        return Guarded(None, f"none: {learned}")
    seen = look(test, preprocessing, ("", *MISTAKES))
    refused = int(refuses(learned, seen[""]).sum())
    caught = {name: float(refuses(learned, seen[name], name).mean()) for name in MISTAKES}
    promised = max(FALSE_ALARMS, 1 / (len(chosen) + 1))
    guard = Guard(len(chosen), promised, len(test), refused, exact_interval(refused, len(test)), caught)
    file.write_bytes(learned.to_bytes())
    return Guarded(guard, words_of(guard))


def refuses(learned: Learned, looks: Looks, mistake: str = "") -> _Mask:
    """Which images it refuses; or cautions against, where the mistake is one of which it only does that."""
    beyond = ~(learned.oddness(looks.thumbnails, looks.textures, looks.measures) <= 1)
    columns = [i for i, name in enumerate(COLUMNS) if name not in ONLY_CAUTIONS or name == mistake]
    return np.any(beyond[:, columns], axis=1)


def exact_interval(count: int, of: int) -> tuple[float, float]:
    """Of a share, 95 %: Clopper and Pearson (1934), Biometrika 26:404-413."""
    from scipy.stats import binomtest

    found = binomtest(count, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def words_of(guard: Guard) -> str:
    """A sentence or two, for the report."""
    low, high = guard.interval
    blind = [name for name, share in guard.detected.items() if share < _LEAST_POWER]
    seen = [f"{name} {share:.0%}" for name, share in guard.detected.items() if share >= _LEAST_POWER]
    return (
        f"learned from {guard.images:,} training and validation images to refuse {guard.false_alarms:.1%} of such; "
        f"refuses {guard.refused} of the {guard.held_out} test images ({guard.refused / guard.held_out:.1%}, 95 % "
        f"interval {low:.1%} to {high:.1%}); of these, changed: {', '.join(seen) or 'none'}"
        + (f"; cannot see: {', '.join(blind)}" if blind else "")
    )


def learn(looks: Looks, patients: Sequence[str], seed: int) -> Learned | str:
    """Learn a guard; or say in a sentence why none can be learned from these images."""
    count = len(looks)
    if count < LEAST_IMAGES or len(set(patients)) < _FOLDS:
        found = f"{count} images of {len(set(patients))} patients"
        return f"{found} are too few to learn from; {LEAST_IMAGES} of {_FOLDS} are needed"
    scores = np.empty((count, len(COLUMNS)))
    wrong = {name: np.empty_like(scores) for name in (*POSTURES, _TORN)}
    for held in _folds(patients, seed):
        fold, own = _fitted(looks.of(~held)), looks.of(held)
        scores[held] = fold.oddness(own.thumbnails, own.textures, own.measures)
        for name, found in wrong.items():
            changed = _torn(own.thumbnails) if name == _TORN else posed(own.thumbnails, name)
            found[held] = fold.oddness(changed, own.textures, own.measures)
    limits = _limits(scores, wrong, looks.measures)
    caught = max(float(np.mean((wrong[name] > limits).any(axis=1))) for name in (_TORN, "negative"))
    if caught < _LEAST_POWER:
        return f"the images are too varied to learn from: of their own negatives it would refuse {caught:.0%}"
    return replace(_fitted(looks), limits=limits.astype(np.float32))


def _folds(patients: Sequence[str], seed: int) -> list[_Mask]:
    """Masks of the images to hold out, five in turn; all images of a patient are in one."""
    names = sorted(set(patients))
    random.Random(seed).shuffle(names)
    fold = {name: i % _FOLDS for i, name in enumerate(names)}
    of = np.array([fold[patient] for patient in patients])
    return [of == i for i in range(_FOLDS)]


def _fitted(looks: Looks) -> Learned:
    """Everything but the limits, which are 1."""
    thumbnails, measures = looks.thumbnails, looks.measures
    directions = np.stack([_direction(thumbnails, posed(thumbnails, name)) for name in POSTURES])
    margins = thumbnails @ directions.T
    deviations = np.maximum(margins.std(axis=0), 1e-6)
    low, middle, high = np.quantile(measures, [0.16, 0.5, 0.84], axis=0)
    spread = np.maximum((high - low) / 2, _LEAST_SPREAD)
    # The fewest pixels that were seen; half as many are too few, see _limits.
    middle[MEASURES.index("pixels")] = measures[:, MEASURES.index("pixels")].min()
    spread[MEASURES.index("pixels")] = 1
    numbers = (
        directions / deviations[:, None],
        margins.mean(axis=0) / deviations,
        middle,
        spread,
        np.ones(len(COLUMNS)),
    )
    arrays = (np.asarray(each, dtype=np.float32) for each in numbers)
    return Learned(_space(thumbnails), _space(looks.textures), *arrays)


def _space(pictures: _Floats) -> Space:
    """Principal components, an eighth of the images at most."""
    count, mean = len(pictures), pictures.mean(axis=0)
    _, singular, rows = np.linalg.svd((pictures - mean).astype(np.float64), full_matrices=False)
    kept = min(_COMPONENTS, count // 8)
    variance = np.maximum(singular**2 / count, 1e-6)
    numbers = (mean, rows[:kept], np.sqrt(variance[:kept]), [math.sqrt(float(variance[kept:].sum()))])
    return Space(*(np.asarray(each, dtype=np.float32) for each in numbers))


def _torn(thumbnails: _Floats) -> _Floats:
    return scrambled(thumbnails.reshape(-1, SIDE, SIDE)).reshape(thumbnails.shape)


def _direction(right: _Floats, wrong: _Floats) -> _Doubles:
    """Fisher's linear discriminant with a ridge (Friedman 1989), (256,)."""
    both = np.concatenate([right, wrong]).astype(np.float64)
    apart = both - both.mean(axis=0)
    covariance = apart.T @ apart / len(both) + _RIDGE * np.eye(apart.shape[1])
    return np.linalg.solve(covariance, (right.mean(axis=0) - wrong.mean(axis=0)).astype(np.float64))


def _limits(scores: _Doubles, wrong: dict[str, _Doubles], measures: _Doubles) -> _Doubles:
    """Each column's limit, so that together they refuse the share of images asked for, and no more."""
    count = len(scores)
    level = np.full(len(COLUMNS), 1 - FALSE_ALARMS / 10)
    level[_LIKENESS] = 1 - FALSE_ALARMS / 4
    cautions = [COLUMNS.index(name) for name in ONLY_CAUTIONS]
    level[cautions] = 1 - FALSE_ALARMS
    limits = np.array([np.quantile(each, at, method="higher") for each, at in zip(scores.T, level, strict=True)])
    least, deviations = _LEAST_LIMIT
    limits = np.maximum(limits, [least if i in _LIKENESS else deviations for i in range(len(COLUMNS))])
    for name, column in _POSTURES.items():
        if np.mean(wrong[name][:, column] > limits[column]) < _LEAST_POWER:
            limits[column] = np.inf
    shape = measures[:, MEASURES.index("shape")]
    if np.ptp(shape) < _ONE_SHAPE:
        limits[[COLUMNS.index("shape low"), COLUMNS.index("shape high")]] = np.inf
    few, many = COLUMNS.index("pixels low"), COLUMNS.index("pixels high")
    limits[[few, many]] = np.inf
    joint = np.sort((np.delete(scores, cautions, axis=1) / np.delete(limits, cautions)).max(axis=1))
    own = limits[cautions]
    limits *= joint[min(math.ceil((count + 1) * (1 - FALSE_ALARMS)), count) - 1]
    limits[cautions] = own
    limits[few] = 1.0
    return limits
