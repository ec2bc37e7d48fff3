"""Images as batches: rendered once by the locked preprocessing, augmented for training, normalized by its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from ..benchmarks.rendering import render_all
from ..benchmarks.samples import Sample
from ..runtime.errors import ImageError
from ..runtime.images import read_image
from ..runtime.preprocessing import Preprocessing

# Rendered images are kept in memory up to this size together; beyond it each batch is rendered when it is needed.
CACHE_BYTES = 2 * 1024**3
# How many images are looked at for colour, and for mean and std where they are not all in memory.
LOOKED_AT = 64
STATISTICS = 2000

Batch = tuple[torch.Tensor, torch.Tensor]


class ImageDataset(Dataset[Batch]):
    """Batches of labelled images as rendered pixels, before augmentation and normalization.

    ``dataset[[3, 1]]`` is (uint8 (2, H, W) or (2, H, W, 3), int8 targets (2, classes)).

    Args:
        samples: the images.
        preprocessing: renders them; its mean and std are not used here.
        cache: keep all rendered images in memory.
        name: what the progress bar says.

    Raises:
        DataError: images that cannot be read (found here when caching, else when the batch is asked for).
    """

    def __init__(
        self, samples: Sequence[Sample], preprocessing: Preprocessing, *, cache: bool = True, name: str = "images"
    ) -> None:
        self.samples = tuple(samples)
        self.preprocessing = preprocessing
        self.targets = torch.tensor([sample.target for sample in self.samples], dtype=torch.int8)
        paths = [sample.path for sample in self.samples]
        self.pixels = render_all(paths, preprocessing, f"Reading {name}") if cache else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        if self.pixels is not None:
            pixels = self.pixels[list(indices)]
        else:
            pixels = render_all([self.samples[index].path for index in indices], self.preprocessing)
        return torch.from_numpy(pixels), self.targets[list(indices)]


class EpochBatches(Sampler[list[int]]):
    """Lists of indices, one a batch, in an order that depends on the seed and the epoch alone.

    So a resumed training sees the batches an uninterrupted one would. The last, smaller batch is left out: one
    image alone has no batch statistics.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


def loader(dataset: ImageDataset, batches: Sampler[list[int]] | Sequence[list[int]]) -> DataLoader[Batch]:
    """A loader whose items are whole batches; in this process, for a batch is one copy from memory."""
    # Its own generator: every start of a loader draws a number, which must not shift what training draws.
    return DataLoader(dataset, sampler=batches, batch_size=None, generator=torch.Generator())


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """All indices, in order, as batches."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def fits_in_memory(count: int, preprocessing: Preprocessing) -> bool:
    """Whether so many rendered images stay within :data:`CACHE_BYTES`."""
    height, width = preprocessing.size
    return count * height * width * (1 if preprocessing.colour == "grey" else 3) <= CACHE_BYTES


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


def augmentation() -> v2.Transform:
    """What training may change in an image: pose a little, exposure a little. Never flips: the heart is left."""
    return v2.Compose(
        [
            v2.RandomAffine((-10, 10), (0.06, 0.06), (0.88, 1.12), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
        ]
    )


def augment(pixels: torch.Tensor, transform: v2.Transform) -> torch.Tensor:
    """Change each image of a batch by its own draw; uint8 in the shape of :class:`ImageDataset`."""
    channels_first = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    changed = torch.stack([transform(image) for image in channels_first])
    return changed.squeeze(1) if pixels.ndim == 3 else changed.permute(0, 2, 3, 1)


def normalization_table(preprocessing: Preprocessing) -> torch.Tensor:
    """(C, 256) float32: what each grey level becomes, from :meth:`Preprocessing.normalize` itself."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256)
    if preprocessing.colour == "rgb":
        levels = np.repeat(levels[:, :, None], 3, axis=2)
    return torch.from_numpy(preprocessing.normalize(levels)[:, 0])


def normalize(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rendered pixels (N, H, W) or (N, H, W, 3) to the network's float32 (N, C, H, W), on their device.

    Bit-equal to :meth:`Preprocessing.normalize`, for it looks up the same values.
    """
    levels = pixels.to(torch.int32)
    if pixels.ndim == 3:
        return torch.stack([row[levels] for row in table], dim=1)
    return torch.stack([row[levels[..., channel]] for channel, row in enumerate(table)], dim=1)
