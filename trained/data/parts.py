"""Labelled images by part, as a folder or a table gives them, before anything is drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...benchmarks.data.samples import Sample

# Names of the parts, in lower case.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class LabelledParts:
    """Labelled images, by part.

    Attributes:
        classes: names, in the order of the targets.
        parts: the given ones; without any, all images are ``train``.
        multilabel: an image has any number of the classes.
        unrecognised: files that named no patient.
        patients_given: patients are named by a table, so one that stands in two parts is a leak.
        notes: what the user should know, a sentence each.
    """

    classes: tuple[str, ...]
    parts: dict[str, list[Sample]]
    multilabel: bool = False
    unrecognised: int = 0
    patients_given: bool = False
    notes: tuple[str, ...] = ()

    @property
    def repeated_names(self) -> int:
        """How many names of patients stand in more than one part; a file that names nobody has its own path."""
        names: Counter[str] = Counter()
        for part, samples in self.parts.items():
            names.update({sample.patient.removeprefix(f"{part}:") for sample in samples})
        return sum(count > 1 for count in names.values())


def within_part(part: str, patient: str) -> str:
    """The name of a patient of a given part: parts of public sets are numbered separately."""
    return f"{part}:{patient}"
