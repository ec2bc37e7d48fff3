"""The training step: Lightning's module around a network, its loss, learning rates and validation figures."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...benchmarks.statistics.metrics import scores, truth
from ...runtime.errors import InputError
from ..data.datasets import Batch, normalization_table, normalize
from ..networks.layers import layer_groups
from ..spec import ModelSpec
from .augmentation import augment, augmentation
from .distillation import Teacher, distance, distillation
from .layout import layout_of
from .losses import class_weights, loss
from .options import TrainOptions
from .schedules import lowered, rate
from .strategies import stage_of, stages


class Classifier(pl.LightningModule):
    """AdamW on one network; logs ``loss``, ``val_loss``, ``val_auroc`` and, of one with a teacher, ``val_distance``.

    Learning rates and frozen layers are functions of the step and of what was logged, not states, so that a resumed
    training goes on exactly.

    Args:
        network: (N, C, H, W) to raw outputs (N, classes); trained in place.
        spec: normalizes the rendered batches, and says what kind of answer is trained.
        targets: (N, classes) of all training images, for the weights of the classes.
        teacher: whose outputs are learned; None learns the labels alone.
        deadline: of :func:`time.monotonic`: training ends after the step that reaches it, its learning rate having
            fallen by then. Not for several stages.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        options: TrainOptions,
        targets: torch.Tensor,
        teacher: Teacher | None = None,
        deadline: float = math.inf,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.deadline = deadline
        self.layout = layout_of(network)
        self.network = network.to(memory_format=self.layout)
        self.decision = spec.decision
        self.options = options
        self.groups = layer_groups(network)
        self.stages = stages(options, len(self.groups))
        self.val_losses: list[float] = []
        self.augmentation = augmentation(options.augmentation, options.flips, spec.preprocessing.colour)
        weights = class_weights(targets, spec.decision.kind) if options.balance == "loss" else None
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("table", normalization_table(spec.preprocessing), persistent=False)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(spec.preprocessing, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.class_weights: torch.Tensor | None
        self.table: torch.Tensor
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []
        self._expected: list[torch.Tensor] = []
        self._begun: tuple[float, float] | None = None

    def setup(self, stage: str) -> None:
        if self.teacher is not None:
            self.teacher.to(self.trainer.strategy.root_device)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rendered uint8 pixels to raw outputs (N, classes)."""
        inputs = normalize(pixels, self.table)
        return self.network(inputs.contiguous(memory_format=self.layout))

    def on_train_epoch_start(self) -> None:
        self._freeze()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Each batch draws from its own seed: a resumed training draws what an uninterrupted one does, and images are
        # augmented alike whatever the network drew for its dropout, so that a teacher may remember them.
        drawn = (self.options.seed * 100_003 + self.current_epoch) * 1009 + self.global_rank
        torch.manual_seed((drawn * 1_000_003 + batch_idx) % 2**63)
        stage = stage_of(self.stages, self.current_epoch)
        batches = int(self.trainer.num_training_batches)
        progress = (self.current_epoch - stage.first + batch_idx / batches) / stage.epochs
        share = rate(self.options.schedule, self._hastened(progress))
        if self.options.schedule == "plateau":
            share *= lowered(self.val_losses[stage.first :])
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.options.learning_rate * stage.rates[group["layer"]] * share

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        pixels, targets = batch
        images = augment(pixels, self.augmentation)
        inputs = (images - self.mean) / self.std
        outputs = self.network(inputs.contiguous(memory_format=self.layout))
        found = self._loss(outputs, targets)
        if self.teacher is not None:
            taught = distillation(outputs.float(), self.teacher.of_augmented(images), self.decision.kind)
            found = found.lerp(taught, self.options.teacher_share)
        if not self._everywhere(torch.isfinite(found)):
            raise diverged(self.current_epoch + 1, f"batch {batch_index + 1}")
        self.log("loss", found, on_epoch=True, on_step=False, batch_size=len(targets), sync_dist=True)
        return found

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        late = time.monotonic() >= self.deadline
        if self.deadline < math.inf and self.trainer.strategy.reduce_boolean_decision(late, all=False):
            self.trainer.should_stop = True

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        pixels, targets = batch
        if self.teacher is not None and batch_index == len(self._expected):  # The first time; it does not change.
            self._expected.append(self.teacher.of_rendered(pixels))
        self._outputs.append(self(pixels).float())
        self._targets.append(targets)

    def on_validation_epoch_end(self) -> None:
        outputs, targets, *expected = self._gathered()
        if not torch.isfinite(outputs).all():
            raise diverged(self.current_epoch + 1, "validation")
        for taught in expected:
            if not torch.isfinite(taught).all():
                raise InputError("the teacher answers NaN or infinite values for validation images; give another one")
            apart = distance(outputs.numpy(), taught.numpy(), self.decision)
            self.log("val_distance", torch.tensor(apart, dtype=torch.float64))
        area = scores(self.decision, truth(targets.numpy(), self.decision), outputs.numpy()).auroc
        weights = None if self.class_weights is None else self.class_weights.cpu()
        val_loss = loss(outputs, targets, self.decision.kind, self.options, weights)
        self.val_losses.append(float(val_loss))
        self.log("val_loss", val_loss)
        # In double precision: two epochs must not tie by rounding.
        self.log("val_auroc", torch.tensor(area, dtype=torch.float64))

    def configure_optimizers(self) -> Any:
        groups: list[dict[str, Any]] = []
        for layer, (_, parameters) in enumerate(self.groups):
            for decay, chosen in (
                (self.options.weight_decay, [p for p in parameters if p.ndim > 1]),
                (0.0, [p for p in parameters if p.ndim <= 1]),
            ):
                if chosen:
                    groups.append({"params": chosen, "weight_decay": decay, "layer": layer})
        return torch.optim.AdamW(groups, lr=self.options.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["val_losses"] = self.val_losses
        checkpoint["teacher"] = self.teacher.digest if self.teacher is not None else ""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.val_losses = list(checkpoint["val_losses"])

    def _hastened(self, progress: float) -> float:
        """Progress, 0..1; where the time ends the training before the epochs do, the time's."""
        if self.deadline == math.inf:
            return progress
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, progress)
        began, done = self._begun
        spent = (now - began) / max(self.deadline - began, 1.0)
        return min(1.0, max(progress, done + (1 - done) * spent))

    def _freeze(self) -> None:
        rates = stage_of(self.stages, self.current_epoch).rates
        for share, (_, parameters) in zip(rates, self.groups, strict=True):
            for parameter in parameters:
                parameter.requires_grad_(share > 0)
        self.network.train()
        for module in self.network.modules():
            own = list(module.parameters(recurse=False))
            if isinstance(module, _BatchNorm) and own and not any(p.requires_grad for p in own):
                module.eval()  # A frozen layer keeps its statistics too.

    def _everywhere(self, true: torch.Tensor) -> bool:
        """Whether something is true in all processes: one that stops alone leaves the others waiting."""
        if self.trainer.world_size == 1:
            return bool(true)
        flag = true.int()
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
        return bool(flag)

    def _gathered(self) -> list[torch.Tensor]:
        """Outputs, targets and, with a teacher, its outputs of all validation images, of all processes, on the CPU."""
        parts = [self._outputs, self._targets, *([self._expected] if self.teacher is not None else [])]
        own = [torch.cat(part).cpu() for part in parts]
        self._outputs.clear()
        self._targets.clear()
        if self.trainer.world_size == 1:
            return own
        every: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(every, own)
        return [torch.cat(part) for part in zip(*every, strict=True)]

    def _loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return loss(outputs.float(), targets, self.decision.kind, self.options, self.class_weights)


class Diverged(InputError):
    """A loss, weight or output that is no finite number any more."""


def diverged(epoch: int, where: str) -> Diverged:
    """The error for it, in an epoch that counts from 1."""
    return Diverged(
        f"training diverged in epoch {epoch} ({where}: NaN or infinite values); train anew in another --out with a "
        "lower --lr"
    )
