"""Several trainings that belong together: the folds of a cross-validation, or one training with several seeds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...benchmarks.progress import stage
from ...runtime.errors import InputError
from .options import TrainOptions, refuse_changed
from .runs import BEST, read_options, state
from .training import resume, train

# What a run settles for itself where it is not given.
SETTLED = {"source", "size", "flips", "excluded"}


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


def run_study(
    parts: dict[str, TrainOptions], out: Path, *, skip_unreadable: bool = False, drop_leaks: bool = False
) -> list[Path]:
    """Train each part in its folder within ``out``; a study started again goes on where it was stopped.

    Returns:
        The ``best.pth`` of each part, in order.

    Raises:
        InputError: a part was begun with other options; see also :func:`medcompress.trained.learning.training.train`.
    """
    found: list[Path] = []
    for name, options in parts.items():
        folder = out / name
        stage(f"{name} of {len(parts)}: {folder}")
        holds = state(folder)
        asked = msgspec.structs.asdict(options) | msgspec.structs.asdict(options.source)
        asked = {name: value for name, value in asked.items() if name not in SETTLED}
        if holds == "finished":
            refuse_changed(read_options(folder), asked)
            found.append(folder / BEST)
        elif holds == "resumable":
            found.append(resume(folder, asked=asked))
        else:
            found.append(train(options, folder, skip_unreadable=skip_unreadable, drop_leaks=drop_leaks))
    return found
