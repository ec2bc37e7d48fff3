"""The labels of a table: one class an image, or a column for each finding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...benchmarks.data.csv_files import listed, plain
from ...benchmarks.data.samples import one_hot
from ...runtime.errors import DataError
from ..tasks import Task, task_for

# What a finding's column may hold. Uncertain is for the policy to decide, unknown is counted nowhere.
_UNCERTAIN, _UNKNOWN = 2, -1
VALUES = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": _UNCERTAIN, "-1.0": _UNCERTAIN, "?": _UNKNOWN}
_POLICIES = {"": _UNCERTAIN, "ignore": _UNKNOWN, "zeros": 0, "ones": 1}


def read_labels(
    table: Path, values: Sequence[str], task: Task | None, classes: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    blank = [number for number, value in enumerate(values, 2) if not value]
    if blank:
        raise DataError(
            f"{table}: {len(blank)} of {len(values)} rows have no label, first row {blank[0]}; fill it in or remove it"
        )
    found = natural(set(values))
    if len(found) < 2:
        raise DataError(f"{table}: has one class only, {found[0]!r}; a classifier needs at least two")
    if not classes and task is None:
        refuse_spellings(str(table), Counter(values), "labels")
    wanted = tuple(classes) or (task.classes if task else tuple(found))
    meant = {value: meaning(value, wanted, task) for value in found}
    strange = [number for number, value in enumerate(values) if meant[value] is None]
    if strange:
        what = f"of the task {task.name}" if task and not classes else "of the model"
        raise DataError(
            f"{table}: {len(strange)} of {len(values)} rows have a label that is no class {what}, first "
            f"{values[strange[0]]!r} (row {strange[0] + 2}); the classes are {listed(wanted)}"
        )
    targets = {value: one_hot(wanted.index(name), len(wanted)) for value, name in meant.items() if name is not None}
    return wanted, [targets[value] for value in values]


def refuse_spellings(where: str, counts: Mapping[str, int], what: str) -> None:
    """Raise a DataError where two classes differ in case and spaces alone: they are one, written in two ways.

    Args:
        counts: images of each name.
        what: the names are of.
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted(counts):
        spellings.setdefault("".join(name.split()).casefold(), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            told = " and ".join(f"{name!r} ({counts[name]} images)" for name in names)
            raise DataError(f"{where}: the {what} {told} differ in case or spaces alone; write them in one way")


def one_finding(values: Collection[str]) -> bool:
    """Whether a column holds nothing but whether one finding is there."""
    return set(values) <= set(VALUES) and any(values)


def meaning(name: str, classes: Sequence[str], task: Task | None = None) -> str | None:
    """Which of ``classes`` a name means: itself, the one that differs in case and punctuation alone, or an alias."""
    if name in classes:
        return name
    task = task or task_for(classes)
    known = task.class_of(name) if task else None
    fits = [
        wanted
        for wanted in classes
        if plain(wanted) == plain(name) or (task and known is not None and task.class_of(wanted) == known)
    ]
    return fits[0] if len(fits) == 1 else None


def natural(names: set[str]) -> list[str]:
    """Sorted, numbers by their value."""
    return sorted(names, key=int) if all(re.fullmatch(r"\d{1,9}", name) for name in names) else sorted(names)


def read_findings(
    table: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    policy: str,
    task: Task | None,
    classes: Sequence[str],
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    in_task = {task.class_of(header[column]): column for column in columns} if task else {}
    names = tuple(classes) or (task.classes if task and set(in_task) == set(task.classes) else ())
    names = names or tuple(header[column] for column in columns)
    by_name = {meaning(header[column], names, task): column for column in columns}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(
            f"{table}: has no column for {len(missing)} of the model's findings, first {missing[0]!r}; its columns "
            f"are {listed(header)}"
        )
    order = [by_name[name] for name in names]
    raw = [[row[column] for column in order] for row in rows]
    bad = [(number, value) for number, row in enumerate(raw, 2) for value in row if value not in VALUES]
    if bad:
        number, value = bad[0]
        name = names[raw[number - 2].index(value)]
        raise DataError(
            f"{table}: {len(bad)} value(s) of findings are not 0, 1, -1 (uncertain), ? (unknown) or blank, first "
            f"{value!r} (row {number}, column {name!r}); mend them, or name the findings with --label-column A,B,..."
        )
    uncertain = sum(VALUES[value] == _UNCERTAIN for row in raw for value in row)
    if uncertain and not policy:
        number = next(i for i, row in enumerate(raw) if any(VALUES[value] == _UNCERTAIN for value in row))
        name = next(n for n, value in zip(names, raw[number], strict=True) if VALUES[value] == _UNCERTAIN)
        raise DataError(
            f"{table}: {uncertain} label(s) are uncertain (-1), first {name!r} in row {number + 2}; say what they "
            "count as: --uncertain ignore (nothing), zeros (absent) or ones (present)"
        )
    values = {text: _POLICIES[policy] if value == _UNCERTAIN else value for text, value in VALUES.items()}
    return names, [tuple([values[value] for value in row]) for row in raw]
