"""A table, whatever it is shown in: the page draws it, the text form writes it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..verdict import Outcome
from .strip import Scale, Strip
from .words import NONE, OUTCOMES, SHAPES

Tone: TypeAlias = Literal["", "pass", "fail", "inconclusive", "muted"]


class Cell(msgspec.Struct, frozen=True):
    """Text, with a mark before it that says in a shape what its colour says; ``note`` follows in plain type."""

    text: str = ""
    tone: Tone = ""
    shape: str = ""
    note: str = ""
    strip: Strip | None = None


class Column(msgspec.Struct, frozen=True):
    """Numbers stand to the right; ``words`` to the left, and they wrap. ``scale``: of the strips drawn in it."""

    title: str
    words: bool = False
    scale: Scale | None = None
    drawn: bool = False


class Table(msgspec.Struct, frozen=True):
    """Rows under columns, the first cell of each its name.

    Attributes:
        marked: rows that are the chosen one's.
        empty: said instead, where there are no rows.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    marked: tuple[int, ...] = ()
    empty: str = ""


def outcome_cell(outcome: Outcome) -> Cell:
    """The word and its shape."""
    return Cell(OUTCOMES[outcome], outcome, SHAPES[outcome])


def filled(table: Table) -> Table:
    """Without the columns that say nothing in any row, and without rows where no other column is left."""
    kept = [place for place in range(len(table.columns)) if not place or any(_says(row[place]) for row in table.rows)]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows) if len(kept) > 1 else ()
    return msgspec.structs.replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)


def text_of(cell: Cell | str) -> str:
    """Without its picture."""
    if isinstance(cell, str):
        return cell
    return " ".join(filter(None, (cell.shape, f"{cell.text}: {cell.note}" if cell.note else cell.text)))


def _says(cell: Cell | str) -> bool:
    return text_of(cell) not in ("", NONE) or (not isinstance(cell, str) and cell.strip is not None)
