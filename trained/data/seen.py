"""Whether a model has seen the images it is judged on: told by their pixels, whatever the files are called."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ...benchmarks.data.samples import Sample, pixel_hashes
from ...runtime.errors import DataError, InputError
from .splits import DataSource, Split, moved, split_of

NOT_FOUND = "the images it was trained on are not to be found, so none could be compared"


def own_split(own: DataSource, trained_on: str, classes: Sequence[str], data: Path | None = None) -> Split | None:
    """The split of that fingerprint: where it lay, or in ``data``; None where it is not there as it was."""
    sources = [own] if data is None else [own, moved(own, data.absolute())]
    for source in sources:
        if not Path(source.folder).exists():
            continue
        try:
            split = split_of(source, classes)
        except (InputError, OSError):
            continue
        if split.fingerprint == trained_on:
            return split
    return None


def seen_in_training(samples: Sequence[Sample], split: Split | None) -> tuple[str, ...]:
    """A warning of judged images that trained the model or chose its epoch, or that nobody can tell.

    Args:
        samples: judged.
        split: the model's own; None where it is not to be found.

    Raises:
        DataError: a judged image that cannot be read.
    """
    if split is None:
        return (NOT_FOUND,)
    judged = pixel_hashes(samples)
    try:
        own = set(pixel_hashes((*split.train, *split.val)))
    except DataError:
        return (NOT_FOUND,)
    return _told(judged, own, "trained this model or chose its epoch: the figures flatter")


def seen_in_calibration(samples: Sequence[Sample], hashes: Collection[str]) -> tuple[str, ...]:
    """The same of a bundle, which knows of its training images only those it was calibrated with."""
    what = "calibrated this bundle, so they are training images: the figures flatter"
    return _told(pixel_hashes(samples), set(hashes), what) if hashes else ()


def _told(judged: Sequence[str], own: set[str], what: str) -> tuple[str, ...]:
    count = sum(digest in own for digest in judged)
    return (f"{count} of the {len(judged)} images judged {what}",) if count else ()
