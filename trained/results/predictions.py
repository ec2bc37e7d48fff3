"""``predictions.csv``: what a model answered for each labelled image, so that models can be compared image by image.

It names files and patients: it is patient data, and stays on the machine like the images themselves.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...benchmarks.data.samples import Sample
from ...benchmarks.statistics.judged import Judged, judged
from ...runtime.decision import Decision
from ...runtime.errors import DataError, InputError

FILE = "predictions.csv"
_FIXED = ("part", "file", "patient")


@dataclass(frozen=True)
class Predictions:
    """One part's images with what a model said of each.

    Attributes:
        classes: names, in the order of the columns.
        files: paths within the data folder, with ``/``.
        patients: whose image each is.
        target: (N, classes) int8, see :class:`medcompress.benchmarks.data.samples.Sample`.
        probabilities: (N, classes).
    """

    classes: tuple[str, ...]
    files: tuple[str, ...]
    patients: tuple[str, ...]
    target: npt.NDArray[np.int8]
    probabilities: npt.NDArray[np.float64]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over each image's file and truth, in any order: the same for all models judged on the same images."""
        rows = [
            (file, sorted((name, int(value)) for name, value in zip(self.classes, row, strict=True) if value))
            for file, row in zip(self.files, self.target, strict=True)
        ]
        return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()

    def judged(self, decision: Decision) -> Judged:
        """In the order of the files' names and of ``decision``'s classes.

        Raises:
            DataError: see :func:`medcompress.benchmarks.statistics.judged.judged`.
        """
        rows = np.argsort(np.asarray(self.files), kind="stable")
        columns = [self.classes.index(name) for name in decision.classes]
        patients = [self.patients[row] for row in rows.tolist()]
        return judged(decision, self.target[rows][:, columns], self.probabilities[rows][:, columns], patients)


def predictions_of(
    samples: Sequence[Sample], folder: Path, classes: Sequence[str], probabilities: npt.NDArray[np.floating]
) -> Predictions:
    """Predictions for ``samples``, in their order; files are named within ``folder`` where they lie in it.

    Raises:
        DataError: not one row of probabilities for each.
    """
    if np.shape(probabilities) != (len(samples), len(classes)):
        raise DataError(
            f"outputs of shape {np.shape(probabilities)} do not line up with {len(samples)} images of {len(classes)} "
            "classes; each image needs one row"
        )
    files = [
        (sample.path.relative_to(folder) if sample.path.is_relative_to(folder) else sample.path).as_posix()
        for sample in samples
    ]
    return Predictions(
        tuple(classes),
        tuple(files),
        tuple(sample.patient for sample in samples),
        np.array([sample.target for sample in samples], np.int8).reshape(-1, len(classes)),
        np.asarray(probabilities, np.float64).reshape(-1, len(classes)),
    )


def to_csv(parts: Mapping[str, Predictions]) -> bytes:
    """Columns ``part``, ``file``, ``patient``, then ``target.CLASS`` and ``probability.CLASS`` of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for place, (part, found) in enumerate(parts.items()):
        if not place:
            kinds = ("target", "probability")
            writer.writerow([*_FIXED, *(f"{kind}.{name}" for kind in kinds for name in found.classes)])
        rows = zip(found.files, found.patients, found.target.tolist(), found.probabilities.tolist(), strict=True)
        for file, patient, target, probabilities in rows:
            writer.writerow([part, file, patient, *target, *map(repr, probabilities)])
    return text.getvalue().encode()


def read_predictions(path: Path) -> dict[str, Predictions]:
    """The parts of a stored table.

    Raises:
        InputError: missing, damaged, or not such a table.
    """
    again = "evaluate the model again with: medcompress evaluate MODEL --out DIR"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV table ({error}); {again}") from error
    classes = tuple(name.removeprefix("target.") for name in header if name.startswith("target."))
    expected = [*_FIXED, *(f"{kind}.{name}" for kind in ("target", "probability") for name in classes)]
    if not classes or header != expected:
        raise InputError(f"{path}: is no table of predictions (its first line is {','.join(header)!r}); {again}")
    by_part: dict[str, list[list[str]]] = {}
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InputError(f"{path}: line {line} has {len(row)} of {len(header)} columns; {again}")
        by_part.setdefault(row[0], []).append(row)
    found = {}
    for part, lines in by_part.items():
        try:
            target = np.array([[int(value) for value in row[3 : 3 + len(classes)]] for row in lines], np.int8)
            probabilities = np.array([[float(value) for value in row[3 + len(classes) :]] for row in lines])
        except (ValueError, OverflowError) as error:
            raise InputError(f"{path}: holds something that is no number ({error}); {again}") from error
        files, patients = (tuple(row[column] for row in lines) for column in (1, 2))
        found[part] = Predictions(classes, files, patients, target, probabilities)
    return found
