"""Several trainings that belong together: the folds of a cross-validation, or one training with several seeds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...benchmarks.progress import stage
from ...runtime.errors import InputError
from ..run_files import BEST, read_warnings
from .options import TrainOptions, refuse_changed
from .runs import read_options, state
from .training import resume, train


def parts_of(options: TrainOptions, folds: int, repeats: int) -> dict[str, TrainOptions]:
    """The trainings of a study by the names of their folders: ``fold-1`` ... or ``seed-0`` ...

    Folds share the test images and take turns at validation, by patient. Repeats share the split; weights, order and,
    of low-data trainings, the images that are drawn differ.

    Raises:
        InputError: both, or too few.
    """
    if folds and repeats > 1:
        raise InputError("--folds and --repeats do not go together; run one, then the other with another --out")
    if folds == 1:
        raise InputError("--folds needs at least 2")
    if folds:
        sources = {f"fold-{i + 1}": msgspec.structs.replace(options.source, fold=(i, folds)) for i in range(folds)}
        return {name: msgspec.structs.replace(options, source=source) for name, source in sources.items()}
    seeds = range(options.seed, options.seed + repeats)
    return {
        f"seed-{seed}": msgspec.structs.replace(
            options, seed=seed, source=msgspec.structs.replace(options.source, draw=seed)
        )
        for seed in seeds
    }


def run_study(parts: dict[str, TrainOptions], out: Path) -> list[Path]:
    """Train each part in its folder within ``out``; a study started again goes on where it was stopped.

    The images are the same for all parts, and looked at once.

    Returns:
        The ``best.pth`` of each part, in order.

    Raises:
        InputError: a part was begun with other options; see also :func:`medcompress.trained.learning.training.train`.
    """
    found: list[Path] = []
    screened: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    for name, options in parts.items():
        folder = out / name
        stage(f"{name} of {len(parts)}: {folder}")
        holds = state(folder)
        if holds in ("finished", "resumable"):
            _refuse_other(read_options(folder), options)
        if holds == "resumable":
            resume(folder)
        elif holds != "finished":
            source = msgspec.structs.replace(options.source, excluded=excluded)
            train(msgspec.structs.replace(options, source=source), folder, screened)
        found.append(folder / BEST)
        excluded, screened = read_options(folder).source.excluded, read_warnings(folder)
    return found


def _refuse_other(stored: TrainOptions, options: TrainOptions) -> None:
    asked, source = msgspec.structs.asdict(options), msgspec.structs.asdict(options.source)
    refuse_changed(
        stored,
        {name: value for name, value in asked.items() if name != "source"},
        {name: value for name, value in source.items() if name != "excluded"},
    )
