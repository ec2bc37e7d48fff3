"""Which images train, which choose the best epoch, and which are kept for the final test: by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ...benchmarks.data.csv_files import read_patients
from ...benchmarks.data.samples import Sample
from ...runtime.errors import DataError
from ..tasks import task, task_for
from .folders import read_folders
from .folds import TEST_FOLDS, VAL_FOLDS, hold_out, take_few, take_fold
from .medmnist import unpack
from .parts import PARTS, LabelledParts, within_part
from .tables import read_table


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a split comes from: enough to find it again.

    Attributes:
        folder: absolute path of the data: a folder, or an .npz file of MedMNIST's form.
        patient_pattern: regular expression whose first group is the patient, searched in the file name (with a
            table, in the path within the folder); None tries the patterns of public sets.
        patients_csv: absolute path of a table with the columns ``file`` and ``patient``.
        seed: of the parts that are drawn.
        task: a name in the registry; empty recognises it by the names of the classes.
        table: absolute path of a CSV of labels; None takes them from the folders' names.
        image_column, label_column, patient_column: of the table; empty finds them by their usual names.
            ``label_column`` may name several findings, parted by commas.
        uncertain: what an uncertain finding (-1) counts as; empty refuses one.
        excluded: paths within the folder that are left out before anything is drawn.
        fold: (i, k): of the images that are not test, fold i of k (from 0) validates and the rest train.
        per_class: so many training images of each class, or at least so many with each finding; 0 takes all.
        draw: which images these are, by another seed.
    """

    folder: str
    patient_pattern: str | None = None
    patients_csv: str | None = None
    seed: int = 0
    task: str = ""
    table: str | None = None
    image_column: str = ""
    label_column: str = ""
    patient_column: str = ""
    uncertain: Literal["", "ignore", "zeros", "ones"] = ""
    excluded: tuple[str, ...] = ()
    fold: tuple[int, int] | None = None
    per_class: int = 0
    draw: int = 0


@dataclass(frozen=True)
class Split:
    """The labelled images of each part; no patient stands in two of them.

    Attributes:
        folder: of the images.
        classes: names, in the order of the labels.
        train, val, test: the images, sorted by path.
        unrecognised: how many of these files named no patient, and so count as one patient each.
        multilabel: the classes are findings, of which an image has any number.
        task: its name in the registry; empty for data of the user's own.
        notes: what the user should know of the data, a sentence each.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    unrecognised: int = 0
    multilabel: bool = False
    task: str = ""
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[Sample, ...]]:
        """``train``, ``val`` and ``test``."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes, and how many files name no patient."""
        return (*self.notes, *([nameless(self.unrecognised)] if self.unrecognised else []))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over each image's part, path within the folder, label or findings, patient and file size."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for part, samples in self.parts.items():
            for sample in samples:
                name = sample.path.relative_to(self.folder).as_posix()
                label = sample.target if self.multilabel else sample.label
                row = (part, name, label, sample.patient, sample.path.stat().st_size)
                digest.update(repr(row).encode())
        return digest.hexdigest()


def split_of(source: DataSource, classes: Sequence[str] = ()) -> Split:
    """Find the parts of a data set, and draw those that are not given, by patient and stratified by class.

    A folder holds ``train`` and perhaps ``val`` and ``test`` (also ``Training``, ``valid``, ``validation``,
    ``testing``), each with a folder per class; or the class folders themselves; or, with a table of labels, images
    anywhere. The draw depends on the seed and the files' names, not on where the folder lies.

    Patients of given parts are taken to be numbered separately, as in public sets, and a note counts the names that
    stand in several; where a table names patients, one that stands in two parts is refused.

    Args:
        classes: the order of the labels; empty takes that of ``source.task``, or sorts the names.

    Raises:
        DataError: no images, other classes, a leaking patient, too few patients to draw a part, or a part without a
            class.
        InputError: no such task.
    """
    source, classes, note = _unpacked(source, classes)
    known = task(source.task) if source.task else None
    found = (read_table if source.table else read_folders)(source, known, classes)
    if note:
        found = replace(found, unrecognised=0, notes=(note, *found.notes))
    if source.patients_csv:
        found = _with_patients(found, Path(source.folder), Path(source.patients_csv))
    if source.excluded:
        found = _without(found, Path(source.folder), set(source.excluded))
    if found.patients_given:
        _refuse_leaks(found.parts)
    elif found.repeated_names:
        found = replace(found, notes=(*found.notes, _repeated(found.repeated_names)))
    split = _drawn(found, source)
    _refuse_absent(split)
    return split


def moved(source: DataSource, folder: Path) -> DataSource:
    """The same source with its data in another place; a table that lies within the data moves along."""

    def followed(table: str | None) -> str | None:
        if table is None or not Path(table).is_relative_to(source.folder):
            return table
        return str(folder / Path(table).relative_to(source.folder))

    return msgspec.structs.replace(
        source, folder=str(folder), table=followed(source.table), patients_csv=followed(source.patients_csv)
    )


