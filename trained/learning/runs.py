"""A training run's folder: what is kept there, and whether it can be written."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ...runtime.errors import CheckpointError, DataError, InputError, MachineError
from ...runtime.records import from_json, to_json, write_whole
from ..checkpoint import load_checkpoint
from ..data.organize import TABLE, split_table
from ..data.splits import Split
from ..run_files import BEST, LAST, OPTIONS, RESUME, WARNINGS, stored
from .distillation import Teacher
from .options import TrainOptions

# Disk a run needs, in sizes of its weights: best, last, resume (weights and two moments), one of them twice.
DISK_FACTOR = 9


def prepare_folder(out: Path, options: TrainOptions, split: Split, warnings: Sequence[str]) -> None:
    """Make the folder, and write in it the options, the split and what was said against the data.

    Raises:
        MachineError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / OPTIONS, to_json(options))
        write_whole(out / TABLE, split_table(split))
        write_whole(out / WARNINGS, to_json(tuple(warnings)))
    except OSError as error:
        raise cannot_write(out, error) from error


def state(out: Path) -> Literal["empty", "begun", "resumable", "finished", "study"]:
    """What a run's folder holds.

    ``begun`` is a first epoch that was cut off, with nothing to go on from; ``study`` are folds or repeats.
    """
    if any((entry / OPTIONS).is_file() for pattern in ("fold-*", "seed-*") for entry in out.glob(pattern)):
        return "study"
    if (out / RESUME).is_file():
        return "resumable"
    if not (out / BEST).is_file():
        return "begun" if (out / LAST).is_file() else "empty"
    # The test figures are the last thing a run writes.
    try:
        metrics = load_checkpoint(out / BEST).metrics
    except CheckpointError as error:
        raise CheckpointError(f"{out}: holds a {BEST} that cannot be read; give another --out") from error
    return "finished" if "test_auroc" in metrics else "begun"


def check_resume(out: Path, teacher: Teacher | None) -> None:
    """Refuse a ``resume.ckpt`` that cannot be gone on with.

    Raises:
        CheckpointError: it is not what Lightning left there.
        InputError: it learned another teacher.
    """
    path = out / RESUME
    stored: Any = None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        whole = isinstance(stored, dict) and {"pytorch-lightning_version", "state_dict"} <= set(stored)
    except Exception:  # a damaged file makes torch raise whatever its reader meets first
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: is damaged; the best epoch so far is {out / BEST}, train anew in another --out")
    if stored.get("teacher", "") != (teacher.digest if teacher is not None else ""):
        raise InputError(
            f"{out}: the teacher is not the one this training began with (its weights changed); restore that file, or "
            "train anew in another --out"
        )


def refuse_other_data(out: Path, split: Split) -> None:
    """Refuse to resume with other images than the run began with.

    Raises:
        DataError: naming the first difference.
    """
    if load_checkpoint(out / LAST).split == split.fingerprint:
        return
    began, now = (
        {row["file"]: row for row in csv.DictReader(io.StringIO(table.decode()))}
        for table in (stored(out / TABLE), split_table(split))
    )
    missing, added = sorted(began.keys() - now.keys()), sorted(now.keys() - began.keys())
    changed = sorted(name for name in began.keys() & now.keys() if began[name] != now[name])
    differences = [
        f"{len(names)} {what}, first {names[0]}"
        for what, names in (("missing", missing), ("new", added), ("with another label, patient or part", changed))
        if names
    ]
    raise DataError(
        f"{split.folder}: its images are not those this training began with "
        f"({'; '.join(differences) or 'some files have another size'}); restore them, or train anew"
    )


def read_options(out: Path) -> TrainOptions:
    """The options a run was started with.

    Raises:
        InputError: they are not there, or damaged.
    """
    return from_json(stored(out / OPTIONS), TrainOptions, str(out / OPTIONS))


def refuse_full_disk(out: Path, network: nn.Module) -> None:
    """Raise a MachineError where the checkpoints of this network will not fit."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    free = shutil.disk_usage(out).free
    if free < DISK_FACTOR * weights:
        raise MachineError(
            f"{out}: has {free >> 20} MiB free, this training needs {DISK_FACTOR * weights >> 20} MiB; "
            "free disk space or give another --out"
        )


def interrupted(out: Path, epochs: int) -> KeyboardInterrupt:
    """What a training stopped by the user ends with, after so many finished epochs."""
    if not epochs:
        return KeyboardInterrupt("stopped before the first epoch was finished; nothing was kept")
    return KeyboardInterrupt(
        f"stopped after epoch {epochs}; the best one so far is {out / BEST}, "
        f"go on with: medcompress train --resume {out}"
    )


def cannot_write(folder: Path, error: BaseException) -> MachineError:
    """The error for an output folder that cannot be written, or a full disk."""
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]
    return MachineError(
        f"{folder}: cannot be written ({reason}); free disk space or give another --out. "
        "Checkpoints already written there are whole"
    )
