"""What to make, and how to judge it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..benchmarks.tolerance import Registration, Tolerance
from .calibration import IMAGES
from .pruning.options import Pruning


class Options(msgspec.Struct, frozen=True):
    """Of one run.

    Attributes:
        data: folder of the images; None takes the one the checkpoint names.
        out: of the bundle; None puts it beside the checkpoint.
        targets: of :data:`medcompress.compress.recipes.TARGETS`.
        threads: of one inference, for the figures and as the bundle's default.
        tolerance: the margins of the gate; ``registration``: how old they are, where a file holds them.
        metadata: CSV with the columns of the tolerance's subgroups; None takes the data's own table of labels.
        replace: an older bundle at ``out``.
        seed: of the choice of calibration images.
        accept_leaks: go on where training images are among the held-out ones; the report says so.
        accept_inconclusive: let a form through that is not shown to be as good, where none is; the report says so.
        calibration: training images that INT8 ranges are taken from, at most.
        minutes: for pruning, recovering and finding the INT8 forms; a step that was begun is finished.
        fine_tune: train the network on with its quantization in place, where no cheaper step is enough.
        pruning: what to take from the network first; None leaves it as it is.
        auto: search for the fastest network that is still as good, with at most ``epochs`` of recovery each.
        review: leave the report with pictures of the images whose answer changed beside the bundle.
        modality, body_part: of the DICOM files the bundle takes; empty leaves what the checkpoint says.
        dicom: NAME=VALUE, how they are shown and taken: :mod:`medcompress.runtime.dicom.choices`.
    """

    checkpoint: Path
    data: Path | None = None
    out: Path | None = None
    int8: bool = False
    targets: tuple[str, ...] = ("cpu",)
    threads: int = 1
    tolerance: Tolerance = Tolerance()
    registration: Registration | None = None
    metadata: Path | None = None
    replace: bool = False
    seed: int = 0
    accept_leaks: bool = False
    accept_inconclusive: bool = False
    calibration: int = IMAGES
    minutes: float = 60.0
    fine_tune: bool = True
    pruning: Pruning | None = None
    auto: bool = False
    epochs: int | None = None
    review: bool = True
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    dicom: tuple[str, ...] = ()


def command_of(options: Options) -> str:
    """What was asked for, without the folders of this machine."""
    words = ["medcompress optimize", options.checkpoint.name, *(["--int8"] if options.int8 else [])]
    words += _pruning(options.pruning) if options.pruning else []
    words += ["--auto", *([f"--epochs {options.epochs}"] if options.epochs is not None else [])] if options.auto else []
    words += [f"--target {','.join(options.targets)}", f"--threads {options.threads}"]
    if options.registration is not None:
        words.append(f"--tolerance {options.registration.source}")
    words += [f"--calibration {options.calibration}"] if options.calibration != IMAGES else []
    words += [] if options.fine_tune else ["--no-fine-tune"]
    words += [f"--modality {','.join(options.modality)}"] if options.modality else []
    words += [f"--body-part {','.join(options.body_part)}"] if options.body_part else []
    words += [f"--dicom {setting}" for setting in options.dicom]
    words += [
        f"--{name.replace('_', '-')}" for name in ("accept_leaks", "accept_inconclusive") if getattr(options, name)
    ]
    return " ".join(words)


def _pruning(asked: Pruning) -> list[str]:
    usual = Pruning(asked.target)
    words = [f"--{asked.target.kind} {asked.target.value:g}"]
    words += [
        f"--{name} {getattr(asked, name)}"
        for name in ("importance", "rounds", "epochs")
        if getattr(asked, name) != getattr(usual, name)
    ]
    words += [f"--keep {name}" for name in asked.keep]
    return words + ([f"--shrink-to {asked.shrunk[0]}"] if asked.shrunk else [])
