"""What a data set's pixels are like: colour or grey, mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...benchmarks.data.samples import Sample
from ...runtime.errors import ImageError
from ...runtime.images import read_image
from .datasets import ImageDataset

# How many images are looked at for colour, and for mean and std.
LOOKED_AT = 64
STATISTICS = 2000


def find_colour(samples: Sequence[Sample]) -> Literal["grey", "rgb"]:
    """``rgb`` if any of some images has real colour, else ``grey``.

    A pixel has colour when its channels differ by more than 16 levels, an image when more than 1 % of its
    pixels do: JPEG noise and a small coloured marker do not make a radiograph a colour image.
    """
    step = max(1, len(samples) // LOOKED_AT)
    for sample in samples[::step]:
        try:
            image = read_image(sample.path, at_least=(64, 64))
        except ImageError:
            continue  # Reading all images refuses it, with the count.
        if image.mode == "RGB":
            levels = np.asarray(image).astype(np.int16)
            if ((levels.max(axis=2) - levels.min(axis=2)) > 16).mean() > 0.01:
                return "rgb"
    return "grey"


def mean_and_std(dataset: ImageDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel on the scale 0..1, rounded to 4 places, over the rendered images (some, if they are many)."""
    step = max(1, len(dataset) // STATISTICS)
    pixels = dataset[range(0, len(dataset), step)][0].numpy()
    channels = pixels.reshape(-1, 3).T if pixels.ndim == 4 else pixels.reshape(1, -1)
    # Levels are counted rather than converted: the float copy of the images would be eight times their size.
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
    repeat = dataset.preprocessing.channels // len(channels)
    # Blank images have no spread; any std above 0 will do for them.
    return (
        tuple(round(float(value), 4) for value in mean) * repeat,
        tuple(max(round(float(value), 4), 0.01) for value in std) * repeat,
    )
