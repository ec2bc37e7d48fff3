"""The fastest network on this machine whose answers on the validation images are good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.data.labelled import Labelled
from ...benchmarks.networks import Trial
from ...benchmarks.tolerance import Tolerance
from ...runtime.decision import Decision
from ...trained.checkpoint import Checkpoint
from ...trained.data.datasets import ImageDataset, cached
from ...trained.data.splits import Split
from ..pruning.options import Pruning
from ..pruning.rounds import Pruned
from ..recipes import Recipe
from ..workspace import Workspace
from .known import Looked
from .looking import Looking
from .rungs import Bench, read

_ENDED = "ended"


@dataclass(frozen=True)
class Found:
    """A network that goes on to the gate.

    Attributes:
        pruning: how it was asked for; ``pruning.name`` is its name.
        pruned: the checkpoint, and how it was recovered.
    """

    pruning: Pruning
    pruned: Pruned
    trial: Trial

    @property
    def checkpoint(self) -> Checkpoint:
        return self.pruned.checkpoint


class _Ended(msgspec.Struct, frozen=True):
    found: tuple[Looked, ...]
    trials: tuple[Trial, ...]


def search(
    workspace: Workspace,
    checkpoint: Checkpoint,
    split: Split,
    recipes: Sequence[Recipe],
    rendered: npt.NDArray[np.uint8],
    val: Labelled,
    decision: Decision,
    tolerance: Tolerance,
    *,
    threads: int,
    deadline: float,
    epochs: int = 6,
    seed: int = 0,
    most: int = 3,
) -> tuple[tuple[Found, ...], tuple[Trial, ...]]:
    """Prune and shrink the network in many ways, the cheap steps ruling out the dear ones.

    Stopped at any point, it goes on from there when called again, and the new deadline counts. One that ended and found
    something is not begun again.

    Args:
        workspace: a room of its own.
        checkpoint: dense.
        split: its training images are learned from, its validation images choose; the test images are not looked at.
        rendered: calibration images (N, H, W) or (N, H, W, 3), for timing.
        val: the validation images.
        decision: locked.
        threads: of one inference.
        deadline: of :func:`time.monotonic`; no recovery is begun that would not end by then.
        epochs: of recovery, of a network that is not good enough with less.
        most: networks that go on to the gate.

    Returns:
        The fastest networks that are good enough, the fastest first; and all that were looked at, the dense one first.

    Raises:
        DataError: an image that cannot be read.
        OSError: the disk is full.
    """
    parts = {"train": split.train, "val": split.val}
    with ExitStack() as stack:

        @cache
        def datasets() -> Mapping[str, ImageDataset]:
            return stack.enter_context(cached(parts, checkpoint.spec.preprocessing, workspace.folder))

        bench = Bench(
            checkpoint, split, recipes, rendered, val, decision, tolerance, datasets, threads, epochs, seed, deadline
        )

        def action(_: Path) -> _Ended:
            looking = Looking(workspace, bench)
            looking.on()
            best = looking.polished(most)
            return _Ended(tuple(best), looking.trials(best))

        if workspace.has(_ENDED):
            _, ended = workspace.stage(_ENDED, "The search", _Ended, action)
        else:
            ended = action(workspace.folder)
            if ended.found:
                workspace.stage(_ENDED, "The search has ended", _Ended, lambda _: ended)
        return tuple(_found(workspace, bench, each) for each in ended.found), ended.trials


def _found(workspace: Workspace, bench: Bench, looked: Looked) -> Found:
    room = workspace.room(looked.point.name)
    checkpoint, rungs = read(room, looked.rung)
    history = [*rungs[0].history]
    for rung in rungs[1:]:
        history += [{**row, "epoch": row["epoch"] + len(history) - 1} for row in rung.history[1:]]
    pruned = Pruned(checkpoint, (history,), looked.trial.seconds)
    return Found(looked.point.pruning(looked.trial.epochs, bench.seed), pruned, looked.trial)
