"""Which images train, which choose the best epoch, and which are kept for the final test: by patient."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.samples import Sample, class_folders, find_samples
from ..runtime.errors import DataError

# Folder names of the parts, in lower case.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# One fold of so many is held out where a part is not given: 20 % for the test, an eighth of the rest for validation.
TEST_FOLDS = 5
VAL_FOLDS = 8


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a split comes from: enough to find it again.

    Attributes:
        folder: absolute path of the data.
        patient_pattern: regular expression whose first group is the patient, searched in the file name; None
            tries the patterns of public sets.
        patients_csv: absolute path of a table with the columns ``file`` and ``patient``.
        seed: of the parts that are drawn.
    """

    folder: str
    patient_pattern: str | None = None
    patients_csv: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """The labelled images of each part; no patient stands in two of them.

    Attributes:
        folder: of the data.
        classes: names, in the order of the labels.
        train, val, test: the images, sorted by path.
        unrecognised: how many files named no patient, and so count as one patient each.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    unrecognised: int = 0

    @property
    def fingerprint(self) -> str:
        """SHA-256 over each image's part, path within the folder, label, patient and file size."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for part in PARTS:
            samples: tuple[Sample, ...] = getattr(self, part)
            for sample in samples:
                name = sample.path.relative_to(self.folder).as_posix()
                row = (part, name, sample.label, sample.patient, sample.path.stat().st_size)
                digest.update(repr(row).encode())
        return digest.hexdigest()


def split_of(source: DataSource, classes: Sequence[str] = ()) -> Split:
    """The split a checkpoint was trained on, found again; see :func:`find_split`."""
    csv_path = Path(source.patients_csv) if source.patients_csv else None
    return find_split(Path(source.folder), classes, source.patient_pattern, csv_path, source.seed)


def find_split(
    folder: Path,
    classes: Sequence[str] = (),
    patient_pattern: str | None = None,
    patients_csv: Path | None = None,
    seed: int = 0,
) -> Split:
    """Find the parts of a data set, and draw those that are not given, by patient and stratified by class.

    ``folder`` holds ``train`` and perhaps ``val`` and ``test`` (also ``Training``, ``valid``, ``validation``,
    ``testing``), each with a folder per class; or the class folders themselves. The draw depends on the seed and
    the files' names, not on where the folder lies.

    Patients of given parts are taken to be numbered separately, as in public sets, unless ``patients_csv`` names
    them: then one that stands in two parts is refused.

    Args:
        folder: of the data.
        classes: the order of the labels; empty sorts the class folders' names.
        patient_pattern: regular expression whose first group is the patient.
        patients_csv: a table with the columns ``file`` (path within ``folder``) and ``patient``.
        seed: of the draw.

    Raises:
        DataError: no images, other classes, a leaking patient, or too few patients to draw a part.
    """
    parts = _part_folders(folder)
    classes = tuple(classes) or tuple(class_folders(parts["train"]))
    table = _read_patients(patients_csv) if patients_csv else None
    given: dict[str, list[Sample]] = {}
    unrecognised = 0
    for part, part_folder in parts.items():
        samples = find_samples(part_folder, classes, patient_pattern)
        if table is not None:
            given[part] = _patients_from_table(samples, folder, table, patients_csv)
            continue
        unrecognised += sum(sample.patient == str(sample.path) for sample in samples)
        given[part] = [_located(sample, folder, part) for sample in samples]
    if table is not None:
        _refuse_leaks(given)

    train = given["train"]
    test, val = given.get("test"), given.get("val")
    if test is None:
        train, test = _hold_out(train, classes, TEST_FOLDS, seed, folder, "test")
    if val is None:
        train, val = _hold_out(train, classes, VAL_FOLDS, seed, folder, "val")
    return Split(folder, classes, tuple(train), tuple(val), tuple(test), unrecognised)


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
        raise DataError(f"{folder}: has {sorted(path.name for path in found.values())} but no train folder; add one")
    return found


def _located(sample: Sample, folder: Path, part: str) -> Sample:
    """The patient named within its part, and without the place the data lie in."""
    named = sample.patient != str(sample.path)
    patient = sample.patient if named else sample.path.relative_to(folder).as_posix()
    return msgspec.structs.replace(sample, patient=f"{part}:{patient}")


def _read_patients(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV table ({error}); check the path and save as UTF-8") from error
    if not rows or not {"file", "patient"} <= set(rows[0]):
        raise DataError(f"{path}: needs the columns 'file' and 'patient' and at least one row")
    table: dict[str, str] = {}
    for row in rows:
        name, patient = (row["file"] or "").strip().replace("\\", "/"), (row["patient"] or "").strip()
        if not name or not patient:
            raise DataError(f"{path}: has a row without file or patient ({row}); fill it in or remove it")
        if table.setdefault(name, patient) != patient:
            raise DataError(f"{path}: {name} is given to two patients; keep one row")
    return table


def _patients_from_table(samples: list[Sample], folder: Path, table: dict[str, str], name: Path | None) -> list[Sample]:
    relative = [sample.path.relative_to(folder).as_posix() for sample in samples]
    missing = [path for path in relative if path not in table]
    if missing:
        raise DataError(
            f"{name}: has no row for {missing[0]} ({len(missing)} of {len(samples)} images are missing); "
            "the column 'file' holds the path within the data folder"
        )
    return [
        msgspec.structs.replace(sample, patient=table[path]) for sample, path in zip(samples, relative, strict=True)
    ]


def _refuse_leaks(given: dict[str, list[Sample]]) -> None:
    part_of: dict[str, str] = {}
    for part in PARTS:
        for sample in given.get(part, ()):
            if part_of.setdefault(sample.patient, part) != part:
                raise DataError(
                    f"patient {sample.patient} stands in both {part_of[sample.patient]} and {part} "
                    f"({sample.path.name}); move all images of a patient to one part"
                )


def _hold_out(
    samples: list[Sample], classes: Sequence[str], folds: int, seed: int, folder: Path, part: str
) -> tuple[list[Sample], list[Sample]]:
    """(kept, held out): one of ``folds`` parts, by patient, with every class on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.array([sample.label for sample in samples])
    patients = np.array([sample.patient for sample in samples])
    for label, name in enumerate(classes):
        count = len(set(patients[labels == label]))
        if count < 2:
            raise DataError(
                f"{folder}: class {name} has images of {count} patient(s), and holding out a {part} part needs "
                f"at least 2; add patients, or give a {part} folder"
            )
    # Of very few patients a larger share is held out: one patient is the least.
    folds = min(folds, len(set(patients)), int(np.bincount(labels).max()))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Of a rare class: a fold without it is passed over below.
        drawn = list(splitter.split(np.zeros(len(samples)), labels, patients))
    for kept, held in drawn:
        if len(set(labels[kept])) == len(set(labels[held])) == len(classes):
            return [samples[i] for i in kept], [samples[i] for i in held]
    raise DataError(
        f"{folder}: has too few patients to hold out a {part} part with every class in it; "
        f"add patients, or give a {part} folder"
    )
