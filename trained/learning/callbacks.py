"""What happens at the end of each epoch: the checkpoints are written and a line is shown."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...benchmarks.progress import console
from ..checkpoint import Checkpoint, first_not_finite, save_checkpoint
from ..run_files import BEST, LAST, RESUME
from .classifier import Classifier, diverged
from .runs import cannot_write


class Keeper(pl.Callback):
    """Writes ``best.pth`` (highest validation AUROC, then lowest loss), ``last.pth`` and ``resume.ckpt``.

    Stops the training when the last stage has seen no better epoch for some time.

    Args:
        out: the run's folder.
        template: everything of the checkpoints that does not change from epoch to epoch.
        patience: epochs without a better one before training stops; 0 never stops.
        save_every: also keep ``epoch-NNN.pth`` every so many epochs; 0 keeps none.
    """

    def __init__(self, out: Path, template: Checkpoint, patience: int = 0, save_every: int = 0) -> None:
        self.out = out
        self.template = template
        self.patience = patience
        self.save_every = save_every
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the run began, the time it lay still left out."""
        return time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best_epoch": self.best_epoch, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.best_epoch = state_dict["best_epoch"]
        self.started = time.monotonic() - state_dict.get("seconds", 0.0)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A training that had stopped early when it was cut off has nothing to go on with.
        self._stop_early(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch + 1
        weights = pl_module.network.state_dict()
        if first_not_finite(weights):
            raise diverged(epoch, "weights")
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("loss", "val_loss", "val_auroc")}
        self.history.append({"epoch": epoch, **metrics})
        checkpoint = dataclasses.replace(
            self.template,
            weights=weights,
            epoch=epoch,
            history=self.history,
            metrics={name: metrics[name] for name in ("val_auroc", "val_loss")},
        )
        best = min(self.history, key=lambda row: (-row["val_auroc"], row["val_loss"]))
        self.best_epoch = int(best["epoch"])
        try:
            if trainer.is_global_zero:
                if self.best_epoch == epoch:
                    save_checkpoint(self.out / BEST, checkpoint)
                save_checkpoint(self.out / LAST, checkpoint)
                if self.save_every and epoch % self.save_every == 0:
                    save_checkpoint(self.out / f"epoch-{epoch:03d}.pth", checkpoint)
            self._save_resume(trainer)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full.
            raise cannot_write(self.out, error) from error
        self._stop_early(trainer, pl_module)

    def _stop_early(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        waited = len(self.history) - max(self.best_epoch, pl_module.stages[-1].first)
        if self.patience and self.history and waited >= self.patience:
            trainer.should_stop = True

    def _save_resume(self, trainer: pl.Trainer) -> None:
        temporary = self.out / f".{RESUME}.tmp"
        try:
            # Every process takes part in this, and the first one writes.
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(self.out / RESUME)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


class Reporter(pl.Callback):
    """A progress bar on stderr, and one line an epoch that stays.

    Args:
        images: of an epoch, of all processes.
    """

    def __init__(self, keeper: Keeper, images: int) -> None:
        self.keeper = keeper
        self.images = images
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.started = self.trained = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self.trained = time.monotonic()
        self.progress.start()
        description = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.task = self.progress.add_task(description, total=int(trainer.num_training_batches))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.trained = time.monotonic()
        if self.task is not None:
            self.progress.advance(self.task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        row = self.keeper.history[-1]
        best = "  best so far" if self.keeper.best_epoch == row["epoch"] else ""
        pace = f"{time.monotonic() - self.started:.0f} s, {self.images / (self.trained - self.started):.0f} images/s"
        console.print(
            f"epoch {row['epoch']:.0f}/{trainer.max_epochs}  loss {row['loss']:.4f}  "
            f"validation loss {row['val_loss']:.4f}  AUROC {row['val_auroc']:.4f}  "
            f"{pace}{best}",
            highlight=False,
            soft_wrap=True,
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self.progress.stop()
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None