def nameless(count: int) -> str:
    """A warning of files that name no patient."""
    return (
        f"{count} file(s) name no patient, so each counts as a patient of its own; name patients with "
        "--patient-pattern or --patients-csv"
    )


def _repeated(count: int) -> str:
    names, are = ("patient names stand", "are") if count > 1 else ("patient name stands", "is")
    return (
        f"{count} {names} in more than one part and {are} taken for different people; if they are the same, say so "
        "with --patients-csv"
    )


def located(source: DataSource, data: Path | None, owner: Path) -> DataSource:
    """Where the images of a checkpoint lie now: in ``data``, or where they lay.

    Args:
        data: the user's word for it; None looks where they were.
        owner: the checkpoint, for the message.

    Raises:
        DataError: they are not there any more.
    """
    if data is not None:
        return moved(source, data.absolute())
    if not Path(source.folder).exists():
        raise DataError(
            f"{owner}: was trained on {source.folder}, which is not there any more; give the folder with --data"
        )
    return source


def _unpacked(source: DataSource, classes: Sequence[str]) -> tuple[DataSource, tuple[str, ...], str]:
    """Source and classes with an .npz file turned into its folder, and what is to be said of it."""
    path = Path(source.folder)
    if path.suffix.lower() != ".npz" or path.is_dir():
        return source, tuple(classes), ""
    found = unpack(path)
    table = source.table or (str(found.table) if found.table else None)
    source = msgspec.structs.replace(source, folder=str(found.folder), table=table, task=source.task or found.task)
    note = "" if source.patients_csv else "MedMNIST files name no patients: each image counts as a patient of its own"
    return source, tuple(classes) or found.classes, note


def _drawn(found: LabelledParts, source: DataSource) -> Split:
    if source.per_class < 0:
        raise DataError(f"{source.per_class} images a class is less than none; give a number above 0, or 0 for all")
    train, val, test = (found.parts.get(part) for part in PARTS)
    train = train or []
    kind = (found.classes, found.multilabel)
    try:
        if test is None:
            train, test = hold_out(train, *kind, TEST_FOLDS, source.seed, "test")
        if source.fold is not None:
            train, val = take_fold(train + (val or []), *kind, source.fold, source.seed)
        elif val is None:
            train, val = hold_out(train, *kind, VAL_FOLDS, source.seed, "val")
    except DataError as error:
        raise DataError(f"{source.folder}: {error}") from error
    if source.per_class:
        train = take_few(train, source.per_class, source.draw)
    known = task(source.task) if source.task else task_for(found.classes)
    used = [*train, *val, *test] if found.unrecognised else []
    return Split(
        Path(source.folder),
        found.classes,
        tuple(train),
        tuple(val),
        tuple(test),
        sum(_nobody(sample, Path(source.folder)) for sample in used),
        found.multilabel,
        known.name if known else "",
        found.notes,
    )


def _nobody(sample: Sample, folder: Path) -> bool:
    """Whether a file names no patient, and so stands for itself by its path."""
    path = sample.path.relative_to(folder).as_posix()
    return sample.patient in {path, *(within_part(part, path) for part in PARTS)}


def _with_patients(found: LabelledParts, folder: Path, table: Path) -> LabelledParts:
    patients = read_patients(table)
    samples = [sample for part in found.parts.values() for sample in part]
    missing = [name for sample in samples if (name := sample.path.relative_to(folder).as_posix()) not in patients]
    if missing:
        raise DataError(
            f"{table}: has no row for {missing[0]} ({len(missing)} of {len(samples)} images are missing); "
            "the column 'file' holds the path within the data folder"
        )
    parts = {
        part: [
            msgspec.structs.replace(sample, patient=patients[sample.path.relative_to(folder).as_posix()])
            for sample in given
        ]
        for part, given in found.parts.items()
    }
    return replace(found, parts=parts, unrecognised=0, patients_given=True)


def _without(found: LabelledParts, folder: Path, excluded: set[str]) -> LabelledParts:
    parts = {
        part: [sample for sample in given if sample.path.relative_to(folder).as_posix() not in excluded]
        for part, given in found.parts.items()
    }
    return replace(found, parts=parts)


def _refuse_leaks(given: dict[str, list[Sample]]) -> None:
    part_of: dict[str, str] = {}
    for part in PARTS:
        for sample in given.get(part, ()):
            if part_of.setdefault(sample.patient, part) != part:
                raise DataError(
                    f"patient {sample.patient} stands in both {part_of[sample.patient]} and {part} "
                    f"({sample.path.name}); move all images of a patient to one part"
                )


def _refuse_absent(split: Split) -> None:
    for part, samples in split.parts.items():
        targets = np.array([sample.target for sample in samples]).reshape(-1, len(split.classes))
        for name, column in zip(split.classes, targets.T, strict=True):
            lacks = "no image of class" if not (column == 1).any() else ""
            if split.multilabel:
                lacks = "no image with" if lacks else "" if (column == 0).any() else "no image without"
            if lacks:
                raise DataError(
                    f"{split.folder}: its {part} part has {lacks} {name} (of {len(samples)} images); "
                    "add some, leave the class out, or let the parts be drawn"
                )
