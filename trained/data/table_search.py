"""Which CSV of a folder holds the labels of its images, and which one could."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ...benchmarks.data.csv_files import listed, plain, read_csv
from ...benchmarks.data.image_search import count_found
from ...runtime.errors import DataError
from ..tasks import TASKS, Task
from .parts import PARTS
from .tables import find_columns

if TYPE_CHECKING:
    from .splits import DataSource


def find_table(folder: Path) -> Path | None:
    """The CSV of labels that lies in a folder of images: one of a task's own, or the only one where no folders of
    parts or classes are.

    Raises:
        DataError: several, and none is called ``labels.csv`` or ``metadata.csv``.
    """
    entries = [entry for entry in folder.iterdir() if entry.name[0] not in "._"]
    folders = [entry.name.lower() for entry in entries if entry.is_dir()]
    parted = any(name in PARTS["train"] for name in folders)
    for known in TASKS.values():
        if parted and known.kind != "multilabel":
            continue  # The parts are given by folders, and its table would not tell them.
        for table in (folder / name for name in known.tables):
            if table.is_file() and _has_columns(table, known):
                return table
    if parted or len(folders) > 1:
        return None
    tables = sorted(entry for entry in entries if entry.suffix.lower() == ".csv" and entry.is_file())
    usual = [entry for entry in tables if entry.name in {"labels.csv", "metadata.csv"}]
    if len(tables) > 1 and len(usual) != 1:
        raise DataError(f"{folder}: has {len(tables)} tables ({listed([t.name for t in tables])}); name one by --table")
    return (usual or tables or [None])[0]


def _has_columns(table: Path, known: Task) -> bool:
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader([file.readline(65536)]), [])
    wanted = {*known.columns.values(), *(known.classes if known.kind == "multilabel" else ())}
    return set(map(plain, wanted)) <= set(map(plain, header))


def unused_tables(source: DataSource) -> tuple[str, ...]:
    """Notes of CSVs beside folders of parts or classes that hold labels of these images, where none is read."""
    folder = Path(source.folder)
    notes = []
    for table in sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".csv" and entry.is_file()):
        try:
            header, rows = read_csv(table)
            columns = find_columns(table, header, rows, source, None)
        except DataError:
            continue  # Something else than a table of labels.
        if 2 * count_found(folder, [row[columns.image] for row in rows]) >= len(rows):
            notes.append(f"{table.name} lies beside the images and is not used; --table {table} uses it")
    return tuple(notes)
