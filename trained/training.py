"""Training a classifier from a folder of images to ``best.pth``."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import msgspec
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from ..benchmarks.metrics import scores, truth
from ..benchmarks.progress import console, leads, rank, stage
from ..runtime.decision import Decision
from ..runtime.errors import DataError, InputError, MachineError
from ..runtime.preprocessing import Preprocessing
from .architectures import build, check_forward, default_size, imagenet_statistics, resolve
from .callbacks import Keeper, Reporter
from .checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from .classifier import Classifier
from .datasets import EpochBatches, ImageDataset, choose_cache, in_order, loader, normalization_table, normalize
from .losses import image_weights
from .options import TrainOptions, command_of, refuse_changed
from .run_report import artifacts, write_run_report
from .runs import (
    BEST,
    LAST,
    RESUME,
    cannot_write,
    check_resume,
    interrupted,
    prepare_folder,
    read_options,
    read_warnings,
    refuse_full_disk,
    state,
)
from .spec import ModelSpec
from .splits import Split, moved, split_of
from .statistics import find_colour, mean_and_std
from .suspicions import look_at
from .tasks import TASKS, decision_for
from .trackers import finish, loggers, require_trackers
from .transfer import load_initial


def train(options: TrainOptions, out: Path, skip_unreadable: bool = False) -> Path:
    """Train, and return the path of ``best.pth`` in ``out``.

    The folder also gets ``last.pth``, ``options.json`` and, until the run is finished, ``resume.ckpt``. Progress
    goes to stderr. The same options give the same weights on the same machine's CPU.

    Args:
        skip_unreadable: leave images out that cannot be read, rather than refuse them.

    Raises:
        DataError: the data cannot be used; see :func:`medcompress.trained.splits.find_split`.
        InputError: ``out`` holds another run, the options do not fit, or the training diverged.
        MachineError: ``out`` cannot be written, the disk is full, or weights cannot be downloaded.
        KeyboardInterrupt: stopped by the user; the message says what was kept.
    """
    if state(out) in {"resumable", "finished"}:
        raise InputError(f"{out}: holds a training already; give another --out, or go on with --resume {out}")
    return _run(options, out, resume=False, skip_unreadable=skip_unreadable)


def resume(out: Path, data: Path | None = None, asked: dict[str, Any] | None = None) -> Path:
    """Go on with an interrupted training after its last finished epoch; the end is that of one never interrupted.

    Args:
        out: the folder of the run.
        data: where the images lie now; None looks where they were.
        asked: options the user gave again, by name; they must be those the run began with.

    Raises:
        InputError: nothing to resume there.
        DataError: the images are not those the run began with.
        MachineError, KeyboardInterrupt: see :func:`train`.
    """
    found = state(out)
    if found != "resumable":
        why = "its training is finished" if found == "finished" else "no finished epoch is kept there"
        raise InputError(f"{out}: nothing to resume, {why}; start one with: medcompress train --data DIR")
    options = read_options(out)
    asked = dict(asked or {})
    if "architecture" in asked:
        asked["architecture"] = resolve(asked["architecture"])
    refuse_changed(options, asked)
    if data is not None:
        options = msgspec.structs.replace(options, source=moved(options.source, data.resolve()))
    return _run(options, out, resume=True)


def predict(network: nn.Module, dataset: ImageDataset, batch_size: int = 32) -> np.ndarray:
    """Raw outputs (N, classes), float32, in the data set's order, computed where the network lies.

    The network is put into evaluation mode.
    """
    device = next(network.parameters()).device
    table = normalization_table(dataset.preprocessing).to(device)
    network.eval()
    with torch.inference_mode():
        outputs = [
            network(normalize(pixels.to(device), table)).float().cpu()
            for pixels, _ in loader(dataset, in_order(len(dataset), batch_size))
        ]
    return torch.cat(outputs).numpy()


def settle(options: TrainOptions, split: Split) -> TrainOptions:
    """Fill in what is left to the network and the task: the input's size and the flips."""
    architecture = resolve(options.architecture)
    known = TASKS.get(split.task)
    size = options.size or (known.size if known and known.size < 224 else default_size(architecture))
    flips = options.flips
    if flips == "auto":
        flips = known.flips if known else "none"
    return msgspec.structs.replace(options, architecture=architecture, size=size, flips=flips)


def _run(options: TrainOptions, out: Path, *, resume: bool, skip_unreadable: bool = False) -> Path:
    started = time.monotonic()
    require_trackers(options.track)
    split = split_of(options.source)
    options = settle(options, split)
    decision = decision_for(split.classes, options.positive, split.multilabel)
    if resume and load_checkpoint(out / LAST).split != split.fingerprint:
        raise DataError(
            f"{split.folder}: its images are not those this training began with; restore them, or train anew"
        )
    if resume:
        check_resume(out)
    _refuse_hardware(options, split)
    if resume:
        warnings = read_warnings(out)
    else:
        source, split, found = look_at(options.source, split, skip_unreadable)
        options = msgspec.structs.replace(options, source=source)
        warnings = (*warnings_of(split), *found)
    _say_data(split, decision, warnings)
    prepare_folder(out, options, warnings)
    with _datasets(split, options, out) as datasets:
        network, spec = _network(options, decision, datasets["train"])
        for dataset in datasets.values():
            dataset.preprocessing = spec.preprocessing
        refuse_full_disk(out, network)
        template = Checkpoint(spec, {}, options.source, split.fingerprint)
        keeper = Keeper(out, template, options.patience, options.save_every)
        name = split.task or split.folder.name
        params = msgspec.to_builtins(options)
        opened = loggers(options.track, out, name, f"{out.parent.name}/{out.name}", params)
        _fit(network, datasets, spec, options, keeper, opened, resume)
        if not leads():
            return out / BEST
        best = dataclasses.replace(load_checkpoint(out / BEST), history=keeper.history)
        judged = rebuild(best).to("cuda" if torch.cuda.is_available() else "cpu")
        stage("Judging the best epoch")
        logits = {part: predict(judged, datasets[part]) for part in ("val", "test")}
    command = command_of(options, out)
    seconds = time.monotonic() - started
    write_run_report(out, best, split, logits, options, seconds, command, warnings)
    tested = scores(decision, truth([sample.target for sample in split.test], decision), logits["test"]).figures()
    metrics = best.metrics | {f"test_{name}": value for name, value in tested.items()}
    try:
        save_checkpoint(out / BEST, dataclasses.replace(best, metrics=metrics))
        (out / RESUME).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    finish(opened, {f"test_{name}": value for name, value in tested.items()}, artifacts(out), out / BEST, name)
    return out / BEST


