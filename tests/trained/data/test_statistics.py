"""Colour or grey, mean and spread, of a data set's pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medcompress.benchmarks.data.samples import find_samples
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.data.datasets import ImageDataset
from medcompress.trained.data.statistics import find_colour, mean_and_std

WriteImages = Callable[..., Path]
GREY = Preprocessing((24, 28), mean=(0.4, 0.5, 0.45), std=(0.2, 0.21, 0.3))
ONE = Preprocessing((24, 24), channels=1, mean=(0.41,), std=(0.23,))
RGB = Preprocessing((24, 24), "rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_mean_and_std(tmp_path: Path, write_images: WriteImages):
    samples = find_samples(write_images(tmp_path, {"A": 3, "B": 3}, colour=True))
    for preprocessing in (GREY, ONE, RGB):
        dataset = ImageDataset(samples, preprocessing)
        assert dataset.pixels is not None
        mean, std = mean_and_std(dataset)
        assert len(mean) == len(std) == preprocessing.channels
        levels = dataset.pixels.reshape(-1, 3) / 255 if preprocessing is RGB else dataset.pixels.reshape(-1, 1) / 255
        assert np.allclose(mean, levels.mean(axis=0), atol=1e-4)
        assert np.allclose(std, levels.std(axis=0), atol=1e-4)


def test_colour_is_found(tmp_path: Path, write_images: WriteImages):
    assert find_colour(find_samples(write_images(tmp_path / "g", {"A": 2, "B": 2}))) == "grey"
    assert find_colour(find_samples(write_images(tmp_path / "c", {"A": 2, "B": 2}, colour=True))) == "rgb"


def test_grey_images_saved_as_rgb_are_grey(shared_data: Path):
    assert find_colour(find_samples(shared_data / "brain_mri" / "Training")) == "grey"
