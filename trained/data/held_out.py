"""The images a trained model is judged on: those held out of its own training, or others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ...benchmarks.bundle_benchmark import held_out_folder
from ...benchmarks.samples import Sample, find_samples
from ...runtime.errors import DataError, InputError
from .splits import DataSource, Split, moved, nameless, split_of

Part: TypeAlias = Literal["train", "val", "test", "all"]


@dataclass(frozen=True)
class Images:
    """What is judged.

    Attributes:
        folder: the samples are named within.
        split: fingerprint of the parts they are from; empty where they have none.
        warnings: what the figures must be read with, a sentence each.
    """

    samples: Sequence[Sample]
    folder: Path
    split: str = ""
    warnings: tuple[str, ...] = ()


def images_to_judge(
    classes: Sequence[str],
    own: DataSource | None,
    trained_on: str,
    data: Path | None = None,
    source: DataSource | None = None,
    part: Part | None = None,
) -> Images:
    """The images to judge a model on.

    Args:
        classes: of the model, in its order.
        own: where its training images lay; None for a bundle, which does not know.
        trained_on: the fingerprint of its split, or a text that holds it.
        data: where they lie now, or other images, told by their folders; other ones are judged all, or those of
            their test folder, where no part is asked for.
        source: other images, described in full; in place of ``data``.
        part: None is ``test``.

    Raises:
        DataError: the images cannot be used, or their classes are not the model's.
        InputError: nothing says where they lie.
    """
    if source is not None:
        return _from_split(split_of(source, classes), trained_on, part)
    if data is None:
        if own is None:
            raise InputError("a bundle does not say where its images lie; give them with --data")
        if not Path(own.folder).exists():
            raise DataError(f"{own.folder}: the images it was trained with are not there; give them with --data")
        split = split_of(own, classes)
        found = _from_split(split, trained_on, part)
        if split.fingerprint == trained_on:
            return found
        changed = "the images are not quite those it was trained with: some judged here may have trained it"
        return Images(found.samples, found.folder, found.split, (changed, *found.warnings))
    lying = moved(own, data.absolute()) if own else DataSource(str(data.absolute()))
    described = bool(lying.table) or data.suffix.lower() == ".npz"
    try:
        split = split_of(lying, classes)
    except (DataError, InputError):
        if described or part in ("train", "val"):
            raise
        split = None
    if split is not None and (part is not None or described or split.fingerprint in trained_on):
        return _from_split(split, trained_on, part)
    return _all(classes, data, lying.patient_pattern, own is None)


def _from_split(split: Split, trained_on: str, part: Part | None) -> Images:
    part = part or "test"
    samples = split.train + split.val + split.test if part == "all" else getattr(split, part)
    warnings = list(split.warnings)
    if part != "test" and split.fingerprint in trained_on:
        what = "chose the model's epoch" if part == "val" else "trained the model"
        warnings.insert(0, f"the {part} images {what}: these figures flatter, and say nothing of other patients")
    return Images(samples, split.folder, split.fingerprint, tuple(warnings))


def _all(classes: Sequence[str], folder: Path, patient_pattern: str | None, of_bundle: bool) -> Images:
    found = find_samples(held_out_folder(folder), classes, patient_pattern)
    warnings = [
        "a bundle does not know the images it was trained with: see to it that none of these is one"
    ] * of_bundle
    unnamed = sum(sample.patient == str(sample.path) for sample in found)
    if unnamed:
        warnings.append(nameless(unnamed))
    samples = [msgspec.structs.replace(sample, patient=_within(sample.patient, folder)) for sample in found]
    return Images(samples, folder, "", tuple(warnings))


def _within(patient: str, folder: Path) -> str:
    """A file that names no patient is its own, named by its path: within the folder, wherever that lies."""
    path = Path(patient)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else patient