@contextmanager
def _datasets(split: Split, options: TrainOptions, out: Path) -> Iterator[dict[str, ImageDataset]]:
    """The three parts; their cache on the disk, if they need one, is removed at the end."""
    drawn = Preprocessing((options.size, options.size), find_colour(split.train))
    parts = {"train": split.train, "val": split.val, "test": split.test}
    cache = choose_cache(options.cache, sum(map(len, parts.values())), drawn)
    files = {part: out / f".{part}-{rank()}.npy" for part in parts}
    try:
        yield {
            part: ImageDataset(samples, drawn, cache=cache, name=f"{part} images", file=files[part])
            for part, samples in parts.items()
        }
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def _network(options: TrainOptions, decision: Decision, images: ImageDataset) -> tuple[nn.Module, ModelSpec]:
    """The network with its initial weights, and its spec; gives the data sets their normalization."""
    spec = ModelSpec(options.architecture, images.preprocessing, decision, options.head)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        network = build(spec)
        loaded = load_initial(network, spec, options.weights, options.weights_input)
    if options.normalization == "imagenet":
        mean, std = imagenet_statistics(options.architecture)
    elif options.normalization == "data" or loaded.mean is None or loaded.std is None:
        mean, std = mean_and_std(images)
    else:
        mean, std = loaded.mean, loaded.std
    preprocessing = msgspec.structs.replace(images.preprocessing, mean=mean, std=std)
    spec = msgspec.structs.replace(spec, preprocessing=preprocessing)
    check_forward(network, spec)
    return network, spec


def _fit(
    network: nn.Module,
    datasets: dict[str, ImageDataset],
    spec: ModelSpec,
    options: TrainOptions,
    keeper: Keeper,
    opened: Sequence[Logger],
    resume: bool,
) -> None:
    train, val = datasets["train"], datasets["val"]
    classifier = Classifier(network.to(memory_format=torch.channels_last), spec, options, train.targets)
    with quiet():
        trainer = pl.Trainer(
            **_hardware(options, classifier),
            max_epochs=options.epochs,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip or None,
            callbacks=[keeper, Reporter(keeper, len(train))],
            logger=list(opened),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
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
            kept = f"; the last good epoch is kept in {keeper.out / LAST}" if keeper.history else ""
            raise InputError(f"{error}{kept}") from error
        except SystemExit:  # What Lightning makes of an interrupt.
            raise interrupted(keeper.out, len(keeper.history)) from None


def _hardware(options: TrainOptions, classifier: Classifier) -> dict[str, Any]:
    """What Lightning is to run on: one CPU or GPU, or several processes (its own, or those of torchrun)."""
    gpu = torch.cuda.is_available()
    precision = options.precision
    if precision == "auto":
        precision = ("bf16" if torch.cuda.is_bf16_supported() else "fp16") if gpu else "fp32"
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
    }


def _processes(options: TrainOptions) -> tuple[int, int]:
    """(on this machine, machines): as torchrun says where it started this process, else as asked for."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", options.devices)), int(os.environ.get("GROUP_WORLD_SIZE", 1))


def _refuse_hardware(options: TrainOptions, split: Split) -> None:
    """Refuse what this machine cannot do, before anything long."""
    gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not gpu:
        raise InputError("--precision fp16 needs a GPU; use bf16 or fp32")
    devices, nodes = _processes(options)
    if gpu and devices > torch.cuda.device_count():
        raise MachineError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPU(s); give fewer")
    fewest = min(len(split.train) // options.batch_size, len(split.val))
    if devices * nodes > max(1, fewest):
        raise InputError(f"--devices {devices}: the data are too few for so many processes; give fewer")


def warnings_of(split: Split) -> list[str]:
    """What finding the images brought up, a sentence each."""
    found = list(split.notes)
    if split.unrecognised:
        found.append(
            f"{split.unrecognised} file(s) name no patient, so each counts as a patient of its own; "
            "name patients with --patient-pattern or --patients-csv"
        )
    return found


def _say_data(split: Split, decision: Decision, warnings: Sequence[str]) -> None:
    counts = ", ".join(f"{part} {len(getattr(split, part))}" for part in ("train", "val", "test"))
    finding = f", finding {decision.positive}" if decision.positive else ""
    console.print(
        f"{len(split.classes)} classes ({', '.join(split.classes)}{finding}); images: {counts}",
        style="dim",
        soft_wrap=True,
    )
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


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
