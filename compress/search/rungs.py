"""The steps of looking at one network, each dearer than the one before, and each done once."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.data.labelled import Labelled
from ...benchmarks.evaluation import Logits
from ...benchmarks.tolerance import Tolerance
from ...runtime.decision import Decision
from ...runtime.errors import MedcompressError
from ...trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from ...trained.data.datasets import ImageDataset
from ...trained.data.splits import Split
from ...trained.networks.prediction import predict
from ..pruning.counting import count_macs
from ..pruning.prune import prune
from ..pruning.recovery import recover
from ..pruning.target import measure_of
from ..recipes import Recipe
from ..speed import fastest
from ..workspace import Workspace
from .judging import Figures, figures_of
from .points import Point

SHORT, LONG = "short", "long"
_FILE, _OUTPUTS = "pruned.pth", "outputs.npy"


@dataclass(frozen=True)
class Bench:
    """What every network is looked at with.

    Attributes:
        dense: also the teacher.
        rendered: calibration images.
        datasets: ``train`` and ``val`` of the split, rendered at the first call.
        decision: locked.
        threads: of one inference.
        epochs: of recovery, short and long together.
        deadline: of :func:`time.monotonic`: every recovery has ended by then.
    """

    dense: Checkpoint
    split: Split
    recipes: Sequence[Recipe]
    rendered: npt.NDArray[np.uint8]
    val: Labelled
    decision: Decision
    tolerance: Tolerance
    datasets: Callable[[], Mapping[str, ImageDataset]]
    threads: int
    epochs: int
    seed: int
    deadline: float

    def answers(self, checkpoint: Checkpoint) -> Logits:
        """Raw outputs (N, classes) on the validation images.

        Raises:
            MedcompressError: they are not all numbers.
        """
        dataset = ImageDataset(self.val.samples, checkpoint.spec.preprocessing, cache="none")
        dataset.pixels = np.load(self.val.rendered, mmap_mode="r", allow_pickle=False)
        outputs = predict(rebuild(checkpoint), dataset)
        if not np.isfinite(outputs).all():
            raise MedcompressError("it answers NaN or infinite values for validation images")
        return outputs

    def time(self, checkpoint: Checkpoint) -> tuple[str, float, int]:
        """Name, milliseconds and bytes of its fastest form."""
        preprocessing = checkpoint.spec.preprocessing
        return fastest(rebuild(checkpoint), preprocessing, self.rendered, self.recipes, self.threads)


class Dense(msgspec.Struct, frozen=True):
    """Of the network that was given.

    Attributes:
        seconds: it took.
    """

    form: str
    p50_ms: float
    size_bytes: int | None
    figures: Figures
    seconds: float


class Timed(msgspec.Struct, frozen=True):
    """Of a pruned network before it learned anything."""

    macs_share: float
    form: str
    p50_ms: float
    size_bytes: int | None
    seconds: float


class Learned(msgspec.Struct, frozen=True):
    """Of a recovery: a row an epoch, the first before training."""

    history: list[dict[str, float]]
    figures: Figures
    seconds: float

    @property
    def epochs(self) -> int:
        return len(self.history) - 1


def look_at_dense(workspace: Workspace, bench: Bench) -> tuple[Dense, Logits]:
    """What all others are held against, and its raw outputs on the validation images."""

    def action(folder: Path) -> Dense:
        started = time.monotonic()
        outputs = bench.answers(bench.dense)
        form, p50_ms, size = bench.time(bench.dense)
        np.save(folder / _OUTPUTS, outputs, allow_pickle=False)
        figures = figures_of(bench.decision, bench.val, outputs, outputs, bench.tolerance)
        return Dense(form, p50_ms, size, figures, time.monotonic() - started)

    folder, found = workspace.stage("dense", "  measuring the dense network", Dense, action)
    return found, np.load(folder / _OUTPUTS, allow_pickle=False)


def prune_and_time(room: Workspace, bench: Bench, point: Point) -> tuple[Checkpoint, Timed]:
    """Channels chosen in one go, nothing learned.

    Raises:
        InputError: so little cannot be left of it.
        MedcompressError: it cannot be pruned or exported.
        MachineError: no form of it runs here.
    """

    def action(folder: Path) -> Timed:
        started = time.monotonic()
        spec = bench.dense.spec
        asked = point.pruning(0, bench.seed)
        measure = measure_of(asked.target, spec.preprocessing.shape)
        whole = measure(rebuild(bench.dense))
        smaller = dataclasses.replace(bench.dense, spec=msgspec.structs.replace(spec, shrunk=point.size or spec.shrunk))
        words = str(asked.target)
        pruned = prune(smaller, point.share * whole, measure, asked=words, unit=whole, importance=asked.importance)
        form, p50_ms, size = bench.time(pruned)
        save_checkpoint(folder / _FILE, pruned)
        left = count_macs(rebuild(pruned), spec.preprocessing.shape) / whole
        return Timed(left, form, p50_ms, size, time.monotonic() - started)

    folder, found = room.stage("pruned", f"  {point.name}: pruned and timed", Timed, action)
    return load_checkpoint(folder / _FILE), found


def learn(
    room: Workspace, bench: Bench, dense: Logits, name: str, start: Checkpoint, title: str, epochs: int
) -> tuple[Checkpoint, Learned]:
    """Recovered for so many epochs, and judged.

    Args:
        dense: its raw outputs on the validation images.
        name: of the stage.

    Raises:
        MedcompressError: it diverges.
    """
    # Beside the stage and not in it: what a killed recovery has learned is gone on with.
    kept = room.folder / f"{name}-{epochs}.training"

    def action(folder: Path) -> Learned:
        datasets = bench.datasets()
        started = time.monotonic()
        found = recover(
            start,
            bench.dense,
            bench.split,
            kept,
            epochs=epochs,
            deadline=bench.deadline,
            seed=bench.seed,
            datasets=datasets,
        )
        figures = figures_of(bench.decision, bench.val, dense, bench.answers(found), bench.tolerance)
        save_checkpoint(folder / _FILE, found)
        return Learned(found.history, figures, time.monotonic() - started)

    folder, found = room.stage(name, title, Learned, action)
    checkpoint = load_checkpoint(folder / _FILE)
    shutil.rmtree(kept, ignore_errors=True)
    if time.monotonic() >= bench.deadline and not found.figures.passes:
        # Cut short: a search with more time learns it anew.
        shutil.rmtree(folder)
    return checkpoint, found


def read(room: Workspace, name: str) -> tuple[Checkpoint, list[Learned]]:
    """The checkpoint of a recovery that is finished, and it and the one before it."""

    def action(_: Path) -> Learned:
        raise MedcompressError(f"{room.folder}: was changed during the search; delete it and begin again")

    names = [SHORT] if name == SHORT else [SHORT, LONG]
    done = [room.stage(each, f"  {room.folder.name}, {each} recovery", Learned, action) for each in names]
    return load_checkpoint(done[-1][0] / _FILE), [found for _, found in done]
