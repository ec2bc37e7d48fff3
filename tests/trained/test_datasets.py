"""Training's pixels are the preprocessing's, to the bit; its order and augmentation follow the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medcompress.benchmarks.samples import find_samples
from medcompress.runtime.errors import DataError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained import datasets
from medcompress.trained.datasets import (
    EpochBatches,
    ImageDataset,
    augment,
    augmentation,
    find_colour,
    in_order,
    loader,
    mean_and_std,
    normalization_table,
    normalize,
)

WriteImages = Callable[..., Path]
GREY = Preprocessing((24, 28), mean=(0.4, 0.5, 0.45), std=(0.2, 0.21, 0.3))
ONE = Preprocessing((24, 24), channels=1, mean=(0.41,), std=(0.23,))
RGB = Preprocessing((24, 24), "rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize("preprocessing", [GREY, ONE, RGB])
@pytest.mark.parametrize("cache", [True, False])
def test_evaluation_batches_are_the_preprocessing_to_the_bit(
    tmp_path: Path, write_images: WriteImages, preprocessing: Preprocessing, cache: bool
):
    samples = find_samples(write_images(tmp_path, {"A": 3, "B": 3}, side=60, colour=True))
    dataset = ImageDataset(samples, preprocessing, cache=cache)
    table = normalization_table(preprocessing)
    batches = [normalize(pixels, table) for pixels, _ in loader(dataset, in_order(len(dataset), 5))]
    expected = np.stack([preprocessing(sample.path) for sample in samples])
    assert torch.equal(torch.cat(batches), torch.from_numpy(expected))
    targets = torch.cat([targets for _, targets in loader(dataset, in_order(len(dataset), 5))])
    assert targets.tolist() == [list(sample.target) for sample in samples]


def test_order_follows_seed_and_epoch_alone():
    batches = EpochBatches(10, 4, seed=3)
    first = list(batches)
    assert list(batches) == first
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
    assert [len(batch) for batch in first] == [4, 4] and len(batches) == 2
    assert len({index for batch in first for index in batch}) == 8
    assert len(next(iter(EpochBatches(3, 32, 0)))) == 3


@pytest.mark.parametrize("shape", [(4, 24, 24), (4, 24, 24, 3)])
def test_augmentation_keeps_shape_and_type_and_follows_torch_seed(shape: tuple[int, ...]):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    torch.manual_seed(1)
    first = augment(pixels, augmentation())
    torch.manual_seed(1)
    assert torch.equal(first, augment(pixels, augmentation()))
    assert first.shape == pixels.shape and first.dtype == torch.uint8
    assert not torch.equal(first, pixels)
    # Each image has its own draw.
    same = augment(pixels[:1].expand(shape), augmentation())
    assert not torch.equal(same[0], same[1])


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


def test_unreadable_images_are_named_and_counted(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path, {"A": 3, "B": 3})
    broken = sorted((folder / "A").iterdir())[:2]
    broken[0].write_bytes(b"not an image")
    broken[1].write_bytes(broken[1].read_bytes()[:60])
    with pytest.raises(DataError, match=r"patient0000-0\.png.*1 more of 12"):
        ImageDataset(find_samples(folder), GREY)


def test_memory_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "CACHE_BYTES", 24 * 28 * 10)
    assert datasets.fits_in_memory(10, GREY)
    assert not datasets.fits_in_memory(11, GREY)
