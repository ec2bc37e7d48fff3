"""Lightning's loop around the classifier: on which hardware, in how many processes, stopped how."""

from __future__ import annotations

import logging
import math
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from ...benchmarks.progress import stage as say
from ...runtime.errors import InputError, MachineError
from ...runtime.hardware import this_cpu
from ..data.datasets import EpochBatches, ImageDataset, in_order, loader
from ..data.splits import Split
from ..run_files import LAST, RESUME
from ..spec import ModelSpec
from .callbacks import Keeper
from .classifier import Classifier
from .distillation import Teacher
from .losses import image_weights
from .options import TrainOptions
from .reporter import Reporter


def fit(
    network: nn.Module,
    datasets: Mapping[str, ImageDataset],
    spec: ModelSpec,
    options: TrainOptions,
    keeper: Keeper,
    opened: Sequence[Logger],
    resume: bool,
    teacher: Teacher | None = None,
    deadline: float | None = None,
) -> None:
    """Train a network in place, from the start or from ``resume.ckpt`` of the keeper's folder.

    Args:
        teacher: whose outputs are learned, in place of what ``options.teacher`` names.
        deadline: of :func:`time.monotonic`: training ends after the step that reaches it, then the last validation. For
            trainings in one stage.

    Raises:
        Diverged: an InputError; a value that is no finite number.
        MachineError: the disk is full.
        KeyboardInterrupt: stopped by the user.
    """
    train, val = datasets["train"], datasets["val"]
    end = math.inf if deadline is None else deadline
    classifier = _classifier(network, spec, options, train, teacher, end)
    with quiet(), _interruptible():
        trainer = pl.Trainer(
            **_hardware(options, classifier),
            max_epochs=options.epochs,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip or None,
            callbacks=[keeper, Reporter(keeper, len(train), end)],
            logger=list(opened),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        share = {"rank": trainer.global_rank, "world": trainer.world_size}
        weights = image_weights(train.targets).double().numpy() if options.balance == "sampler" else None
        batches = EpochBatches(len(train), options.batch_size, options.seed, weights, **share)
        try:
            trainer.fit(
                classifier,
                loader(train, batches),
                loader(val, in_order(len(val), options.batch_size, **share)),
                ckpt_path=keeper.out / RESUME if resume else None,
                weights_only=True,
            )
        except InputError as error:
            last = keeper.out / LAST
            kept = f"; the last good epoch is kept, --weights {last} goes on from it" if keeper.epochs else ""
            raise type(error)(f"{error}{kept}") from error


def validate(
    network: nn.Module,
    datasets: Mapping[str, ImageDataset],
    spec: ModelSpec,
    options: TrainOptions,
    teacher: Teacher | None = None,
) -> dict[str, float]:
    """The figures of a network on the validation images, as :func:`fit` logs them after an epoch; in one process.

    Raises:
        Diverged: an InputError; it answers what is no finite number.
        KeyboardInterrupt: stopped by the user.
    """
    val = datasets["val"]
    classifier = _classifier(network, spec, options, datasets["train"], teacher)
    with quiet(), _interruptible():
        trainer = pl.Trainer(**_hardware(options, classifier), logger=False)
        (figures,) = trainer.validate(classifier, loader(val, in_order(len(val), options.batch_size)), verbose=False)
    return {name: float(value) for name, value in figures.items()}


def _classifier(
    network: nn.Module,
    spec: ModelSpec,
    options: TrainOptions,
    train: ImageDataset,
    teacher: Teacher | None,
    deadline: float = math.inf,
) -> Classifier:
    return Classifier(network, spec, options, train.targets, teacher, deadline)


def _hardware(options: TrainOptions, classifier: Classifier) -> dict[str, Any]:
    """What Lightning is to run on: one CPU or GPU, or several processes (its own, or those of torchrun)."""
    gpu = torch.cuda.is_available()
    precision = options.precision
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16") if gpu else "fp32"
    devices, nodes = _processes(options)
    strategy: Any = "auto"
    if devices * nodes > 1:
        frozen = any(0 in stage.rates for stage in classifier.stages)
        strategy = DDPStrategy(process_group_backend="nccl" if gpu else "gloo", find_unused_parameters=frozen)
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": devices,
        "num_nodes": nodes,
        "strategy": strategy,
        "sync_batchnorm": gpu and devices * nodes > 1,
        "precision": {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def _processes(options: TrainOptions) -> tuple[int, int]:
    """(on this machine, machines): as torchrun says where it started this process, else as asked for."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", options.devices)), int(os.environ.get("GROUP_WORLD_SIZE", 1))


def refuse_hardware(options: TrainOptions, split: Split) -> None:
    """Refuse what this machine cannot do, before anything long."""
    gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not gpu:
        raise InputError("--precision fp16 needs a GPU; use bf16 or fp32")
    if options.precision == "bf16" and not gpu and this_cpu().lacks(("bf16",)):
        # Seen on an AVX2 CPU: a resnet18 learns from 16 images a second in fp32, and from 1 in bf16.
        say("warning: --precision bf16: this CPU computes it in software, 20 times slower than fp32; leave it out")
    devices, nodes = _processes(options)
    if gpu and devices > torch.cuda.device_count():
        raise MachineError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPU(s); give fewer")
    fewest = min(len(split.train) // options.batch_size, len(split.val))
    if devices * nodes > max(1, fewest):
        raise InputError(
            f"--devices {devices}: {len(split.train)} training images are too few for so many processes with batches "
            f"of {options.batch_size}, or {len(split.val)} validation images; give fewer, or a smaller --batch-size"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes and warnings, and with the interrupt handler put back that it takes away."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    handler = signal.getsignal(signal.SIGINT)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        signal.signal(signal.SIGINT, handler)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """With so many threads of torch; 0 leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except SystemExit:  # What Lightning makes of an interrupt.
        raise KeyboardInterrupt from None
