"""Training on with the quantization in place, so that the network answers in INT8 as it did in FP32.

The FP32 network is the teacher and its outputs are all that is learned from: no label is read, so a wrong one cannot
creep in, and what the network believes is kept whether it is right or not. The squared error of the raw outputs is the
limit of distillation at a high temperature (Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section
2.1, https://arxiv.org/abs/1503.02531), serves every kind of decision, and is what the ladder judges by.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.nn import functional

from ...benchmarks.progress import stage, track
from ...runtime.errors import MedcompressError
from ...trained.checkpoint import Checkpoint, rebuild
from ...trained.data.datasets import (
    Batch,
    EpochBatches,
    ImageDataset,
    cached,
    in_order,
    loader,
    normalization_table,
    normalize,
)
from ...trained.data.splits import Split
from ...trained.learning.augmentation import augment, augmentation
from ...trained.learning.fitting import quiet, torch_threads
from ...trained.learning.schedules import rate
from ...trained.tasks import TASKS
from .fake_quantization import observe, with_rounding

BATCH_SIZE = 16
LEARNING_RATE = 1e-4
# Ranges are taken anew from so many training images, unchanged ones, after every epoch.
RANGE_IMAGES = 64


def fine_tune(
    checkpoint: Checkpoint,
    split: Split,
    folder: Path,
    *,
    epochs: int = 3,
    seconds: float | None = None,
    threads: int = 0,
    seed: int = 0,
    per_channel_depthwise: bool = True,
    learning_rate: float = LEARNING_RATE,
) -> Checkpoint:
    """The same network with weights that bear INT8 better: those of the epoch whose outputs, with the rounding, are
    nearest to the FP32 network's on the validation images.

    The statistics of normalizations stay as they are. Progress goes to stderr.

    Args:
        split: its training images are learned from, without their labels, and its validation images choose the epoch.
        folder: an empty one, for images that memory does not hold; it is left empty.
        seconds: from now; training ends after the step that reaches it, then the last validation. None sets no limit.
        threads: of torch; 0 leaves them.
        seed: of the order and the augmentation.
        per_channel_depthwise: see :func:`.fake_quantization.with_rounding`.
        learning_rate: the highest, of AdamW along a cosine.

    Raises:
        MedcompressError: the training diverged, or brought the outputs no nearer.
        DataError: an image that cannot be read.
        KeyboardInterrupt: stopped by the user.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    gpu = torch.cuda.is_available()
    parts = {"train": split.train, "val": split.val}
    with torch_threads(threads), cached(parts, checkpoint.spec.preprocessing, folder) as datasets, quiet():
        train, val = datasets["train"], datasets["val"]
        known = TASKS.get(split.task)
        distillation = _Distillation(
            checkpoint,
            train,
            "cuda" if gpu else "cpu",
            known.flips if known else "none",
            deadline,
            seed,
            per_channel_depthwise,
            learning_rate,
        )
        trainer = pl.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            max_epochs=epochs,
            gradient_clip_val=1.0,
            num_sanity_val_steps=-1,  # all of them: how far off the outputs are before
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                trainer.fit(
                    distillation,
                    loader(train, _ShownBatches(len(train), BATCH_SIZE, seed)),
                    loader(val, in_order(len(val), BATCH_SIZE)),
                )
            except SystemExit:  # What Lightning makes of an interrupt.
                raise KeyboardInterrupt from None
    before, *after = distillation.errors
    if not distillation.best:
        raise MedcompressError(
            f"fine-tuning brought the INT8 outputs no nearer to the FP32 network's (off by {before:.3g} before, by "
            f"{min(after):.3g} after); give it more time or more images, or keep a float variant"
        )
    return dataclasses.replace(checkpoint, weights=distillation.best)


