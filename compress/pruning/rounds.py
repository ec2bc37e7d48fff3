"""Round after round: some channels go, what they were worth is learned back, then the next."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import msgspec
import torch
from torch import nn

from ...benchmarks.progress import stage as say
from ...runtime.errors import InputError
from ...trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from ...trained.data.datasets import EpochBatches, ImageDataset, cached, normalization_table, normalize
from ...trained.data.splits import Split
from ...trained.learning.losses import loss
from ...trained.learning.options import TrainOptions
from ..workspace import Workspace
from .options import Pruning
from .prune import prune
from .recovery import recover
from .target import Measure, least_left, measure_of, rounds_to, unreachable

_FILE = "pruned.pth"
# Training images, in batches, that the importance ``taylor`` is measured on.
_BATCHES, _BATCH = 16, 32


@dataclass(frozen=True)
class Pruned:
    """What the rounds came to.

    Attributes:
        checkpoint: pruned and recovered.
        histories: of each round's recovery, a row an epoch, the first before training.
        seconds: all rounds took.
    """

    checkpoint: Checkpoint
    histories: tuple[list[dict[str, float]], ...]
    seconds: float


class _Size(msgspec.Struct):
    value: float


class _Work(msgspec.Struct):
    macs: int
    parameters: int
    seconds: float


class _Figures(msgspec.Struct):
    history: list[dict[str, float]]
    seconds: float


def prune_in_rounds(
    workspace: Workspace,
    checkpoint: Checkpoint,
    split: Split,
    asked: Pruning,
    *,
    latency: Measure | None = None,
    deadline: float = math.inf,
) -> Pruned:
    """Prune and recover. Stopped at any point, it goes on from there when called again.

    Args:
        workspace: a room of its own.
        checkpoint: dense; it is the teacher of every recovery.
        split: its training images are learned from, its validation images choose the epoch.
        latency: of a network, in milliseconds; for a target of that kind.
        deadline: of :func:`time.monotonic`: recovery has ended by then, and what is left of the rounds is only pruned.

    Raises:
        InputError: the target cannot be reached.
        MedcompressError: the network cannot be pruned, or its recovery diverges.
    """
    measure = measure_of(asked.target, checkpoint.spec.preprocessing.shape, latency)
    _, dense = workspace.stage(
        "dense", "  measuring the dense network", _Size, lambda _: _Size(measure(rebuild(checkpoint)))
    )
    wanted = asked.target.wanted(dense.value)
    if wanted >= dense.value:
        raise InputError(f"--{asked.target}: the network takes {dense.value:.3g} ms as it is; give less")
    current = dataclasses.replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, shrunk=asked.shrunk))
    steps = rounds_to(wanted, dense.value, asked.rounds_for(wanted / dense.value))
    epochs = asked.epochs_of(len(steps), len(split.train))
    unit = 1.0 if asked.target.kind == "latency-ms" else dense.value
    if len(steps) > 1:
        # Hours of recovery may lie before the round that would find it out.
        shape = checkpoint.spec.preprocessing.shape
        _, least = workspace.stage(
            "least",
            "  seeing how far it can be pruned",
            _Size,
            lambda _: _Size(least_left(rebuild(current), shape, measure, asked.keep, rounds=len(steps))),
        )
        if least.value > wanted:
            raise unreachable(str(asked.target), least.value / unit)
    histories, seconds = [], 0.0
    with ExitStack() as stack:

        @cache
        def datasets() -> Mapping[str, ImageDataset]:
            parts = {"train": split.train, "val": split.val}
            return stack.enter_context(cached(parts, checkpoint.spec.preprocessing, workspace.folder))

        run = _Rounds(workspace, checkpoint, split, asked, measure, unit, datasets)
        for number, left in enumerate(steps, start=1):
            # What is left of the time is shared by the rounds as their epochs are.
            share = epochs[number - 1] / max(1, sum(epochs[number - 1 :]))
            now = time.monotonic()
            title = f"  round {number} of {len(steps)}"
            pruned, work = run.prune(number, title, current, left)
            current, figures = run.recover(number, title, pruned, epochs[number - 1], now + share * (deadline - now))
            histories.append(figures.history)
            seconds += work.seconds + figures.seconds
    return Pruned(current, tuple(histories), seconds)


@dataclass(frozen=True)
class _Rounds:
    workspace: Workspace
    teacher: Checkpoint
    split: Split
    asked: Pruning
    measure: Measure
    unit: float
    datasets: Callable[[], Mapping[str, ImageDataset]]

    def prune(self, number: int, title: str, current: Checkpoint, left: float) -> tuple[Checkpoint, _Work]:
        asked = self.asked

        def action(folder: Path) -> _Work:
            started = time.monotonic()
            taylor = asked.importance == "taylor"
            found = prune(
                current,
                left,
                self.measure,
                asked=str(asked.target),
                unit=self.unit,
                importance=asked.importance,
                losses=_losses(current, self.datasets()["train"], asked.seed) if taylor else (),
                keep=asked.keep,
            )
            save_checkpoint(folder / _FILE, found)
            done = found.spec.pruning[-1]
            return _Work(done.macs[1], done.parameters[1], time.monotonic() - started)

        folder, work = self.workspace.stage(f"pruned-{number}", f"{title}: choosing channels", _Work, action)
        left_of = f"{work.macs / 1e6:.4g} million MACs and {work.parameters / 1e6:.4g} million parameters"
        say(f"{title}: {left_of} are left")
        return load_checkpoint(folder / _FILE), work

    def recover(
        self, number: int, title: str, pruned: Checkpoint, epochs: int, deadline: float
    ) -> tuple[Checkpoint, _Figures]:
        name = f"recovered-{number}"
        # Beside the stage and not in it: what a killed recovery has learned is gone on with.
        learned = self.workspace.folder / f"{name}.training"

        def action(folder: Path) -> _Figures:
            started = time.monotonic()
            found = recover(
                pruned,
                self.teacher,
                self.split,
                learned,
                epochs=epochs,
                deadline=deadline if deadline < math.inf else None,
                seed=self.asked.seed,
                datasets=self.datasets(),
            )
            save_checkpoint(folder / _FILE, found)
            return _Figures(found.history, time.monotonic() - started)

        folder, figures = self.workspace.stage(name, f"{title}: learning from the dense network", _Figures, action)
        shutil.rmtree(learned, ignore_errors=True)
        return load_checkpoint(folder / _FILE), figures


def _losses(checkpoint: Checkpoint, train: ImageDataset, seed: int) -> Iterator[Callable[[nn.Module], torch.Tensor]]:
    """Of some training batches, unchanged, by their labels: of its own teacher a network has learned everything."""
    spec, options = checkpoint.spec, TrainOptions(checkpoint.data)
    table = normalization_table(spec.preprocessing)
    for indices in islice(EpochBatches(len(train), _BATCH, seed), _BATCHES):
        pixels, targets = train[indices]
        images = normalize(pixels, table)

        def of(network: nn.Module, images: torch.Tensor = images, targets: torch.Tensor = targets) -> torch.Tensor:
            return loss(network(images), targets, spec.decision.kind, options, None)

        yield of
