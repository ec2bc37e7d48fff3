"""Which subgroup each image is in: by a column of a table of metadata, or by its path."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...runtime.errors import DataError
from ..tolerance import Subgroups
from .csv_files import IMAGE, columns_by_name, find_column, listed, read_csv
from .image_search import images_in, look_up
from .samples import Sample

# More than so many groups are none that a reader compares; of numbers likelier a measurement than a code.
MOST_VALUES, MOST_NUMBERS = 30, 12
# What tables write where they know nothing, in lower case.
MISSING = frozenset({"", "unknown", "nan", "na", "n/a", "null"})


@dataclass(frozen=True)
class Grouping:
    """Images divided in one way.

    Attributes:
        title: of the subgroups.
        values: one an image: the group's name, empty where the image is in none.
        order: the groups' names, in the order to be shown; of bands also those without images.
        notes: how many images are in no group, and why, a sentence each.
    """

    title: str
    values: tuple[str, ...]
    order: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Metadata:
    """A table with the place of each image's row; images without one are not in ``row_of``."""

    table: Path
    header: list[str]
    rows: list[list[str]]
    row_of: dict[str, int]


def notes_of(groupings: Sequence[Grouping]) -> dict[str, dict[str, str]]:
    """What is to be said of them in a report's provenance; empty where there is nothing."""
    notes = {grouping.title: "; ".join(grouping.notes) for grouping in groupings if grouping.notes}
    return {"subgroups": notes} if notes else {}


def group_samples(
    samples: Sequence[Sample],
    folder: Path,
    subgroups: Sequence[Subgroups],
    metadata: Path | None,
    image_column: str = "",
) -> tuple[Grouping, ...]:
    """Divide the images in each of the ways asked for.

    Args:
        folder: holds the images; paths are taken within it.
        metadata: CSV with a row an image, which is named as in a table of labels, see
            :func:`medcompress.benchmarks.data.image_search.find_files`; rows of other images are passed over.
        image_column: of the table; empty finds it by its usual names.

    Raises:
        DataError: a column is asked for and there is no table; the table cannot be read, lacks the column, names no
            image or one twice; values that are no groups; a pattern that is none, has no group, or fits no image.
    """
    files = [sample.path.relative_to(folder).as_posix() for sample in samples]
    columns = [entry for entry in subgroups if entry.column]
    found = None
    if columns:
        if metadata is None:
            raise DataError(
                f"subgroups by the column {columns[0].column!r} need a table with a row an image, and there is none; "
                "give it with --metadata"
            )
        found = _read(metadata, folder, files, image_column, [entry.column for entry in columns])
    return tuple(
        _by_column(entry, found, files) if found and entry.column else _by_pattern(entry, files) for entry in subgroups
    )


def _read(table: Path, folder: Path, files: Sequence[str], image_column: str, columns: Sequence[str]) -> _Metadata:
    header, rows = read_csv(table)
    by_name = columns_by_name(header)
    if image_column:
        image = find_column(table, header, image_column, "name the one of the images")
    else:
        image = next((by_name[name] for name in IMAGE if name in by_name), None)
    if image is None:
        raise DataError(
            f"{table}: has no column of images by a usual name (file, image, path, ...); its columns are "
            f"{listed(header)}; rename the one that names the image"
        )
    asked = [find_column(table, header, name, "name one in the tolerance's subgroups") for name in columns]
    names = [row[image] for row in rows]
    # A file that lies behind a link may be a sample without being found in the folder.
    hits = look_up(sorted({*images_in(folder), *files}), names)
    wanted = set(files)
    doubtful = [number for number, several in enumerate(hits) if len(several) > 1 and wanted & set(several)]
    if doubtful:
        first = doubtful[0]
        raise DataError(
            f"{table}: {len(doubtful)} of {len(rows)} rows name more than one image, first {names[first]!r} (row "
            f"{first + 2}): {hits[first][0]} and {hits[first][1]}; write the path within {folder}"
        )
    row_of: dict[str, int] = {}
    again: list[int] = []
    for number, one in enumerate(hits):
        if len(one) == 1 and one[0] in wanted and row_of.setdefault(one[0], number) != number:
            again.append(number)
    _refuse_repeats(table, rows, asked, row_of, [(hits[number][0], number) for number in again])
    if not row_of:
        raise DataError(
            f"{table}: none of its {len(rows)} rows names one of the {len(files)} images: {header[image]!r} holds such "
            f"as {names[0]!r}, the images are such as {files[0]!r}; give the table of these images"
        )
    return _Metadata(table, header, rows, row_of)