class _Distillation(pl.LightningModule):
    """Of the FP32 network into the same one with rounding.

    Attributes:
        errors: root mean square of what the rounded outputs differ by on the validation images, each at most 1:
            before, and after each epoch.
        best: weights of the epoch with the least error; empty where that is the beginning.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        train: ImageDataset,
        device: str,
        flips: Any,
        deadline: float,
        seed: int,
        per_channel_depthwise: bool,
        learning_rate: float,
    ) -> None:
        super().__init__()
        preprocessing = checkpoint.spec.preprocessing
        self.errors: list[float] = []
        self.best: dict[str, torch.Tensor] = {}
        self.deadline = deadline
        self.learning_rate = learning_rate
        self.augmentation = augmentation("light", flips, preprocessing.colour)
        self.register_buffer("table", normalization_table(preprocessing))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)).reshape(1, -1, 1, 1))
        self.table: torch.Tensor
        self.mean: torch.Tensor
        self.std: torch.Tensor
        chosen = np.random.default_rng(seed).permutation(len(train))[:RANGE_IMAGES]
        self._range_pixels = train[chosen.tolist()][0].split(BATCH_SIZE)
        self._expected: list[torch.Tensor] = []
        self._squares: list[torch.Tensor] = []
        self._started = 0.0
        self.teacher = rebuild(checkpoint).requires_grad_(False)
        # Traced where it is to be trained: a graph may make tensors of its own there.
        self.network = rebuild(checkpoint).to(device)
        example = normalize(self._range_pixels[0], self.table).to(device)
        self.student = with_rounding(self.network, example, per_channel_depthwise=per_channel_depthwise)

    def on_train_start(self) -> None:
        self._started = time.monotonic()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Where the time ends it before the epochs do, the rate has fallen by then too.
        allowed = max(self.deadline - self._started, 1.0)
        steps = self.trainer.global_step / float(self.trainer.estimated_stepping_batches)
        progress = min(1.0, max(steps, (time.monotonic() - self._started) / allowed))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate * rate("cosine", progress)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        images = (augment(batch[0], self.augmentation) - self.mean) / self.std
        with torch.no_grad():
            expected = self.teacher(images)
        loss = functional.mse_loss(self.student(images), expected)
        if not torch.isfinite(loss):
            raise _diverged(self.current_epoch + 1)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Adam's step is as long for weights of 0.001 as for those of 1, and the weights that follow a channel of large
        # values are small: each step becomes as long as its channels' weights are large.
        parameters = list(self.network.parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                if parameter.ndim > 1:
                    parameter.copy_(old.lerp(parameter, _size(old)))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if time.monotonic() >= self.deadline:
            self.trainer.should_stop = True

    def on_validation_start(self) -> None:
        # As calibration will find them, which sees what these weights make of unchanged training images.
        observe(self.student, (normalize(pixels.to(self.device), self.table) for pixels in self._range_pixels))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        images = normalize(batch[0], self.table)
        if batch_index == len(self._expected):  # The first time; the teacher does not change.
            self._expected.append(self.teacher(images))
        self._squares.append((self.student(images) - self._expected[batch_index]).square())

    def on_validation_epoch_end(self) -> None:
        squares = torch.cat(self._squares)
        self._squares.clear()
        if not torch.isfinite(squares).all():
            raise _diverged(self.current_epoch + 1)
        # One odd image far outside the ranges may be off by 30, and must not choose the epoch.
        error = float(squares.clamp(max=1).mean().sqrt())
        if self.errors and error < min(self.errors):
            self.best = {name: tensor.cpu().clone() for name, tensor in self.network.state_dict().items()}
        when = f"epoch {self.current_epoch + 1}" if self.errors else "before"
        stage(f"    {when}: rounded outputs are {error:.3g} from the FP32 network's")
        self.errors.append(error)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=0.0)


def _size(weight: torch.Tensor) -> torch.Tensor:
    """Of the weights of each output and input channel, as a share of all: by root mean squares (O, I, 1, ...)."""
    squares = weight.square()
    outputs = squares.mean(list(range(1, weight.ndim)), keepdim=True)
    inputs = squares.mean([0, *range(2, weight.ndim)], keepdim=True)
    return (outputs * inputs).sqrt() / squares.mean().clamp(min=torch.finfo(weight.dtype).tiny)


class _ShownBatches(EpochBatches):
    """Under a progress bar."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from track(super().__iter__(), f"fine-tuning, epoch {self.epoch + 1}", len(self))


def _diverged(epoch: int) -> MedcompressError:
    return MedcompressError(
        f"fine-tuning for INT8 diverged in epoch {epoch} (NaN or infinite values in the outputs); keep a float variant"
    )
