"""What is said of a training while it runs: how far it is, how good, and how long it still takes."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning.pytorch as pl
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ...benchmarks.progress import console
from .callbacks import Keeper


class Reporter(pl.Callback):
    """A progress bar on stderr, and one line an epoch that stays; both say how long the whole training still takes.

    Args:
        keeper: whose callback comes before this one.
        images: of an epoch, of all processes.
        deadline: of :func:`time.monotonic`, at which training ends.
    """

    def __init__(self, keeper: Keeper, images: int, deadline: float = math.inf) -> None:
        self.keeper = keeper
        self.images = images
        self.pace = Pace(deadline)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.pace.begin()
        self.progress.start()
        description = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.task = self.progress.add_task(description, total=int(trainer.num_training_batches), left="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.pace.learned()
        if self.task is not None:
            this = int(trainer.num_training_batches) - batch_idx - 1
            self.progress.update(self.task, advance=1, left=self._left(trainer, trainer.current_epoch, this))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        self.pace.judged()
        row = self.keeper.history[-1]
        figures = [f"loss {row['loss']:.4f}", *figures_of(row)]
        images = self.images * self.pace.batches / int(trainer.num_training_batches)
        figures.append(f"{self.pace.epoch:.0f} s, {images / self.pace.learning:.0f} images/s")
        left = "" if trainer.should_stop else self._left(trainer, trainer.current_epoch + 1)
        notes = [*([left] if left else []), *(["best so far"] if self.keeper.best_epoch == row["epoch"] else [])]
        console.print(
            "  ".join([f"epoch {row['epoch']:.0f}/{trainer.max_epochs}", *figures, *notes]),
            highlight=False,
            soft_wrap=True,
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _left(self, trainer: pl.Trainer, finished: int, this: int = 0) -> str:
        """With so many epochs finished, and so many batches left of the one after them."""
        assert trainer.max_epochs is not None
        epochs = trainer.max_epochs - finished
        whole = epochs - (this > 0)
        seconds = self.pace.left(whole * int(trainer.num_training_batches) + this, epochs)
        return f"about {spoken(seconds)} left" if epochs else ""

    def _stop(self) -> None:
        self.progress.stop()
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None


class Pace:
    """How long the rest of a training takes, going by what its epochs took in this process.

    Attributes:
        epoch: seconds the last epoch took.
        learning, batches: seconds of them in batches, and how many these were.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self.epoch = self.learning = 0.0
        self.batches = 0
        self._began = 0.0
        # Of all epochs.
        self._batches, self._learning = 0, 0.0
        self._epochs, self._judging = 0, 0.0

    def begin(self) -> None:
        """An epoch begins."""
        self._began, self.learning, self.batches = time.monotonic(), 0.0, 0

    def learned(self) -> None:
        """A batch was learned from."""
        before, self.learning = self.learning, time.monotonic() - self._began
        self.batches += 1
        self._batches += 1
        self._learning += self.learning - before

    def judged(self) -> None:
        """The epoch's validation is done and its checkpoints are written."""
        self.epoch = time.monotonic() - self._began
        self._epochs += 1
        self._judging += self.epoch - self.learning

    def left(self, batches: int, epochs: int) -> float:
        """Seconds for so many batches and the ends of so many epochs; before the first end, it counts as none."""
        end = self._judging / max(1, self._epochs)
        until = max(0.0, self.deadline - time.monotonic()) + end
        return min(until, batches * self._learning / max(1, self._batches) + epochs * end)


def figures_of(row: dict[str, float]) -> list[str]:
    """What a line says of an epoch's validation."""
    named = {"val_loss": "validation loss", "val_auroc": "AUROC", "val_distance": "distance from the teacher"}
    return [f"{words} {row[name]:.4f}" for name, words in named.items() if name in row]


def spoken(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``: as exactly as an estimate is."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
