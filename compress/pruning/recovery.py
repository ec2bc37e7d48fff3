"""What pruning cost, learned back: statistics of normalizations taken anew, then the answers of the dense network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import msgspec
import torch
from torch import nn

from ...benchmarks.progress import stage
from ...runtime.errors import InputError, MedcompressError
from ...runtime.hardware import this_cpu
from ...runtime.records import from_json, to_json, write_whole
from ...trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from ...trained.data.datasets import EpochBatches, ImageDataset, cached, normalization_table, normalize
from ...trained.data.splits import Split
from ...trained.learning.callbacks import Keeper, validation
from ...trained.learning.classifier import Diverged
from ...trained.learning.distillation import Teacher, digest, teacher_of
from ...trained.learning.fitting import fit, torch_threads, validate
from ...trained.learning.memory import memory_folder
from ...trained.learning.options import TrainOptions
from ...trained.learning.recalibration import recalibrate
from ...trained.learning.reporter import figures_of
from ...trained.learning.runs import cannot_write, check_resume, refuse_full_disk
from ...trained.run_files import BEST, LAST, RESUME, stored
from ...trained.tasks import TASKS

STATE = "recovery.json"
# Statistics of normalizations are taken from so many training images.
RECALIBRATION_IMAGES = 512
# How often it is begun again where values ceased to be numbers, each time with this share of the learning rate.
RESTARTS, SLOWER = 2, 1 / 3


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Beside the checkpoints of a recovery: which it is, and how far.

    Attributes:
        student, teacher: digests of the checkpoints.
        split: fingerprint of the images.
        restarts: how often it diverged.
        finished: ``best.pth`` is the result.
    """

    student: str
    teacher: str
    split: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    restarts: int = 0
    finished: bool = False


def recover(
    checkpoint: Checkpoint,
    teacher: Checkpoint,
    split: Split,
    folder: Path,
    *,
    epochs: int,
    deadline: float | None = None,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    threads: int = 0,
    datasets: Mapping[str, ImageDataset] | None = None,
) -> Checkpoint:
    """The network whose answers on the validation images are nearest to the teacher's: an epoch's, or the one before.

    Called again after it was stopped, it goes on after the last finished epoch; once finished, it is read. Progress
    goes to stderr.

    Args:
        checkpoint: the pruned network.
        teacher: the dense one.
        split: its training images are learned from, and its validation images choose the epoch.
        folder: of this recovery alone; gets ``best.pth``, ``last.pth``, ``recovery.json`` and, until it is finished,
            ``resume.ckpt``.
        epochs: 0 takes the statistics of normalizations anew and trains nothing.
        deadline: of :func:`time.monotonic`; training ends after the step that reaches it, then the last validation. One
            that is past trains nothing.
        learning_rate: the highest, of AdamW in one cycle.
        seed: of the order and the augmentation.
        threads: of torch; 0 leaves them.
        datasets: ``train`` and ``val`` of the split, where they are rendered already; None renders them.

    Returns:
        With the history from row 0, before training, and the metrics ``val_auroc``, ``val_loss``, ``val_distance``.

    Raises:
        InputError: the folder holds another recovery, or the teacher answers another question.
        DataError: an image that cannot be read.
        MachineError: the folder cannot be written, or the disk is full.
        MedcompressError: values ceased to be numbers, with lower learning rates too.
        KeyboardInterrupt: stopped by the user; the folder can be gone on with.
    """
    wanted = _State(digest(checkpoint), digest(teacher), checkpoint.split, epochs, batch_size, learning_rate, seed)
    state = _begun(folder, wanted)
    if state.finished:
        return load_checkpoint(folder / BEST)
    known = TASKS.get(split.task)
    options = TrainOptions(
        checkpoint.data,
        checkpoint.spec.architecture,
        epochs=max(1, epochs),
        batch_size=batch_size,
        learning_rate=learning_rate,
        augmentation="light",
        flips=known.flips if known else "none",
        # Of labels the dense network has learned all it can: what is wanted here is its answers, right or wrong.
        teacher_share=1.0,
        # Half the time of fp32, where the CPU multiplies in it.
        precision="auto" if this_cpu().lacks(("bf16",)) or torch.cuda.is_available() else "bf16",
        patience=0,
        seed=seed,
    )
    with ExitStack() as stack:
        stack.enter_context(torch_threads(threads))
        stack.enter_context(torch.random.fork_rng())
        if datasets is None:
            parts = {"train": split.train, "val": split.val}
            datasets = stack.enter_context(cached(parts, checkpoint.spec.preprocessing, folder))
        taught = teacher_of(teacher, checkpoint.spec, "the teacher", memory_folder())
        network = rebuild(checkpoint)
        start = _recalibrated(checkpoint, network, datasets, options, taught)
        history = start.history
        if epochs and (deadline is None or time.monotonic() < deadline):
            refuse_full_disk(folder, network)
            history = _train(network, start, datasets, options, taught, folder, state.restarts, deadline)
        elif (folder / RESUME).is_file():
            history = load_checkpoint(folder / LAST).history
        else:
            _save(folder, start)
    best = dataclasses.replace(load_checkpoint(folder / BEST), history=history)
    _save(folder, best)
    _write(folder, msgspec.structs.replace(_stored(folder), finished=True))
    (folder / RESUME).unlink(missing_ok=True)
    return best


