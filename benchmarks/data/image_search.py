"""From what a table calls an image to the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...runtime.errors import DataError
from ...runtime.images import SUFFIXES


def find_files(folder: Path, table: Path, values: Sequence[str]) -> tuple[list[str], int]:
    """(path within the folder of each value, how many of the folder's images no value names).

    An image is found by its path within the folder, by such a path behind other folders, or by its bare name
    anywhere below; with or without the suffix, which may also be another.

    Raises:
        DataError: no images there, or values that name none or several; the message counts them and names the first.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the one that holds the images")
    paths, names = _index(images_in(folder))
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}); give the folder that does")
    found = [_lookup(value, paths, names) for value in values]
    absent = [number for number, hits in enumerate(found) if not hits]
    if absent:
        raise DataError(
            f"{table}: {len(absent)} of {len(values)} rows name an image that is not in {folder}, first "
            f"{values[absent[0]]!r} (row {absent[0] + 2}); add the images, or remove the rows"
        )
    doubtful = [number for number, hits in enumerate(found) if len(hits) > 1]
    if doubtful:
        hits = found[doubtful[0]]
        raise DataError(
            f"{table}: {len(doubtful)} of {len(values)} rows name more than one image, first "
            f"{values[doubtful[0]]!r} (row {doubtful[0] + 2}): {hits[0]} and {hits[1]}; write the path within {folder}"
        )
    files = [hits[0] for hits in found]
    return files, sum(map(len, paths.values())) - len(set(files))


def count_found(folder: Path, values: Sequence[str]) -> int:
    """How many of the values name an image of the folder."""
    return sum(map(bool, look_up(images_in(folder), values)))


def look_up(images: Iterable[str], values: Sequence[str]) -> list[list[str]]:
    """Those of the images, by their paths within the folder, that each value names: none, one, or several."""
    paths, names = _index(images)
    return [_lookup(value, paths, names) for value in values]


def images_in(folder: Path) -> list[str]:
    """Paths of the images within the folder, at any depth; hidden ones do not count."""
    found: list[str] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        within = root[len(str(folder)) :].replace(os.sep, "/").strip("/")
        for name in files:
            _, dot, ending = name.rpartition(".")
            if (dot + ending).lower() in SUFFIXES and name[0] != ".":
                found.append(f"{within}/{name}" if within else name)
    return found


def _index(images: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The images by path without suffix and by bare name without suffix."""
    paths: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for path in images:
        stem = path.rpartition(".")[0]
        paths.setdefault(stem, []).append(path)
        names.setdefault(stem.rpartition("/")[2], []).append(path)
    return paths, names


def _lookup(value: str, paths: Mapping[str, list[str]], names: Mapping[str, list[str]]) -> list[str]:
    value = value.replace("\\", "/").strip("/").removeprefix("./")
    stem, dot, ending = value.rpartition(".")
    suffix = dot + ending
    if suffix.lower() not in SUFFIXES | {".dcm", ".dicom"}:
        stem = value
    if not stem:
        return []
    hits: list[str] = []
    behind = stem
    while not hits and behind:  # Of data/train/1.png also train/1.png: the table was made elsewhere.
        hits = paths.get(behind, [])
        behind = behind.partition("/")[2]
    if not hits and "/" not in stem:
        hits = names.get(stem, [])
    exact = [hit for hit in hits if hit == value or hit.endswith(suffix)] if suffix else []
    return exact if len(exact) == 1 else hits
