"""Training a classifier from a folder of images to ``best.pth``."""

from __future__ import annotations

import dataclasses
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import msgspec
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn

from ..benchmarks.metrics import scores, truth
from ..benchmarks.progress import console
from ..runtime.decision import Decision
from ..runtime.errors import DataError, InputError
from ..runtime.preprocessing import Preprocessing
from .architectures import build, check_forward, imagenet_statistics, resolve
from .callbacks import Keeper, Reporter
from .checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from .classifier import Classifier
from .datasets import (
    EpochBatches,
    ImageDataset,
    find_colour,
    fits_in_memory,
    in_order,
    loader,
    mean_and_std,
    normalization_table,
    normalize,
)  # fmt: skip
from .runs import (
    BEST,
    LAST,
    RESUME,
    TrainOptions,
    cannot_write,
    check_resume,
    interrupted,
    prepare_folder,
    read_options,
    refuse_full_disk,
    state,
)
from .spec import ModelSpec
from .splits import Split, split_of
from .tasks import decision_for

# Epochs without a better validation AUROC before training stops.
PATIENCE = 6


def train(options: TrainOptions, out: Path) -> Path:
    """Train, and return the path of ``best.pth`` in ``out``.

    The folder also gets ``last.pth``, ``options.json`` and, until the run is finished, ``resume.ckpt``. Progress
    goes to stderr. The same options give the same weights on the same machine's CPU.

    Raises:
        DataError: the data cannot be used; see :func:`medcompress.trained.splits.find_split`.
        InputError: ``out`` holds another run, the options do not fit, or the training diverged.
        MachineError: ``out`` cannot be written, the disk is full, or weights cannot be downloaded.
        KeyboardInterrupt: stopped by the user; the message says what was kept.
    """
    if state(out) in {"resumable", "finished"}:
        raise InputError(f"{out}: holds a training already; give another --out, or go on with --resume {out}")
    return _run(options, out, resume=False)


def resume(out: Path, data: Path | None = None) -> Path:
    """Go on with an interrupted training after its last finished epoch; the end is that of one never interrupted.

    Args:
        out: the folder of the run.
        data: where the images lie now; None looks where they were.

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
    if data is not None:
        source = msgspec.structs.replace(options.source, folder=str(data.resolve()))
        options = msgspec.structs.replace(options, source=source)
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


def _run(options: TrainOptions, out: Path, *, resume: bool) -> Path:
    options = msgspec.structs.replace(options, architecture=resolve(options.architecture))
    split = split_of(options.source)
    decision = decision_for(split.classes, options.positive)
    if resume and load_checkpoint(out / LAST).split != split.fingerprint:
        raise DataError(
            f"{split.folder}: its images are not those this training began with; restore them, or train anew"
        )
    if resume:
        check_resume(out)
    _say_data(split, decision)
    prepare_folder(out, options)
    datasets, preprocessing = _datasets(split, options)
    spec = ModelSpec(options.architecture, preprocessing, decision)
    with torch.random.fork_rng():
        torch.manual_seed(options.source.seed)
        network = build(spec, options.weights)
    check_forward(network, spec)
    refuse_full_disk(out, network)
    template = Checkpoint(spec, {}, options.source, split.fingerprint)
    keeper = Keeper(out, template)
    _fit(network, datasets, spec, options, keeper, resume)

    best = load_checkpoint(out / BEST)
    test = datasets["test"]
    judged = rebuild(best).to("cuda" if torch.cuda.is_available() else "cpu")
    tested = scores(decision, truth(test.targets.numpy(), decision), predict(judged, test))
    metrics = best.metrics | {f"test_{name}": value for name, value in tested.figures().items()}
    try:
        save_checkpoint(out / BEST, dataclasses.replace(best, metrics=metrics, history=keeper.history))
        (out / RESUME).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    return out / BEST


def _datasets(split: Split, options: TrainOptions) -> tuple[dict[str, ImageDataset], Preprocessing]:
    size = (options.size, options.size)
    drawn = Preprocessing(size, find_colour(split.train))
    parts = {"train": split.train, "val": split.val, "test": split.test}
    cache = fits_in_memory(sum(map(len, parts.values())), drawn)
    datasets = {
        part: ImageDataset(samples, drawn, cache=cache, name=f"{part} images") for part, samples in parts.items()
    }
    if options.weights == "imagenet":
        mean, std = imagenet_statistics(options.architecture)
    else:
        mean, std = mean_and_std(datasets["train"])
    preprocessing = msgspec.structs.replace(drawn, mean=mean, std=std)
    for dataset in datasets.values():
        dataset.preprocessing = preprocessing
    return datasets, preprocessing


def _fit(
    network: nn.Module,
    datasets: dict[str, ImageDataset],
    spec: ModelSpec,
    options: TrainOptions,
    keeper: Keeper,
    resume: bool,
) -> None:
    classifier = Classifier(
        network.to(memory_format=torch.channels_last),
        spec.preprocessing,
        spec.decision,
        (datasets["train"].targets == 1).sum(dim=0).tolist(),
        options.learning_rate,
        options.source.seed,
    )
    gpu = torch.cuda.is_available()
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            precision=("bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed") if gpu else "32-true",
            max_epochs=options.epochs,
            gradient_clip_val=1.0,
            callbacks=[
                EarlyStopping("val_auroc", patience=PATIENCE, mode="max"),
                keeper,
                Reporter(keeper),
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        batches = EpochBatches(len(datasets["train"]), options.batch_size, options.source.seed)
        try:
            trainer.fit(
                classifier,
                loader(datasets["train"], batches),
                loader(datasets["val"], in_order(len(datasets["val"]), options.batch_size)),
                ckpt_path=keeper.out / RESUME if resume else None,
                weights_only=True,
            )
        except InputError as error:
            kept = f"; the last good epoch is kept in {keeper.out / LAST}" if keeper.history else ""
            raise InputError(f"{error}{kept}") from error
        except SystemExit:  # What Lightning makes of an interrupt.
            raise interrupted(keeper.out, len(keeper.history)) from None


def _say_data(split: Split, decision: Decision) -> None:
    counts = ", ".join(f"{part} {len(getattr(split, part))}" for part in ("train", "val", "test"))
    finding = f", finding {decision.positive}" if decision.positive else ""
    console.print(
        f"{len(split.classes)} classes ({', '.join(split.classes)}{finding}); images: {counts}",
        style="dim",
        soft_wrap=True,
    )
    if split.unrecognised:
        console.print(
            f"warning: {split.unrecognised} file(s) name no patient, so each counts as a patient of its own; "
            "name patients with --patient-pattern or --patients-csv",
            style="yellow",
            soft_wrap=True,
        )


@contextmanager
def _quiet() -> Iterator[None]:
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
