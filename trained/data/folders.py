"""A folder of parts or of classes: which image has which label, and whose it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ...benchmarks.data.samples import Sample, class_folders, find_samples
from ...runtime.errors import DataError
from ..tasks import Task
from .labels import meaning, refuse_spellings
from .parts import PARTS, LabelledParts, within_part
from .table_search import unused_tables

if TYPE_CHECKING:
    from .splits import DataSource


def read_folders(source: DataSource, task: Task | None = None, classes: Sequence[str] = ()) -> LabelledParts:
    """The images of ``source.folder``, labelled by the names of their folders, sorted by path.

    Args:
        task: names classes and patients.
        classes: the order of the classes; empty takes the task's, or sorts them.

    Raises:
        DataError: no such folder, no images, other classes, two folders of one part, none to train, or class folders
            whose names differ in case and spaces alone.
    """
    folder = Path(source.folder)
    if source.uncertain:
        raise DataError(
            f"{folder}: --uncertain says what an uncertain finding of a table counts as, and these labels are folders' "
            "names; leave it out, or give the table with --table"
        )
    parts = _part_folders(folder)
    own = not classes and task is None
    classes = tuple(classes) or (task.classes if task else tuple(class_folders(parts["train"])))
    pattern = source.patient_pattern or (task.patient_pattern if task else None)
    given: dict[str, list[Sample]] = {}
    unrecognised = 0
    for part, part_folder in parts.items():
        samples = find_samples(part_folder, _names_on_disk(part_folder, classes, task), pattern)
        unrecognised += sum(sample.patient == str(sample.path) for sample in samples)
        given[part] = [_located(sample, folder, part) for sample in samples]
    if own:
        counts = Counter(classes[sample.label] for sample in given["train"])
        refuse_spellings(str(folder), counts, "class folders")
    return LabelledParts(classes, given, unrecognised=unrecognised, notes=unused_tables(source))


def _names_on_disk(folder: Path, classes: tuple[str, ...], task: Task | None) -> tuple[str, ...]:
    """The class folders in the order of the classes they mean; ``classes`` where they do not fit together."""
    if not folder.is_dir():
        return classes
    by_class = {meaning(name, classes, task): name for name in class_folders(folder)}
    fits = len(by_class) == len(class_folders(folder)) and set(by_class) == set(classes)
    return tuple(by_class[name] for name in classes) if fits else classes


def _part_folders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the one that holds the images")
    found: dict[str, Path] = {}
    for entry in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        for part, names in PARTS.items():
            if entry.name.lower() not in names:
                continue
            if part in found:
                raise DataError(f"{folder}: {found[part].name} and {entry.name} are both its {part} part; keep one")
            found[part] = entry
    if not found:
        return {"train": folder}
    if "train" not in found:
        raise DataError(
            f"{folder}: has {sorted(path.name for path in found.values())} but no train folder; add one, or give a "
            "folder of classes alone, from which all parts are drawn"
        )
    return found


def _located(sample: Sample, folder: Path, part: str) -> Sample:
    """The patient named within its part, and without the place the data lie in."""
    named = sample.patient != str(sample.path)
    patient = sample.patient if named else sample.path.relative_to(folder).as_posix()
    return msgspec.structs.replace(sample, patient=within_part(part, patient))
