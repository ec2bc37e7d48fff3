"""Training a classifier from a data set to ``best.pth``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from ...benchmarks.progress import console, leads, stage
from ...benchmarks.statistics.metrics import scores, truth
from ...runtime.decision import Decision
from ...runtime.errors import InputError
from ...runtime.preprocessing import Preprocessing
from ..checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from ..data.datasets import ImageDataset, cached
from ..data.screening import screen
from ..data.splits import Split, moved, split_of
from ..data.statistics import find_colour, mean_and_std
from ..networks.architectures import build, check_forward, default_size, imagenet_statistics, resolve
from ..networks.prediction import predict
from ..networks.transfer import Loaded, as_pruned, load_initial, pruned_start
from ..results.run_report import artifacts, write_run_report
from ..results.trackers import finish, loggers, require_trackers
from ..run_files import BEST, LAST, RESUME, read_warnings
from ..spec import ModelSpec
from ..tasks import TASKS, USUAL_SIZE, decision_for
from .callbacks import Keeper
from .distillation import Teacher, teacher_of
from .fitting import fit, refuse_hardware
from .options import TEACHER_SHARE, TrainOptions, command_of, refuse_changed
from .runs import (
    cannot_write,
    check_resume,
    interrupted,
    prepare_folder,
    read_options,
    refuse_full_disk,
    refuse_other_data,
    state,
)


def train(options: TrainOptions, out: Path, screened: tuple[str, ...] | None = None) -> Path:
    """Train, and return the path of ``best.pth`` in ``out``.

    The folder also gets ``last.pth``, ``options.json``, ``split.csv``, ``warnings.json``, the run's report (see
    :mod:`medcompress.trained.results.run_report`) and, until the run is finished, ``resume.ckpt``. Progress goes to
    stderr. The same options give the same weights on the same machine's CPU.

    Args:
        screened: what was found when the same images were looked at before; None looks at them.

    Raises:
        DataError: the data cannot be used; see :func:`medcompress.trained.data.splits.split_of`.
        InputError: ``out`` holds another run, the options do not fit, or the training diverged.
        MachineError: ``out`` cannot be written, the disk is full, or weights cannot be downloaded.
        KeyboardInterrupt: stopped by the user; the message says what was kept.
    """
    found = state(out)
    if found == "study":
        raise InputError(f"{out}: holds the folds or repeats of a study; give another --out")
    if found in {"resumable", "finished"}:
        raise InputError(f"{out}: holds a training already; give another --out, or go on with --resume {out}")
    return _run(options, out, screened, resume=False)


def resume(
    out: Path,
    data: Path | None = None,
    asked: dict[str, Any] | None = None,
    asked_source: dict[str, Any] | None = None,
) -> Path:
    """Go on with an interrupted training after its last finished epoch; the end is that of one never interrupted.

    Args:
        out: the folder of the run.
        data: where the images lie now; None looks where they were.
        asked, asked_source: options the user gave again, by name; they must be those the run began with.

    Raises:
        InputError: nothing to resume there.
        DataError: the images are not those the run began with.
        MachineError, KeyboardInterrupt: see :func:`train`.
    """
    found = state(out)
    if found != "resumable":
        why = {"finished": "its training is finished", "study": "it holds several; run the study's command again"}
        why = why.get(found, "no finished epoch is kept there")
        raise InputError(f"{out}: nothing to resume, {why}; start one with: medcompress train --data DIR")
    options = read_options(out)
    asked = dict(asked or {})
    if "architecture" in asked:
        asked["architecture"] = resolve(asked["architecture"])
    refuse_changed(options, asked, asked_source)
    if data is not None:
        options = msgspec.structs.replace(options, source=moved(options.source, data.resolve()))
    return _run(options, out, None, resume=True)


def settle(options: TrainOptions, split: Split) -> TrainOptions:
    """Fill in what is left to the network and the task: the input's size and the flips; of a pruned start its own."""
    if not options.teacher and options.teacher_share != TEACHER_SHARE:
        raise InputError("a teacher share goes with a teacher; give --teacher, or leave --teacher-share out")
    architecture = resolve(options.architecture)
    known = TASKS.get(split.task)
    # A task of another size than the usual says so for a reason: 28 pixels of MedMNIST, 320 of CheXpert.
    size = options.size or (known.size if known and known.size != USUAL_SIZE else default_size(architecture))
    start = pruned_start(options.weights)
    if start is not None:
        if architecture == resolve(TrainOptions(options.source).architecture):
            architecture = start.architecture
        size = options.size or start.preprocessing.size[0]
    flips = options.flips
    if flips == "auto":
        flips = known.flips if known and options.augmentation != "none" else "none"
    return msgspec.structs.replace(options, architecture=architecture, size=size, flips=flips)


