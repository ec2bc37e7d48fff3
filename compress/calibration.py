"""The images INT8 ranges are taken from: some of the training split, and none of any other."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from ..benchmarks.data.samples import Sample
from ..runtime.errors import DataError

# More widen the ranges no further, mostly: the pass ends before them where they have converged.
IMAGES = 300
LEAST_IMAGES = 16


def require_enough(train: Sequence[Sample]) -> None:
    """Raise a DataError where there are fewer than 16 training images."""
    if len(train) < LEAST_IMAGES:
        raise DataError(
            f"{len(train)} training images are too few to calibrate INT8, which needs {LEAST_IMAGES}; add some, or "
            "leave --int8 out"
        )


def choose(train: Sequence[Sample], seed: int, count: int) -> list[Sample]:
    """``count`` training images in the proportions of their classes, as many patients as can be, in a mixed order."""
    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in train:
        by_class[sample.label].append(sample)
    chosen: list[Sample] = []
    for samples in by_class.values():
        share = max(1, round(count * len(samples) / len(train)))
        chosen += _one_a_patient_first(samples, random.Random(seed))[:share]
    random.Random(seed).shuffle(chosen)
    return chosen


def _one_a_patient_first(samples: Sequence[Sample], shuffle: random.Random) -> list[Sample]:
    """Shuffled, every patient's first image before any patient's second."""
    samples = sorted(samples, key=lambda sample: sample.path)
    shuffle.shuffle(samples)
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for sample in samples:
        ranked.append((seen[sample.patient], sample))
        seen[sample.patient] += 1
    return [sample for _, sample in sorted(ranked, key=lambda pair: pair[0])]
