"""The training step: Lightning's module around a network, its loss, optimizer and validation figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional

from ..benchmarks.metrics import scores, truth
from ..runtime.decision import Decision
from ..runtime.errors import InputError
from ..runtime.preprocessing import Preprocessing
from .datasets import Batch, augment, augmentation, normalization_table, normalize

WEIGHT_DECAY = 0.05


class Classifier(pl.LightningModule):
    """One-cycle AdamW on class-weighted cross entropy; logs ``loss``, ``val_loss`` and ``val_auroc``.

    Args:
        network: (N, C, H, W) to raw outputs (N, classes); trained in place.
        preprocessing: normalizes the rendered batches.
        decision: for the validation AUROC.
        counts: training images per class; the loss gives each class the same weight in total.
        learning_rate: the highest of the cycle.
        seed: with the epoch, of dropout and augmentation.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        decision: Decision,
        counts: Sequence[int],
        learning_rate: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.decision = decision
        self.learning_rate = learning_rate
        self.seed = seed
        self.transform = augmentation()
        class_weights = torch.tensor([sum(counts) / (len(counts) * count) for count in counts])
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("table", normalization_table(preprocessing), persistent=False)
        self.class_weights: torch.Tensor
        self.table: torch.Tensor
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rendered uint8 pixels to raw outputs (N, classes)."""
        inputs = normalize(pixels, self.table)
        return self.network(inputs.contiguous(memory_format=torch.channels_last))

    def on_train_epoch_start(self) -> None:
        # Each epoch draws from its own seed, so that a resumed training draws what an uninterrupted one does.
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        pixels, targets = batch
        loss = self._loss(self(augment(pixels, self.transform)), targets)
        if not torch.isfinite(loss):
            raise diverged(self.current_epoch + 1, f"batch {batch_index + 1}")
        self.log("loss", loss, on_epoch=True, on_step=False, batch_size=len(targets))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        pixels, targets = batch
        self._outputs.append(self(pixels).float())
        self._targets.append(targets)

    def on_validation_epoch_end(self) -> None:
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        self._outputs.clear()
        self._targets.clear()
        if not torch.isfinite(outputs).all():
            raise diverged(self.current_epoch + 1, "validation")
        target = truth(targets.cpu().numpy(), self.decision)
        area = scores(self.decision, target, outputs.cpu().numpy()).auroc
        self.log("val_loss", self._loss(outputs, targets))
        # In double precision: two epochs must not tie by rounding.
        self.log("val_auroc", torch.tensor(area, dtype=torch.float64))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=WEIGHT_DECAY)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, targets.argmax(dim=1), self.class_weights)


def diverged(epoch: int, where: str) -> InputError:
    """The error for a loss or weight that is no finite number any more."""
    return InputError(f"training diverged in epoch {epoch} ({where}: NaN or infinite values); give a lower --lr")
