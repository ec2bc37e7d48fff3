"""A data set set down as one table of parts, and, where asked, its images as train, val and test folders."""

from __future__ import annotations

import csv
import io
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from PIL import Image

from ...benchmarks.data.samples import Sample, count_by_class
from ...benchmarks.progress import track
from ...runtime.errors import DataError, MachineError
from ...runtime.images import FORMATS
from ...runtime.records import write_whole
from .splits import Split

TABLE = "split.csv"
# How many images are opened, for their header alone, to say what they are.
LOOKED_AT = 200


class Part(msgspec.Struct, frozen=True):
    """One part of a split: ``classes`` counts the images of each class, or with each finding."""

    images: int
    patients: int
    classes: dict[str, int]


def count_parts(split: Split) -> dict[str, Part]:
    """What stands in each part."""
    return {
        part: Part(len(samples), len({sample.patient for sample in samples}), count_by_class(samples, split.classes))
        for part, samples in split.parts.items()
    }


def image_sizes(samples: Sequence[Sample]) -> tuple[Counter[str], Counter[str]]:
    """(``WIDTHxHEIGHT``, colour mode of Pillow) of some images evenly over all; what cannot be read is passed over."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    for sample in samples[:: max(1, len(samples) // LOOKED_AT)]:
        try:
            with Image.open(sample.path, formats=FORMATS) as image:
                sizes[f"{image.width}x{image.height}"] += 1
                modes[image.mode] += 1
        except Exception:  # a damaged file makes Pillow raise whatever its parser meets first; training lists them
            continue
    return sizes, modes


def organize(split: Split, out: Path, *, copy: bool = False) -> Path:
    """Write ``out/split.csv``: file, label (or a column for each finding), patient and part of every image.

    With the folder of the images it is a table :func:`medcompress.trained.data.splits.split_of` takes, and gives
    the same parts. ``?`` stands for an unknown finding.

    Args:
        out: a new or empty folder; appears whole or not at all.
        copy: also copy the images, to ``out/train|val|test/CLASS/`` (of several findings ``out/train|val|test/``);
            the table then names the copies, and goes with ``out`` as the folder of the images.

    Raises:
        DataError: ``out`` is not empty or lies within the data, or a name cannot be written.
        MachineError: no room, or ``out`` cannot be written.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already and not empty; give a new folder")
    if out.resolve().is_relative_to(split.folder.resolve()):
        raise DataError(f"{out}: lies within the data, and would be taken for a part of them; give another folder")
    names = _copies(split) if copy else {}
    table = split_table(split, names)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            _refuse_full_disk(split, out.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        for source, name in track(names.items(), "Copying images", len(names)):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        write_whole(temporary / TABLE, table)
        temporary.chmod(0o755)
        temporary.replace(out)
    except OSError as error:
        raise MachineError(
            f"{error.filename or out}: cannot be written or copied ({error.strerror or error}); mend it, or give "
            "another folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return out / TABLE


def split_table(split: Split, names: Mapping[Path, str] | None = None) -> bytes:
    """``split.csv``: see :func:`organize`; ``names`` stand in the place of the paths within the folder."""
    names = names or {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *(split.classes if split.multilabel else ["label"]), "patient", "split"])
    for part, samples in split.parts.items():
        for sample in samples:
            file = names.get(sample.path) or sample.path.relative_to(split.folder).as_posix()
            label = ["?" if value < 0 else value for value in sample.target]
            writer.writerow(
                [file, *(label if split.multilabel else [split.classes[sample.label]]), sample.patient, part]
            )
    try:
        return text.getvalue().encode()
    except UnicodeEncodeError as error:
        name = text.getvalue()[: error.start].rpartition("\n")[2]
        raise DataError(f"{split.folder}: a file name after {name!r} is not UTF-8; rename the file") from error


def _copies(split: Split) -> dict[Path, str]:
    """Where each image goes within the new folder: no two to one place, on any file system."""
    folders = [re.sub(r"[^\w .,()+-]", "_", name).strip(" .") or "_" for name in split.classes]
    if len({name.lower() for name in folders}) < len(folders):
        raise DataError(f"{split.folder}: some class names are the same as folder names ({folders}); rename a class")
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for part, samples in split.parts.items():
        for sample in samples:
            folder = part if split.multilabel else f"{part}/{folders[sample.label]}"
            stem, suffix = sample.path.stem, sample.path.suffix
            name, number = f"{folder}/{stem}{suffix}", 1
            # The stem too: a table may name an image without its suffix.
            while name.lower().rpartition(".")[0] in taken:
                number += 1
                name = f"{folder}/{stem}-{number}{suffix}"
            taken.add(name.lower().rpartition(".")[0])
            names[sample.path] = name
    return names


def _refuse_full_disk(split: Split, folder: Path) -> None:
    needed = sum(sample.path.stat().st_size for samples in split.parts.values() for sample in samples)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(f"{folder}: has {free >> 20} MiB free, the copies need {needed >> 20}; free some disk space")