def _run(options: TrainOptions, out: Path, screened: tuple[str, ...] | None, *, resume: bool) -> Path:
    require_trackers(options.track)
    split = split_of(options.source)
    options = settle(options, split)
    refuse_hardware(options, split)
    loaded: Loaded | None = None
    if resume:
        refuse_other_data(out, split)
        spec, warnings = load_checkpoint(out / LAST).spec, read_warnings(out)
        teacher = _teacher(options, spec)
        check_resume(out, teacher)
        network = build(spec)
    else:
        # The network first: an error in it is told before every image is read.
        spec, network, loaded = _initial(options, split)
        teacher = _teacher(options, spec)
        if screened is None:
            source, split, found = screen(
                options.source, split, skip_unreadable=options.skip_unreadable, drop_leaks=options.drop_leaks
            )
            options = msgspec.structs.replace(options, source=source)
            screened = (*split.warnings, *found)
        warnings = screened
        if loaded.missing and options.weights != "scratch":
            warnings += (f"{len(loaded.missing)} tensors of the backbone are not in {loaded.weights}, and are drawn",)
    _say_data(split, spec.decision, warnings)
    prepare_folder(out, options, split, warnings)
    refuse_full_disk(out, network)
    with cached(split.parts, spec.preprocessing, out, options.cache) as datasets:
        if loaded is not None:
            spec = msgspec.structs.replace(spec, preprocessing=_normalization(options, loaded, datasets["train"]))
        for dataset in datasets.values():
            dataset.preprocessing = spec.preprocessing
        template = Checkpoint(spec, {}, options.source, split.fingerprint)
        keeper = Keeper(out, template, options.patience, options.save_every)
        opened = loggers(options.track, out, _topic(split), f"{out.parent.name}/{out.name}", _told(options))
        try:
            fit(network, datasets, spec, options, keeper, opened, resume, teacher)
            if leads():
                _judge(options, split, datasets, keeper, opened, warnings)
        except KeyboardInterrupt:
            raise interrupted(out, keeper.epochs) from None
    return out / BEST


def _judge(
    options: TrainOptions,
    split: Split,
    datasets: dict[str, ImageDataset],
    keeper: Keeper,
    opened: Sequence[Logger],
    warnings: Sequence[str],
) -> None:
    """Judge the best epoch on the held-out images, once, and leave what a finished run leaves."""
    stage("Judging the best epoch")
    out = keeper.out
    best = dataclasses.replace(load_checkpoint(out / BEST), history=keeper.history)
    network = rebuild(best).to("cuda" if torch.cuda.is_available() else "cpu")
    logits = {part: predict(network, datasets[part]) for part in ("val", "test")}
    command = command_of(options, out)
    write_run_report(out, best, split, logits, _told(options), keeper.seconds, command, warnings)
    decision = best.spec.decision
    target = truth([sample.target for sample in split.test], decision)
    tested = {f"test_{name}": value for name, value in scores(decision, target, logits["test"]).figures().items()}
    try:
        save_checkpoint(out / BEST, dataclasses.replace(best, metrics=best.metrics | tested))
        (out / RESUME).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    finish(opened, tested, artifacts(out), out / BEST, _topic(split))


def _initial(options: TrainOptions, split: Split) -> tuple[ModelSpec, nn.Module, Loaded]:
    """The network with its initial weights; its mean and std are the weights' own, or not yet known."""
    decision = decision_for(split.classes, options.positive, split.multilabel)
    known = TASKS.get(split.task)
    colour = known.colour if known else find_colour(split.train)
    preprocessing = Preprocessing((options.size, options.size), colour, dicom=options.rendering)
    spec = as_pruned(ModelSpec(options.architecture, preprocessing, decision, options.head), options.weights)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        network = build(spec)
        loaded = load_initial(network, spec, options.weights, options.weights_input)
    check_forward(network, spec)
    if options.weights != "scratch":
        stage(str(loaded))
    return spec, network, loaded


def _teacher(options: TrainOptions, spec: ModelSpec) -> Teacher | None:
    """The one the options name, for a network with this spec."""
    if not options.teacher:
        return None
    return teacher_of(load_checkpoint(Path(options.teacher)), spec, options.teacher)


def _normalization(options: TrainOptions, loaded: Loaded, train: ImageDataset) -> Preprocessing:
    """The preprocessing with mean and std: of the initial weights, of the data, or ImageNet's."""
    if options.normalization == "imagenet":
        mean, std = imagenet_statistics(options.architecture)
    elif options.normalization == "data" or loaded.mean is None or loaded.std is None:
        mean, std = mean_and_std(train)
    else:
        mean, std = loaded.mean, loaded.std
    return msgspec.structs.replace(train.preprocessing, mean=mean, std=std)


def _told(options: TrainOptions) -> dict[str, Any]:
    """The options as they may be shown to others: without names of files, which may name patients."""
    told: dict[str, Any] = msgspec.to_builtins(options)
    told["source"]["excluded"] = len(options.source.excluded)
    return told


def _topic(split: Split) -> str:
    """What a tracker files the run under: the task, or the folder's name."""
    return split.task or split.folder.name


def _say_data(split: Split, decision: Decision, warnings: Sequence[str]) -> None:
    counts = ", ".join(f"{part} {len(getattr(split, part))}" for part in ("train", "val", "test"))
    names = "findings" if split.multilabel else "classes"
    finding = f", finding {decision.positive}" if decision.positive else ""
    console.print(
        f"{len(split.classes)} {names} ({', '.join(split.classes)}{finding}); images: {counts}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
