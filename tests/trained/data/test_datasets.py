"""Training's pixels are the preprocessing's, to the bit; its order follows the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from medcompress.benchmarks.data.samples import find_samples
from medcompress.runtime.errors import DataError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.data import datasets
from medcompress.trained.data.datasets import (
    EpochBatches,
    ImageDataset,
    cached,
    in_order,
    loader,
    normalization_table,
    normalize,
)

WriteImages = Callable[..., Path]
GREY = Preprocessing((24, 28), mean=(0.4, 0.5, 0.45), std=(0.2, 0.21, 0.3))
ONE = Preprocessing((24, 24), channels=1, mean=(0.41,), std=(0.23,))
RGB = Preprocessing((24, 24), "rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize("preprocessing", [GREY, ONE, RGB])
@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_evaluation_batches_are_the_preprocessing_to_the_bit(
    tmp_path: Path, write_images: WriteImages, preprocessing: Preprocessing, cache: Literal["memory", "disk", "none"]
):
    samples = find_samples(write_images(tmp_path, {"A": 3, "B": 3}, side=60, colour=True))
    dataset = ImageDataset(samples, preprocessing, cache=cache, file=tmp_path / "cache.npy")
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


def test_weights_draw_a_rare_class_as_often():
    weights = np.array([1.0] * 90 + [9.0] * 10)
    drawn = [index for epoch in range(5) for index in _epoch(EpochBatches(100, 10, 0, weights), epoch)]
    assert 0.4 < np.mean(np.array(drawn) >= 90) < 0.6


def test_processes_share_an_epoch():
    shares = [_epoch(EpochBatches(21, 5, 3, None, rank, 2), 1) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == 10
    assert not set(shares[0]) & set(shares[1])
    assert sorted(i for rank in range(3) for batch in in_order(10, 2, rank, 3) for i in batch) == list(range(10))


def _epoch(batches: EpochBatches, epoch: int) -> list[int]:
    batches.set_epoch(epoch)
    return [index for batch in batches for index in batch]


def test_unreadable_images_are_named_and_counted(tmp_path: Path, write_images: WriteImages):
    folder = write_images(tmp_path, {"A": 3, "B": 3})
    broken = sorted((folder / "A").iterdir())[:2]
    broken[0].write_bytes(b"not an image")
    broken[1].write_bytes(broken[1].read_bytes()[:60])
    with pytest.raises(DataError, match=r"patient0000-0\.png.*1 more of 12"):
        ImageDataset(find_samples(folder), GREY)


def test_images_beyond_memory_go_to_the_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "MEMORY_BYTES", 24 * 28 * 10)
    assert datasets.choose_cache("auto", 10, GREY) == "memory"
    assert datasets.choose_cache("auto", 11, GREY) == "disk"
    assert datasets.choose_cache("none", 11, GREY) == "none"


@pytest.mark.parametrize(("asked", "files"), [("memory", 0), ("disk", 2), ("none", 0)])
def test_what_lies_on_the_disk_is_removed_at_the_end(
    tmp_path: Path, write_images: WriteImages, asked: datasets.Cache, files: int
):
    samples = find_samples(write_images(tmp_path / "images", {"A": 3, "B": 3}))
    out = tmp_path / "out"
    out.mkdir()
    parts = {"train": samples[:8], "val": samples[8:]}
    with pytest.raises(KeyboardInterrupt), cached(parts, GREY, out, asked) as found:
        assert {name: len(dataset) for name, dataset in found.items()} == {"train": 8, "val": 4}
        assert torch.equal(found["val"][[1]][0], ImageDataset(samples[8:], GREY)[[1]][0])
        assert len(list(out.iterdir())) == files
        raise KeyboardInterrupt
    assert not list(out.iterdir())
