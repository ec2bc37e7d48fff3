"""Reading a CSV whose columns and rows can be relied on, or refusing it by row."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ...runtime.errors import DataError

# Usual names of the column that names the image, without spaces and punctuation, likeliest first.
IMAGE = ("file", "filename", "filepath", "path", "image", "imagepath", "imagefile", "imagename", "imageid")
IMAGE = (*IMAGE, "imageindex", "img", "id")


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, stripped, of a table parted by commas, semicolons or tabs; empty lines are left out.

    Raises:
        DataError: not UTF-8, no rows, a column named twice, a row of another length, a field of more than 128 KiB.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            rows = [[field.strip() for field in row] for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV table ({error}); check the path and save as UTF-8") from error
    if len(rows) < 2:
        raise DataError(f"{path}: has {'no rows below its header' if rows else 'nothing in it'}; give a CSV with rows")
    header, rows = rows[0], rows[1:]
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise DataError(f"{path}: has {len(twice)} column name(s) twice, first {twice[0]!r}; rename one")
    ragged = [number for number, row in enumerate(rows, 2) if len(row) != len(header)]
    if ragged:
        raise DataError(
            f"{path}: {len(ragged)} of {len(rows)} rows have not the {len(header)} fields of the header, first row "
            f"{ragged[0]} with {len(rows[ragged[0] - 2])}; mend it (text with a comma needs quotes)"
        )
    return header, rows


def read_patients(path: Path) -> dict[str, str]:
    """Patient of each file, from a table with the columns ``file`` (path within the data folder) and ``patient``.

    Raises:
        DataError: not such a table, an empty field, or a file given to two patients.
    """
    header, rows = read_csv(path)
    if not {"file", "patient"} <= set(header):
        raise DataError(f"{path}: needs the columns 'file' and 'patient', and its columns are {listed(header)}")
    file, patient = header.index("file"), header.index("patient")
    patients: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name = row[file].replace("\\", "/")
        if not name or not row[patient]:
            raise DataError(f"{path}: has a row without file or patient (row {number}); fill it in or remove it")
        if patients.setdefault(name, row[patient]) != row[patient]:
            raise DataError(f"{path}: {name} is given to two patients; keep one row")
    return patients


def columns_by_name(header: Sequence[str]) -> dict[str, int]:
    """Place of each column by its :func:`plain` name; of two such names the first's."""
    return {plain(name): place for place, name in reversed(list(enumerate(header)))}


def find_column(table: Path, header: Sequence[str], name: str, advice: str) -> int:
    """Place of a column; case, spaces and punctuation of its name do not matter where no other is called just so.

    Args:
        advice: how to name another, the end of the message.

    Raises:
        DataError: there is none.
    """
    if name in header:
        return list(header).index(name)
    by_name = columns_by_name(header)
    if plain(name) in by_name:
        return by_name[plain(name)]
    close = get_close_matches(plain(name), by_name, n=1)
    hint = f"did you mean {header[by_name[close[0]]]!r}? Its" if close else "its"
    raise DataError(f"{table}: has no column {name!r}; {hint} columns are {listed(header)}; {advice}")


def plain(name: str) -> str:
    """Lower case, letters and digits alone: how names are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names with commas between them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
