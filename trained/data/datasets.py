"""Images as batches: rendered once by the locked preprocessing, and normalized by its table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...benchmarks.data.rendering import render_all
from ...benchmarks.data.samples import Sample
from ...benchmarks.progress import rank
from ...runtime.errors import DataError, ImageError
from ...runtime.preprocessing import Preprocessing

Cache: TypeAlias = Literal["auto", "memory", "disk", "none"]
# Rendered images are kept in memory up to this size together, by default; beyond it on the disk.
MEMORY_BYTES = 2 * 1024**3

Batch = tuple[torch.Tensor, torch.Tensor]


class ImageDataset(Dataset[Batch]):
    """Batches of labelled images as rendered pixels, before augmentation and normalization.

    ``dataset[[3, 1]]`` is (uint8 (2, H, W) or (2, H, W, 3), int8 targets (2, classes)).

    Args:
        samples: the images.
        preprocessing: renders them; its mean and std are not used here.
        cache: ``memory`` and ``disk`` render all images now; ``none`` renders each batch when it is asked for.
        name: what the progress bar says.
        file: of the ``disk`` cache; the caller removes it.

    Raises:
        DataError: images that cannot be read (found here when caching, else when the batch is asked for).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        cache: Literal["memory", "disk", "none"] = "memory",
        name: str = "images",
        file: Path | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.preprocessing = preprocessing
        self.targets = torch.tensor([sample.target for sample in self.samples], dtype=torch.int8)
        paths = [sample.path for sample in self.samples]
        self.pixels = None
        if cache != "none":
            self.pixels = render_all(paths, preprocessing, f"Reading {name}", file if cache == "disk" else None)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        if self.pixels is not None:
            pixels = np.asarray(self.pixels[list(indices)])
        else:
            pixels = np.stack([self._render(index) for index in indices])
        return torch.from_numpy(pixels), self.targets[list(indices)]

    def _render(self, index: int) -> np.ndarray:
        try:
            return self.preprocessing.render(self.samples[index].path)
        except ImageError as error:
            raise DataError(f"{error}; mend or remove the file") from error


class EpochBatches(Sampler[list[int]]):
    """Lists of indices, one a batch, in an order that depends on the seed and the epoch alone.

    So a resumed training sees the batches an uninterrupted one would. The last, smaller batch is left out: one
    image alone has no batch statistics. Of several processes each has its own share of every epoch.

    Args:
        weights: (count,) how often each image is drawn, with repetition; None takes each once an epoch.
        rank, world: this process and how many there are.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, weights: np.ndarray | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self.count = count
        self.batch_size = min(batch_size, count // world)
        self.seed = seed
        self.shares = None if weights is None else weights / weights.sum()
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.world // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.shares is None:
            order = rng.permutation(self.count)
        else:
            order = rng.choice(self.count, self.count, p=self.shares)
        order = order[self.rank :: self.world]
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


def loader(dataset: ImageDataset, batches: Sampler[list[int]] | Sequence[list[int]]) -> DataLoader[Batch]:
    """A loader whose items are whole batches.

    In this process where the images are cached, for a batch is then one copy; else rendered ahead in other ones.
    """
    workers = 0 if dataset.pixels is not None else min(8, os.cpu_count() or 1)
    # Its own generator: every start of a loader draws a number, which must not shift what training draws.
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


def in_order(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """All indices, in order, as batches; of several processes, this one's share."""
    own = range(count)[rank::world]
    return [list(own[start : start + batch_size]) for start in range(0, len(own), batch_size)]


def choose_cache(asked: Cache, count: int, preprocessing: Preprocessing) -> Literal["memory", "disk", "none"]:
    """Where so many rendered images are kept: as asked, or in memory where they are few enough, else on the disk."""
    if asked != "auto":
        return asked
    height, width = preprocessing.size
    needed = count * height * width * (1 if preprocessing.colour == "grey" else 3)
    return "memory" if needed <= MEMORY_BYTES else "disk"


@contextmanager
def cached(
    parts: Mapping[str, Sequence[Sample]], preprocessing: Preprocessing, folder: Path, asked: Cache = "auto"
) -> Iterator[dict[str, ImageDataset]]:
    """The images of some parts, rendered; what of them lies on the disk is removed at the end.

    Args:
        parts: name -> samples.
        folder: an existing one, for what memory does not hold.
        asked: where rendered images are kept; see :func:`choose_cache`.

    Raises:
        DataError: images that cannot be read.
    """
    cache = choose_cache(asked, sum(map(len, parts.values())), preprocessing)
    files = {part: folder / f".{part}-{rank()}.npy" for part in parts}
    try:
        yield {
            part: ImageDataset(samples, preprocessing, cache=cache, name=f"{part} images", file=files[part])
            for part, samples in parts.items()
        }
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


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
