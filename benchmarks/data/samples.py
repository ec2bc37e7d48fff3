"""Labelled images on disk: what they are, whose they are, and whether two are the same picture."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ...runtime.errors import DataError, ImageError
from ...runtime.images import SUFFIXES, pixel_hash, read_image
from ..progress import track

# File-name patterns of public sets, each with the patient in its first group. A file that fits none counts as a
# patient of its own, and the caller is told how many did.
PATIENT_PATTERNS = (
    r"(person\d+)_(?:bacteria|virus)_\d+",
    r"((?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)?",
    r"(patient[-_]?\d+)(?:[-_].*)?",
)

# Folder names, in lower case, of the part of a data set that may be measured on, and of the one that may not.
_TEST_NAMES = {"test", "testing"}
_TRAIN_NAMES = {"train", "training"}


class Sample(msgspec.Struct, frozen=True):
    """One labelled image.

    Attributes:
        path: of the file.
        target: one number a class, 1 present, 0 absent, -1 unknown (counted nowhere).
        patient: whose image it is; images of one patient never stand on both sides of a split.
    """

    path: Path
    target: tuple[int, ...]
    patient: str

    @property
    def label(self) -> int:
        """Index of its class, where it has exactly one; of several findings the first, and -1 of none."""
        return self.target.index(1) if 1 in self.target else -1


def one_hot(label: int, classes: int) -> tuple[int, ...]:
    """The target of an image of one class."""
    return tuple(int(index == label) for index in range(classes))


def count_by_class(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """How many images have each class; one with several findings counts for each."""
    counts = Counter(c for sample in samples for c, value in enumerate(sample.target) if value == 1)
    return {name: counts[c] for c, name in enumerate(classes)}


def find_samples(folder: Path, classes: Sequence[str] = (), patient_pattern: str | None = None) -> list[Sample]:
    """The images of ``folder/CLASS/...``, sorted by path.

    Args:
        folder: holds one sub-folder a class.
        classes: the order of the labels; empty takes the sub-folders' names, sorted.
        patient_pattern: see :func:`patient_finder`; searched in the file name.

    Raises:
        DataError: no such folder, no images, an empty class, or classes other than ``classes``.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the one that holds a folder per class")
    found = class_folders(folder)
    classes = tuple(classes) or tuple(found)
    if set(found) != set(classes):
        raise DataError(
            f"{folder}: its class folders {list(found)} are not the model's classes {sorted(classes)}; "
            "rename the folders, or give the data the model was trained for"
        )
    patient_of = patient_finder(patient_pattern)
    samples = [
        Sample(path, one_hot(label, len(classes)), patient_of(path.name) or str(path))
        for label, name in enumerate(classes)
        for path in _images(folder / name)
    ]
    counts = Counter(sample.label for sample in samples)
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise DataError(f"{folder}: no images in {empty}; each class needs some ({', '.join(sorted(SUFFIXES))})")
    return samples


def held_out_folder(data: Path) -> Path:
    """The folder of class folders to measure on: the test part where there is one.

    Raises:
        DataError: there is a training part and no test part: what is measured on it would be worth nothing.
    """
    parts = {entry.name.lower(): entry for entry in data.iterdir() if entry.is_dir()} if data.is_dir() else {}
    test = next((parts[name] for name in sorted(_TEST_NAMES) if name in parts), None)
    if test is None and _TRAIN_NAMES & set(parts):
        raise DataError(
            f"{data}: has training images and no test folder; give the folder of images it was not trained on"
        )
    return test or data


def class_folders(folder: Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones do not count.

    Raises:
        DataError: fewer than two.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] not in "._")
    if len(names) < 2:
        raise DataError(f"{folder}: has {len(names)} class folder(s) {names}; a classifier needs at least two")
    return names


def patient_finder(pattern: str | None) -> Callable[[str], str]:
    """A function that finds the patient in a file name, or in a path with ``/``; an empty one where it names none.

    Args:
        pattern: regular expression whose first group is the patient, searched in all of it but the suffix; None tries
            :data:`PATIENT_PATTERNS` on the file's own name.

    Raises:
        DataError: not a regular expression, or without a group.
    """
    try:
        given = re.compile(pattern) if pattern else None
    except re.error as error:
        raise DataError(f"patient pattern {pattern!r} is not a regular expression ({error})") from error
    if given and not given.groups:
        raise DataError(f"patient pattern {pattern!r} has no group; put the patient in parentheses")
    usual = [re.compile(known) for known in PATIENT_PATTERNS]

    def find(path: str) -> str:
        if given:
            match = given.search(path.rpartition(".")[0])
            return (match.group(1) or "") if match else ""
        stem = path.rpartition("/")[2].rpartition(".")[0]
        return next((match.group(1) for known in usual if (match := known.fullmatch(stem)) and match.group(1)), "")

    return find


def pixel_hashes(samples: Iterable[Sample]) -> list[str]:
    """SHA-256 of each sample's decoded pixels, in order.

    Raises:
        DataError: an image that cannot be read; the message names the first and counts the rest.
    """
    samples = list(samples)

    def one(sample: Sample) -> str | ImageError:
        try:
            return pixel_hash(read_image(sample.path))
        except ImageError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = list(track(pool.map(one, samples), "Comparing images", len(samples)))
    refuse_unreadable([entry for entry in hashes if isinstance(entry, ImageError)], len(samples))
    return [entry for entry in hashes if isinstance(entry, str)]


def refuse_unreadable(errors: Sequence[ImageError], total: int) -> None:
    """Raise one DataError for all unreadable images, if there are any."""
    if errors:
        more = f" (and {len(errors) - 1} more of {total} images)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}; mend or remove the file")


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
