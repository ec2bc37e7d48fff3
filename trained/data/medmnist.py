"""MedMNIST's .npz files as folders of images; and their download, for a machine with internet.

Yang et al. 2023, MedMNIST v2, https://doi.org/10.1038/s41597-022-01721-8, https://medmnist.com.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import importlib.util
import io
import math
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...benchmarks.progress import track
from ...runtime.errors import DataError, InputError, MachineError, missing_package
from ..tasks import MEDMNIST, Task
from .parts import PARTS

TABLE = "labels.csv"
_KINDS = ("images", "labels")
# The largest set, PathMNIST at 224 pixels, is 16 GB.
MAX_BYTES = 32 * 1024**3
# Pictures never shrink so much; a file whose content is declared to be larger yet was made to fill a disk.
MAX_RATIO, SMALL = 200, 64 * 1024**2
MAX_SIDE, MAX_CLASSES = 1024, 1000
# What a file takes on the disk at least.
_BLOCK = 4096


@dataclass(frozen=True)
class Unpacked:
    """A set as images on disk.

    Attributes:
        folder: ``train|val|test/CLASS/NNNNN.png``; of several findings ``train|val|test/NNNNN.png``.
        classes: names in the order of the file's labels; ``0``, ``1``, ... where the set is not known.
        table: of the findings, where an image may have several.
        task: its name in the registry, where the file bears the name of a set.
    """

    folder: Path
    classes: tuple[str, ...]
    table: Path | None
    task: str = ""


@dataclass(frozen=True)
class _Array:
    """An array within the .npz: its header was read, its data were not."""

    member: zipfile.ZipInfo
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def is_name(name: str) -> bool:
    """Whether it names a two-dimensional MedMNIST set, such as ``pneumoniamnist`` or ``pneumoniamnist_64``."""
    match = re.fullmatch(r"([a-z]+)(?:_(?:28|64|128|224))?", name.lower())
    return match is not None and match.group(1) in MEDMNIST


def download(name: str) -> Path:
    """The .npz of a set, from where the ``medmnist`` package keeps it, or from the internet through that package.

    Raises:
        InputError: no such set.
        MachineError: the package is not installed, or the download failed.
    """
    if not is_name(name):
        raise InputError(f"{name}: is no MedMNIST set of pictures; they are {', '.join(MEDMNIST)}")
    if importlib.util.find_spec("medmnist") is None:
        raise missing_package("medmnist", "medmnist")
    medmnist = importlib.import_module("medmnist")

    flag, _, side = name.lower().partition("_")
    suffix = f"_{side}" if side not in {"", "28"} else ""
    info = medmnist.INFO[flag]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            made = getattr(medmnist, info["python_class"])(split="val", download=True, size=int(side or 28))
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # The package turns every reason into its own.
            raise KeyboardInterrupt from error
        raise MachineError(
            f"{name}: could not be downloaded ({error.__context__ or error}); where there is no internet, fetch "
            f"{info[f'url{suffix}']} elsewhere and give the .npz file instead of the name"
        ) from error
    return Path(made.root).resolve() / f"{flag}{suffix}.npz"


def unpack(path: Path) -> Unpacked:
    """Write the images of a MedMNIST-form .npz as PNG into the cache, once.

    The keys are ``train_images``, ``train_labels``, and the same for ``val`` and ``test``: uint8 (N, H, W) or
    (N, H, W, 3); integers (N,) or (N, 1), or 0 and 1 of shape (N, findings). Images are read one at a time, so a set
    larger than the memory will do. The folder appears whole or not at all.

    Raises:
        DataError: not such a file, damaged, pickled, larger than it may be, or a part without a class.
        MachineError: the cache cannot be written, or the disk is too small.
    """
    try:
        status = path.stat()
        key = _digest(path.absolute(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpack(path, archive, key)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # RuntimeError is zipfile's for an encrypted archive and, as a subclass of it, for an unknown compression.
        raise DataError(f"{path}: is not a whole .npz file ({error}); copy it again") from error
    except OSError as error:
        where = error.filename or _root()
        raise MachineError(f"{where}: cannot be written ({error.strerror or error}); free some disk space") from error


@lru_cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; once for each state of it, for a set may be 16 GB and is looked up for every split."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(path: Path, archive: zipfile.ZipFile, key: str) -> Unpacked:
    arrays = {f"{part}_{what}": _header(path, archive, f"{part}_{what}") for part in PARTS for what in _KINDS}
    _refuse_bomb(path, arrays)
    labels = {part: _labels(path, archive, arrays, part) for part in PARTS}
    multilabel = labels["train"].ndim == 2
    known = MEDMNIST.get(re.split(r"[_.-]", path.name.lower())[0])
    classes = _class_names(path, labels, known)
    known = known if known and known.classes == classes else None
    folder = _root() / f"{key[:16]}{'-' + known.name if known else ''}"
    if not folder.is_dir():
        _refuse_full_disk(folder.parent, arrays)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for part in PARTS:
                _write_part(path, archive, arrays[f"{part}_images"], labels[part], classes, temporary / part)
            if multilabel:
                (temporary / TABLE).write_text(_findings(labels, classes), encoding="utf-8")
            temporary.chmod(0o755)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # It is there where another process was first.
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Unpacked(folder, classes, folder / TABLE if multilabel else None, known.name if known else "")


def _root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medcompress" / "medmnist"


def _header(path: Path, archive: zipfile.ZipFile, key: str) -> _Array:
    """What the file declares of an array, held against the bytes it has."""
    try:
        member = archive.getinfo(f"{key}.npy")
    except KeyError:
        there = sorted(name.removesuffix(".npy") for name in archive.namelist())
        raise DataError(
            f"{path}: has no array {key}, only {', '.join(there[:12])}; a MedMNIST file has images and labels of "
            "train, val and test"
        ) from None
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            start = file.tell()
    except ValueError as error:
        raise DataError(f"{path}: its array {key} has no header that can be read ({error}); save it again") from error
    if dtype.hasobject:
        raise DataError(f"{path}: its array {key} is pickled, and a pickle can run any code; save it as numbers")
    if fortran and len(shape) > 1:
        raise DataError(f"{path}: its array {key} is in Fortran order; save numpy.ascontiguousarray of it")
    if member.file_size != start + math.prod(shape) * dtype.itemsize:
        raise DataError(f"{path}: its array {key} has not the size its header says; copy or save it again")
    return _Array(member, start, shape, dtype)


def _refuse_bomb(path: Path, arrays: dict[str, _Array]) -> None:
    size = sum(array.member.file_size for array in arrays.values())
    if size > MAX_BYTES or size > max(SMALL, MAX_RATIO * path.stat().st_size):
        raise DataError(
            f"{path}: would unpack {path.stat().st_size >> 10} KiB to {size >> 20} MiB, more than pictures can; "
            "get the file from its source again"
        )
    for key, array in arrays.items():
        if key.endswith("_labels"):
            continue
        shape = array.shape
        if array.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
            raise DataError(
                f"{path}: its array {key} is {array.dtype} of shape {shape}; it takes uint8 (N, H, W) or (N, H, W, 3)"
            )
        if not shape[0] or not all(1 <= side <= MAX_SIDE for side in shape[1:3]):
            raise DataError(f"{path}: its array {key} of shape {shape} is empty or has sides above {MAX_SIDE} pixels")


def _labels(path: Path, archive: zipfile.ZipFile, arrays: dict[str, _Array], part: str) -> npt.NDArray[np.int64]:
    """(N,) class numbers, or (N, findings) of 0 and 1."""
    array, images = arrays[f"{part}_labels"], arrays[f"{part}_images"]
    name, shape = f"{part}_labels", array.shape
    if array.dtype.kind not in "biu" or len(shape) not in (1, 2) or shape[0] != images.shape[0]:
        raise DataError(
            f"{path}: its array {name} is {array.dtype} of shape {shape}; it takes a whole number, or a row of 0 and "
            f"1, for each of the {images.shape[0]} images"
        )
    if len(shape) == 2 and not 1 <= shape[1] <= MAX_CLASSES:
        raise DataError(f"{path}: its array {name} has {shape[1]} columns; at most {MAX_CLASSES} findings will do")
    with archive.open(array.member) as file:
        file.read(array.start)
        data = file.read()
    values = np.frombuffer(data, array.dtype).reshape(shape).astype(np.int64)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    highest = 1 if values.ndim == 2 else MAX_CLASSES - 1
    strange = (values < 0) | (values > highest)
    if strange.any():
        raise DataError(
            f"{path}: {int(strange.sum())} labels of {name} are outside 0..{highest}, first {values[strange][0]}; "
            "mend them"
        )
    return values


def _class_names(path: Path, labels: dict[str, npt.NDArray[np.int64]], known: Task | None) -> tuple[str, ...]:
    widths = {values.shape[1:] for values in labels.values()}
    if len(widths) > 1:
        raise DataError(f"{path}: its labels have different numbers of findings in train, val and test; save it again")
    several = labels["train"].ndim == 2
    count = labels["train"].shape[1] if several else 1 + max(int(values.max()) for values in labels.values())
    if known and len(known.classes) == count and (known.kind == "multilabel") == several:
        return known.classes
    if count < 2:
        raise DataError(f"{path}: all its images are of one class; a classifier needs at least two")
    names = tuple(str(label) for label in range(count))
    for part, values in labels.items():
        absent = [] if several else sorted(set(range(count)) - set(values.tolist()))
        if absent:
            raise DataError(f"{path}: its {part} part has no image of class {names[absent[0]]}; number them from 0 on")
    return names


def _refuse_full_disk(folder: Path, arrays: dict[str, _Array]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = [array for key, array in arrays.items() if key.endswith("_images")]
    needed = sum(array.shape[0] * max(_BLOCK, math.prod(array.shape[1:])) for array in images)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder}: has {free >> 20} MiB free and unpacking needs up to {needed >> 20}; free some, or set "
            "XDG_CACHE_HOME to a folder on another disk"
        )


def _write_part(
    path: Path,
    archive: zipfile.ZipFile,
    array: _Array,
    labels: npt.NDArray[np.int64],
    classes: tuple[str, ...],
    folder: Path,
) -> None:
    folders = [folder / name for name in classes] if labels.ndim == 1 else [folder]
    for made in folders:
        made.mkdir(parents=True)
    shape = array.shape[1:3] if array.shape[3:] == (1,) else array.shape[1:]
    with archive.open(array.member) as file:
        file.read(array.start)
        for number in track(range(len(labels)), f"Unpacking {folder.name} images", len(labels)):
            pixels = np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)
            made = folders[labels[number]] if labels.ndim == 1 else folder
            Image.fromarray(pixels).save(made / f"{number:06d}.png", compress_level=3)
        file.read()  # To the end, where the checksum is held against what was read.


def _findings(labels: dict[str, npt.NDArray[np.int64]], classes: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *classes, "split"])
    for part, values in labels.items():
        writer.writerows([f"{part}/{number:06d}.png", *row, part] for number, row in enumerate(values.tolist()))
    return text.getvalue()
