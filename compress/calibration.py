"""The images INT8 ranges are taken from: some of the training split, and none of any other."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from ..benchmarks.progress import stage
from ..benchmarks.samples import Sample, pixel_hashes
from ..runtime.errors import DataError

IMAGES = 300
LEAST_IMAGES = 16


def choose(train: Sequence[Sample], seed: int, count: int = IMAGES) -> list[Sample]:
    """``count`` training images in the proportions of their classes, as many patients as can be.

    Raises:
        DataError: fewer than 16 images to choose from.
    """
    if len(train) < LEAST_IMAGES:
        raise DataError(
            f"{len(train)} training images are too few to calibrate INT8; at least {LEAST_IMAGES} are needed"
        )
    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in train:
        by_class[sample.label].append(sample)
    chosen: list[Sample] = []
    for samples in by_class.values():
        share = max(1, round(count * len(samples) / len(train)))
        chosen += _one_a_patient_first(samples, random.Random(seed))[:share]
    return chosen


def refuse_overlap(calibration: Sequence[Sample], held_out: Sequence[Sample]) -> list[str]:
    """The calibration images' pixel hashes, once none of them is found among the held-out images.

    Raises:
        DataError: the same picture is on both sides, under whatever name or file format.
    """
    stage(f"  comparing {len(calibration)} calibration images with {len(held_out)} held-out ones, pixel by pixel")
    own = pixel_hashes(calibration)
    where = dict(zip(own, calibration, strict=True))
    for digest, sample in zip(pixel_hashes(held_out), held_out, strict=True):
        if digest in where:
            raise DataError(
                f"{where[digest].path} (training) is the same picture as {sample.path} (held out): what is measured "
                "on it would be worth nothing; remove one of them"
            )
    return own


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