def _recalibrated(
    checkpoint: Checkpoint,
    network: nn.Module,
    datasets: Mapping[str, ImageDataset],
    options: TrainOptions,
    teacher: Teacher,
) -> Checkpoint:
    """Epoch 0: the network, in place, with statistics of its own, and its figures.

    One that was recovered before has them, from all training images.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers = 0
    if not checkpoint.history:
        layers = recalibrate(network.to(device), _images(checkpoint, datasets["train"], options, device))
    try:
        figures = validate(network, datasets, checkpoint.spec, options, teacher)
    except Diverged as error:
        raise MedcompressError(
            "the pruned network answers NaN or infinite values before any training; prune less at a time"
        ) from error
    anew = f", statistics of {layers} normalizations taken anew" if layers else ""
    stage("  ".join([f"    before{anew}:", *figures_of(figures)]))
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    history = [{"epoch": 0.0, **figures}]
    return dataclasses.replace(checkpoint, weights=weights, epoch=0, history=history, metrics=validation(figures))


def _images(
    checkpoint: Checkpoint, train: ImageDataset, options: TrainOptions, device: torch.device
) -> Iterator[torch.Tensor]:
    table = normalization_table(checkpoint.spec.preprocessing).to(device)
    batches = EpochBatches(len(train), options.batch_size, options.seed)
    for indices in islice(batches, max(1, RECALIBRATION_IMAGES // options.batch_size)):
        yield normalize(train[indices][0].to(device), table)


def _train(
    network: nn.Module,
    start: Checkpoint,
    datasets: Mapping[str, ImageDataset],
    options: TrainOptions,
    teacher: Teacher,
    folder: Path,
    restarts: int,
    deadline: float | None,
) -> list[dict[str, float]]:
    """Leave the best epoch in ``best.pth``, and return the history."""
    while True:
        resumed = (folder / RESUME).is_file()
        if resumed:
            check_resume(folder, teacher)
        else:
            network.load_state_dict(start.weights)
            _save(folder, start)
        slower = msgspec.structs.replace(options, learning_rate=options.learning_rate * SLOWER**restarts)
        keeper = Keeper(folder, start, before=start.history[0])
        try:
            fit(network, datasets, start.spec, slower, keeper, (), resumed, teacher, deadline)
            return keeper.history
        except Diverged as error:
            why = f"{str(error).partition(';')[0]} at a learning rate of {slower.learning_rate:.2g}"
            if restarts == RESTARTS:
                raise MedcompressError(
                    f"recovery: {why}, and before with higher ones; prune less at a time, or keep the dense network"
                ) from error
        stage(f"    {why}; begun again from before with a third of it")
        restarts += 1
        (folder / RESUME).unlink(missing_ok=True)
        _write(folder, msgspec.structs.replace(_stored(folder), restarts=restarts))


def _begun(folder: Path, wanted: _State) -> _State:
    """What the folder says of this recovery, from now on or since before."""
    if (folder / STATE).is_file():
        state = _stored(folder)
        if msgspec.structs.replace(state, restarts=0, finished=False) != wanted:
            raise InputError(f"{folder}: holds the recovery of another network, or with other options; give another")
        return state
    if (folder / BEST).exists():
        raise InputError(f"{folder}: holds a training; give another folder for the recovery")
    _write(folder, wanted)
    return wanted


def _stored(folder: Path) -> _State:
    return from_json(stored(folder / STATE), _State, str(folder / STATE))


def _write(folder: Path, state: _State) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / STATE, to_json(state))
    except OSError as error:
        raise cannot_write(folder, error) from error


def _save(folder: Path, checkpoint: Checkpoint) -> None:
    try:
        save_checkpoint(folder / BEST, checkpoint)
    except OSError as error:
        raise cannot_write(folder, error) from error
