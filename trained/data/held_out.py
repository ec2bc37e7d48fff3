"""The images a trained model is judged on: those held out of its own training, or others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ...benchmarks.data.samples import Sample, find_samples, held_out_folder
from ...runtime.errors import DataError, InputError
from .seen import own_split, seen_in_calibration, seen_in_training
from .splits import DataSource, Split, moved, nameless, split_of
from .table_search import find_table

Part: TypeAlias = Literal["train", "val", "test", "all"]
UNKNOWN_TO_BUNDLE = "a bundle does not know the images it was trained with: see to it that none of these is one"


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
    calibrated: Collection[str] = (),
) -> Images:
    """The images to judge a model on.

    Images that are not a part of the model's own split are compared with those it was trained on.

    Args:
        classes: of the model, in its order.
        own: where its training images lay; None for a bundle, which does not know.
        trained_on: the fingerprint of its split, or a text that holds it.
        data: where they lie now, or other images, told by their folders; other ones are judged all, or those of
            their test folder, where no part is asked for.
        source: other images, described in full; in place of ``data``.
        part: None is ``test``.
        calibrated: pixel hashes of the images a bundle was calibrated with.

    Raises:
        DataError: the images cannot be used, or their classes are not the model's.
        InputError: nothing says where they lie.
    """
    if source is None and data is None:
        return _own(classes, own, trained_on, part)
    found = _others(classes, own, trained_on, data, source, part)
    if found.split and found.split in trained_on:
        return found
    if own is None:
        told = (*seen_in_calibration(found.samples, calibrated), UNKNOWN_TO_BUNDLE)
    else:
        where = Path(source.folder) if source is not None else data
        told = seen_in_training(found.samples, own_split(own, trained_on, classes, where))
    return replace(found, warnings=(*told, *found.warnings))


def _own(classes: Sequence[str], own: DataSource | None, trained_on: str, part: Part | None) -> Images:
    if own is None:
        raise InputError("a bundle does not say where its images lie; give them with --data")
    if not Path(own.folder).exists():
        raise DataError(f"{own.folder}: the images it was trained with are not there; give them with --data")
    split = split_of(own, classes)
    found = _from_split(split, trained_on, part)
    if split.fingerprint == trained_on:
        return found
    changed = "the images are not quite those it was trained with: some judged here may have trained it"
    return replace(found, warnings=(changed, *found.warnings))


def _others(
    classes: Sequence[str],
    own: DataSource | None,
    trained_on: str,
    data: Path | None,
    source: DataSource | None,
    part: Part | None,
) -> Images:
    if source is not None:
        return _from_split(split_of(source, classes), trained_on, part)
    assert data is not None
    lying = moved(own, data.absolute()) if own else DataSource(str(data.absolute()))
    described = bool(lying.table) or data.suffix.lower() == ".npz"
    try:
        split = split_of(lying, classes)
    except (DataError, InputError):
        if described or part in ("train", "val"):
            raise
        split = None
    if split is not None and (part is not None or described or split.fingerprint in trained_on):
        found = _from_split(split, trained_on, part)
    else:
        found = _all(classes, data, lying.patient_pattern)
    beside = find_table(data) if lying.table and data.is_dir() else None
    if beside is not None and own is not None and lying.table == own.table and not _same(beside, lying.table):
        told = f"the labels are those of {lying.table}, as in training; --table {beside} takes the ones beside these"
        found = replace(found, warnings=(f"{told} images", *found.warnings))
    return found


def _same(first: Path, second: str | None) -> bool:
    return second is not None and first.resolve() == Path(second).resolve()


def _from_split(split: Split, trained_on: str, part: Part | None) -> Images:
    part = part or "test"
    samples = split.train + split.val + split.test if part == "all" else getattr(split, part)
    warnings = list(split.warnings)
    if part != "test" and split.fingerprint in trained_on:
        what = {
            "train": "the train images trained the model",
            "val": "the val images chose the model's epoch",
            "all": "most of the images trained the model or chose its epoch",
        }[part]
        warnings.insert(0, f"{what}: these figures flatter, and say nothing of other patients")
    return Images(samples, split.folder, split.fingerprint, tuple(warnings))


def _all(classes: Sequence[str], folder: Path, patient_pattern: str | None) -> Images:
    found = find_samples(held_out_folder(folder), classes, patient_pattern)
    unnamed = sum(sample.patient == str(sample.path) for sample in found)
    samples = [msgspec.structs.replace(sample, patient=_within(sample.patient, folder)) for sample in found]
    return Images(samples, folder, "", (nameless(unnamed),) if unnamed else ())


def _within(patient: str, folder: Path) -> str:
    """A file that names no patient is its own, named by its path: within the folder, wherever that lies."""
    path = Path(patient)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else patient
