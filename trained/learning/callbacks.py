"""What is kept of a training: the checkpoints written at the end of each epoch."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ..checkpoint import Checkpoint, first_not_finite, save_checkpoint
from ..run_files import BEST, LAST, RESUME
from .classifier import Classifier, diverged
from .runs import cannot_write


class Keeper(pl.Callback):
    """Writes ``best.pth``, ``last.pth`` and ``resume.ckpt``.

    The best epoch has the highest validation AUROC, or with a teacher the answers nearest to its; then the lowest loss.
    Stops the training when the last stage has seen no better epoch for some time.

    Args:
        out: the run's folder.
        template: everything of the checkpoints that does not change from epoch to epoch.
        patience: epochs without a better one before training stops; 0 never stops.
        save_every: also keep ``epoch-NNN.pth`` every so many epochs; 0 keeps none.
        before: row 0 of the history, of the network before the first epoch, where ``best.pth`` holds it: it stays there
            if no epoch is better.
    """

    def __init__(
        self,
        out: Path,
        template: Checkpoint,
        patience: int = 0,
        save_every: int = 0,
        before: dict[str, float] | None = None,
    ) -> None:
        self.out = out
        self.template = template
        self.patience = patience
        self.save_every = save_every
        self.history = [before] if before else []
        self.best_epoch = 0
        self.started = time.monotonic()

    @property
    def epochs(self) -> int:
        """How many are finished."""
        return int(self.history[-1]["epoch"]) if self.history else 0

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
        names = ("loss", "val_loss", "val_auroc", "val_distance")
        metrics = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.history.append({"epoch": epoch, **metrics})
        checkpoint = dataclasses.replace(
            self.template,
            weights=weights,
            epoch=epoch,
            history=self.history,
            metrics=validation(metrics),
        )
        best = min(self.history, key=_badness)
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
        waited = self.epochs - max(self.best_epoch, pl_module.stages[-1].first)
        if self.patience and self.epochs and waited >= self.patience:
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


def validation(row: dict[str, float]) -> dict[str, float]:
    """What a checkpoint keeps of a row of figures."""
    return {name: row[name] for name in ("val_auroc", "val_loss", "val_distance") if name in row}


def _badness(row: dict[str, float]) -> tuple[float, float]:
    return row.get("val_distance", -row["val_auroc"]), row["val_loss"]
