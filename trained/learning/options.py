"""What a training run is asked for."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from ...runtime.dicom.choices import chosen_rendering
from ...runtime.dicom.rendering import DicomRendering
from ...runtime.errors import InputError
from ..data.datasets import Cache
from ..data.splits import DataSource
from ..networks.transfer import WeightsInput
from ..spec import HeadKind

Strategy: TypeAlias = Literal["full", "frozen", "two-stage", "gradual"]
Schedule: TypeAlias = Literal["one-cycle", "cosine", "plateau", "constant"]
Loss: TypeAlias = Literal["cross-entropy", "focal"]
Balance: TypeAlias = Literal["loss", "sampler", "none"]
Augmentation: TypeAlias = Literal["none", "light", "strong"]
Flips: TypeAlias = Literal["auto", "none", "horizontal", "both"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
Normalization: TypeAlias = Literal["auto", "data", "imagenet"]


# Options whose flag has another name.
_FLAGS = {"architecture": "arch", "learning_rate": "lr"}
# What a command says in another way.
_ELSEWHERE = {"folder", "source", "seed", "fold", "draw", "excluded"}
# What a run settles for itself.
_UNSETTLED = {("size", 0), ("flips", "auto")}
TEACHER_SHARE = 0.9


class TrainOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stored beside a run's checkpoints, so that it can be resumed and repeated.

    Attributes:
        source: of the images, and which of them train.
        architecture: a name for :func:`medcompress.trained.networks.architectures.resolve`.
        head: see :mod:`medcompress.trained.networks.heads`.
        weights: ``scratch``, ``imagenet``, or the path of a checkpoint or of feature weights.
        weights_input: what another tool's file of weights expects; see :mod:`medcompress.trained.networks.transfer`.
        size: side of the square input, pixels; 0 takes what the network and the task have.
        strategy: which layers train when; see :mod:`medcompress.trained.learning.strategies`.
        backbone_lr: learning rate of everything but the head, as a share of the head's.
        unfreeze: of the gradual strategy: how many groups of layers, from the head backwards, are ever trained;
            0 is all.
        epochs: at most; training stops early when validation does not improve.
        batch_size: images a step, of each process.
        accumulate: steps whose gradients are added up before the weights change.
        learning_rate: the highest of the schedule.
        weight_decay: of AdamW, on weights, not on biases and norms.
        clip: largest norm of the gradient; 0 does not clip.
        schedule: of the learning rate, within each stage of the strategy.
        loss, label_smoothing: ``focal`` (gamma 2) weighs easy images down.
        teacher: path of a checkpoint whose outputs are learned, and which chooses the best epoch; empty has none.
        teacher_share: of the loss, what is the teacher's, 0..1; the rest is the labels'.
        balance: unequal classes: weighed in the ``loss``, drawn equally often by the ``sampler``, or left.
        augmentation, flips: what training may change in an image; see :mod:`medcompress.trained.learning.augmentation`.
            ``auto`` flips as the task's anatomy allows, and not at all where the task is not known.
        normalization: mean and std of the ``data`` at the training size, or ImageNet's; ``auto`` takes those of the
            initial weights, and of the data where there are none.
        precision: ``auto`` is fp32 on a CPU and bf16 (or fp16) mixed on a GPU.
        cache: where decoded, resized images are kept; ``auto`` is memory up to 2 GiB, then disk.
        patience: epochs without a better one on the validation images before training stops; 0 never stops early.
        save_every: keep a checkpoint every so many epochs; 0 keeps the best and the last.
        positive: of two classes, the finding; empty chooses by name.
        seed: of weights, order, dropout and augmentation.
        track: ``mlflow``, ``tensorboard``, ``wandb``.
        devices: GPUs (or CPU processes) of this machine that train together.
        skip_unreadable, drop_leaks: see :func:`medcompress.trained.data.screening.screen`.
        modality, body_part, dicom: which DICOM files the model is made for, and how they are shown to it; see
            :mod:`medcompress.runtime.dicom.choices`.
    """

    source: DataSource
    architecture: str = "resnet18"
    head: HeadKind = "linear"
    weights: str = "scratch"
    weights_input: WeightsInput = "library"
    size: int = 0
    strategy: Strategy = "full"
    backbone_lr: float = 1.0
    unfreeze: int = 0
    epochs: int = 10
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    schedule: Schedule = "one-cycle"
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    teacher: str = ""
    teacher_share: float = TEACHER_SHARE
    balance: Balance = "loss"
    augmentation: Augmentation = "light"
    flips: Flips = "auto"
    normalization: Normalization = "auto"
    precision: Precision = "auto"
    cache: Cache = "auto"
    patience: int = 6
    save_every: int = 0
    positive: str = ""
    seed: int = 0
    track: tuple[str, ...] = ()
    devices: int = 1
    skip_unreadable: bool = False
    drop_leaks: bool = False
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    dicom: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.rendering  # refuses what it does not know
        for name in ("epochs", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")
        if self.strategy in ("two-stage", "gradual") and self.epochs < 2:
            raise ValueError(f"strategy {self.strategy} needs at least 2 epochs")
        if self.unfreeze and self.strategy != "gradual":
            raise ValueError("unfreeze goes with the strategy gradual")
        if self.strategy == "frozen" and self.weights == "scratch":
            raise ValueError("a frozen backbone needs weights that were trained; give --weights")
        if self.backbone_lr != 1 and self.strategy == "frozen":
            raise ValueError("a frozen backbone has no learning rate; leave backbone lr out")
        if self.weights_input != "library" and self.normalization != "auto":
            raise ValueError(f"{self.weights_input} weights bring their own normalization; leave that option out")
        if not 0 <= self.teacher_share <= 1:
            raise ValueError(f"teacher share {self.teacher_share} is outside 0..1")
        if self.batch_size < 2:
            raise ValueError("a batch has at least 2 images")
        if self.size and not 16 <= self.size <= 4096:
            raise ValueError(f"size {self.size} is outside 16..4096 pixels")
        for name, low, high in (
            ("learning_rate", 0, 10),
            ("backbone_lr", 0, 10),
            ("label_smoothing", -1e-12, 1),
            ("weight_decay", -1e-12, 10),
            ("clip", -1e-12, math.inf),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"{name.replace('_', ' ')} {getattr(self, name)} is outside {max(0, low)}..{high}")

    @property
    def rendering(self) -> DicomRendering:
        """How DICOM files are shown to the network, and which of them."""
        return chosen_rendering(DicomRendering(), self.modality, self.body_part, self.dicom)


def command_of(options: TrainOptions, out: Path) -> str:
    """The command that repeats a run, with everything that is not a default; of a study's part, the whole study."""
    source, single = options.source, DataSource(options.source.folder)
    flags: list[str] = [f"--data={source.folder}"]
    for found, default in ((source, single), (options, TrainOptions(source))):
        for name in found.__struct_fields__:
            value = getattr(found, name)
            if name in _ELSEWHERE or value == getattr(default, name):
                continue
            flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
            values = value if isinstance(value, tuple) else (value,)
            flags += [flag] if value is True else [f"{flag}={each}" for each in values]
    # One --seed gives both; the parts of a study that repeats a training count on from it.
    repeats = options.seed - source.seed + 1
    if source.seed:
        flags.append(f"--seed={source.seed}")
    if source.fold is not None:
        flags.append(f"--folds={source.fold[1]}")
    if repeats > 1:
        flags.append(f"--repeats={repeats}")
    flags.append(f"--out={out.parent if source.fold is not None or repeats > 1 else out}")
    return shlex.join(["medcompress", "train", *flags])


def refuse_changed(stored: TrainOptions, asked: dict[str, Any], asked_source: dict[str, Any] | None = None) -> None:
    """Refuse options for a resumed run that differ from those it began with.

    Args:
        asked: names and values of :class:`TrainOptions`; what was left to the run to settle is passed over.
        asked_source: the same of :class:`DataSource`.

    Raises:
        InputError: naming the first difference.
    """
    for record, wanted in ((stored, asked), (stored.source, asked_source or {})):
        for name, value in wanted.items():
            began = getattr(record, name)
            if value != began and (name, value) not in _UNSETTLED:
                raise InputError(
                    f"{name.replace('_', ' ')} {value}: this run was begun with {began or 'none'}, which cannot be "
                    "changed in the middle; leave the option out, or begin a new run with another --out"
                )
