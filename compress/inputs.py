"""What a run is given, checked before its first stage: the images, their subgroups, the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..benchmarks.data.subgroups import Grouping, group_samples
from ..benchmarks.progress import stage as say
from ..runtime.errors import DataError, InputError, MachineError
from ..runtime.hardware import this_cpu
from ..runtime.requirements import devices_of, lacking
from ..trained.checkpoint import Checkpoint
from ..trained.data.splits import Split, located, split_of
from .options import Options
from .recipes import Recipe


def find_data(checkpoint: Checkpoint, options: Options) -> Split:
    """The images the checkpoint was trained with, or those of ``--data``.

    Raises:
        DataError: they are gone, or are others than then.
    """
    source = located(checkpoint.data, options.data, options.checkpoint)
    split = split_of(source, checkpoint.spec.decision.classes)
    if split.fingerprint != checkpoint.split:
        if options.data is None:
            raise DataError(
                f"{source.folder}: the images changed since {options.checkpoint.name} was trained on them, and the "
                "test images may be among those it saw; restore them, or name the folder with --data to accept them"
            )
        say("note: these are not the images the checkpoint was trained with; make sure it saw none of the test images")
    return split


def find_groupings(checkpoint: Checkpoint, split: Split, options: Options) -> tuple[Grouping, ...]:
    """The subgroups of the test images.

    Raises:
        DataError: the table has not what the tolerance asks for.
    """
    subgroups = options.tolerance.subgroups
    if options.metadata:
        return group_samples(split.test, split.folder, subgroups, options.metadata)
    source = located(checkpoint.data, options.data, options.checkpoint)
    table = Path(source.table) if source.table else None
    return group_samples(split.test, split.folder, subgroups, table, source.image_column)


def check_shrunk(checkpoint: Checkpoint, options: Options) -> None:
    """Raise an InputError where the network would look at more than the image, or skip pixels of it."""
    shrunk = options.pruning.shrunk if options.pruning else None
    size = checkpoint.spec.preprocessing.size
    if shrunk and any(not side / 2 <= small <= side for small, side in zip(shrunk, size, strict=True)):
        raise InputError(
            f"--shrink-to {shrunk[0]}: images are {size[0]} x {size[1]}; give a side between half of that and all of it"
        )


def check_machine(recipes: Sequence[Recipe]) -> None:
    """What cannot be measured here cannot be proven here.

    Raises:
        MachineError: this machine lacks the only device that was asked for, or none of the INT8 forms runs on its CPU.
    """
    asked = [recipe for recipe in recipes if recipe.targets]
    if asked and all(devices_of(recipe.requires) and lacking(recipe.requires, this_cpu()) for recipe in asked):
        why = "; ".join(dict.fromkeys(lacking(recipe.requires, this_cpu()) for recipe in asked))
        raise MachineError(
            f"{why}: the forms for that target cannot be proven on this machine; run it where there is one, or add cpu "
            "to --target"
        )
    quantized = [recipe for recipe in recipes if recipe.quantized and not devices_of(recipe.requires)]
    elsewhere = any(recipe.quantized and not lacking(recipe.requires, this_cpu()) for recipe in recipes)
    if quantized and not elsewhere:
        lacks = ", ".join(this_cpu().lacks(quantized[0].requires))
        raise MachineError(
            f"this CPU has no {lacks}, so the forms for that target cannot be proven here; run it on a machine of that "
            "kind, or give --target cpu-avx2"
        )