def _refuse_repeats(
    table: Path,
    rows: Sequence[Sequence[str]],
    asked: Sequence[int],
    row_of: dict[str, int],
    again: Sequence[tuple[str, int]],
) -> None:
    def differs(file: str, number: int) -> bool:
        return any(rows[row_of[file]][column] != rows[number][column] for column in asked)

    other = [(file, number) for file, number in again if differs(file, number)]
    for found, problem, mend in (
        (other, "contradict another row of the same image", "keep the right one"),
        (again, "name an image that another row names", "remove the repeats"),
    ):
        if found:
            file, number = found[0]
            raise DataError(
                f"{table}: {len(found)} of {len(rows)} rows {problem}, first {file} (rows {row_of[file] + 2} and "
                f"{number + 2}); {mend}"
            )


def _by_column(entry: Subgroups, metadata: _Metadata, files: Sequence[str]) -> Grouping:
    table, total = metadata.table, len(files)
    column = find_column(table, metadata.header, entry.column, "name one in the tolerance's subgroups")
    name = metadata.header[column]
    row_of = metadata.row_of
    written = {file: metadata.rows[row_of[file]][column] for file in files if file in row_of}
    known = {file: value for file, value in written.items() if value.lower() not in MISSING}
    if not known:
        raise DataError(
            f"{table}: the column {name!r} says nothing of any of the {total} images; leave its subgroups out, or fill "
            "it in"
        )
    notes = []
    if absent := sum(file not in written for file in files):
        notes.append(f"{table.name} has no row of {absent} of {total} images, which are in no group")
    if empty := sum(file in written and file not in known for file in files):
        notes.append(f"the column {name!r} says nothing of {empty} of {total} images, which are in no group")
    where = f"{table}: the column {name!r}"
    if entry.bands:
        order = _bands(entry.bands)
        for file, value in known.items():
            number = _number(value)
            if number is None:
                raise DataError(
                    f"{where} has {value!r} in row {row_of[file] + 2}, which is no number, and is asked for in bands; "
                    "mend it, or leave the bands out"
                )
            known[file] = order[bisect.bisect_right(entry.bands, number)]
    else:
        if all(_number(value) is not None for value in known.values()):
            # As pandas writes whole numbers of a column with gaps.
            known = {file: value.removesuffix(".0") for file, value in known.items()}
        order = _ordered(known.values())
        numbers = [value for value in order if _number(value) is not None]
        if len(numbers) > MOST_NUMBERS:
            raise DataError(
                f"{where} holds {len(numbers)} different numbers, such as {numbers[0]} and {numbers[-1]}, which are no "
                f"groups (at most {MOST_NUMBERS}); give it bands in the tolerance, e.g. bands: [18, 65]"
            )
        _refuse_many(order, where)
    return Grouping(entry.title, tuple(known.get(file, "") for file in files), order, tuple(notes))


def _by_pattern(entry: Subgroups, files: Sequence[str]) -> Grouping:
    what = f"subgroups {entry.title!r}: the pattern {entry.pattern!r}"
    try:
        pattern = re.compile(entry.pattern)
    except re.error as error:
        raise DataError(f"{what} is not a regular expression ({error}); mend it in the tolerance") from error
    if not pattern.groups:
        raise DataError(f"{what} has no group; put what names the group in parentheses")
    matches = [pattern.search(file) for file in files]
    values = tuple((match.group(1) or "") if match else "" for match in matches)
    if not any(values):
        such = f", such as {files[0]!r}" if files else ""
        raise DataError(
            f"{what} fits none of the {len(files)} images{such}; it is searched in the path in their folder"
        )
    order = _ordered(filter(None, values))
    _refuse_many(order, what)
    left = values.count("")
    notes = (f"the pattern does not fit {left} of {len(files)} images, which are in no group",) if left else ()
    return Grouping(entry.title, values, order, notes)


def _bands(limits: Sequence[float]) -> tuple[str, ...]:
    text = [str(limit).removesuffix(".0") for limit in limits]
    between = (f"{low} to <{high}" for low, high in pairwise(text))
    return (f"below {text[0]}", *between, f"{text[-1]} and above")


def _ordered(values: Iterable[str]) -> tuple[str, ...]:
    """Each value once: numbers by size, words by the alphabet."""
    distinct = sorted(set(values), key=lambda value: (value.casefold(), value))
    numbers = {value: number for value in distinct if (number := _number(value)) is not None}
    return tuple(sorted(distinct, key=lambda value: numbers[value]) if len(numbers) == len(distinct) else distinct)


def _refuse_many(order: Sequence[str], what: str) -> None:
    if len(order) > MOST_VALUES:
        raise DataError(
            f"{what} gives {len(order)} different values, such as {order[0]!r} and {order[1]!r}, too many for groups "
            f"(at most {MOST_VALUES}); choose one that divides more coarsely"
        )


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
