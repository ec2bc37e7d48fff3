"""A CSV of labels and a folder of images: which image has which label, whose it is, and what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...benchmarks.data.csv_files import IMAGE, columns_by_name, find_column, listed, plain, read_csv
from ...benchmarks.data.image_search import find_files
from ...benchmarks.data.samples import Sample, patient_finder
from ...runtime.errors import DataError
from ..tasks import TASKS, Task
from .labels import VALUES, one_finding, read_findings, read_labels
from .parts import PARTS, LabelledParts, within_part

if TYPE_CHECKING:
    from .splits import DataSource

# Usual names of the columns, without spaces and punctuation, likeliest first; those of images are `IMAGE`.
LABEL = ("label", "class", "dx", "diagnosis", "finding", "target", "category", "disease", "labels", "classname")
PATIENT = ("patient", "patientid", "lesionid", "subject", "subjectid", "person", "personid", "caseid", "mrn")
PART = ("split", "part", "set", "subset", "partition")


@dataclass(frozen=True)
class Columns:
    """Indices into a row; ``label`` or ``findings``, never both."""

    image: int
    label: int | None
    findings: tuple[int, ...]
    patient: int | None
    part: int | None


def read_table(source: DataSource, task: Task | None = None, classes: Sequence[str] = ()) -> LabelledParts:
    """The images of ``source.folder`` with the labels of ``source.table``, sorted by path.

    CheXpert's ``valid.csv`` is read along with its ``train.csv``; but as no image of it shows a fracture, it cannot
    be a part of its own, and the parts are drawn from both.

    Args:
        task: names columns, classes and patients; None recognises it by the classes.
        classes: the order of the classes; empty takes the task's, or sorts them.

    Raises:
        DataError: missing columns, images that are not there, an image in two rows, labels that are none, or
            ``uncertain`` where nothing can be.
    """
    folder, table = Path(source.folder), Path(source.table or "")
    header, rows = read_csv(table)
    task = task or (TASKS["chexpert"] if _is_chexpert(header) else None)
    columns = find_columns(table, header, rows, source, task, classes)
    multilabel = bool(columns.findings)
    notes: list[str] = []
    companion = table.with_name("valid.csv")
    if task and task.name == "chexpert" and table.name == "train.csv" and companion.is_file():
        more_header, more = read_csv(companion)
        if more_header != header:
            raise DataError(f"{companion}: its columns are not those of {table.name}; make them the same")
        notes.append(f"{companion.name}: its {len(more)} rows are pooled with {table.name}'s and parts drawn from both")
        rows = rows + more

    if columns.label is None:
        names, targets = read_findings(table, header, rows, columns.findings, source.uncertain, task, classes)
    else:
        if source.uncertain:
            raise DataError(
                f"{table}: --uncertain says what an uncertain finding (-1) counts as, and the column "
                f"{header[columns.label]!r} holds classes; leave it out, or name findings with --label-column"
            )
        names, targets = read_labels(table, [row[columns.label] for row in rows], task, classes)
    files, left = find_files(folder, table, [row[columns.image] for row in rows])
    if left:
        notes.append(f"{left} image(s) in {folder.name} have no row in {table.name}: left out")
    _refuse_repeats(table, files, targets)
    parts = _parts(table, header, rows, columns.part)
    patients, unnamed = _patients(source, files, rows, columns.patient, task)
    given: dict[str, list[Sample]] = {part: [] for part in PARTS if part in set(parts)}
    prefixed = columns.part is not None and columns.patient is None
    # In the order of class folders, so that a table of them gives the same split.
    label = [0 if multilabel else target.index(1) for target in targets]
    for i in sorted(range(len(files)), key=lambda i: (label[i], files[i].split("/"))):
        patient = within_part(parts[i], patients[i]) if prefixed else patients[i]
        given[parts[i]].append(Sample(folder / files[i], targets[i], patient))
    return LabelledParts(names, given, multilabel, unnamed, columns.patient is not None, tuple(notes))


def _is_chexpert(header: Sequence[str]) -> bool:
    return TASKS["chexpert"].matches([name for name in header if TASKS["chexpert"].class_of(name)])


def find_columns(
    table: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    source: DataSource,
    task: Task | None,
    classes: Sequence[str] = (),
) -> Columns:
    """Which column is what: as the source names them, else by their usual names.

    Args:
        classes: of a model; a single one is a finding.

    Raises:
        DataError: none of images or labels is found, or one that is named is not there.
    """
    by_name = columns_by_name(header)
    usual_of_task: Mapping[str, str] = task.columns if task else {}

    def named(name: str, option: str) -> int:
        return find_column(table, header, name, f"give one to {option}")

    def find(role: str, asked: str, usual: Sequence[str]) -> int | None:
        if asked:
            return named(asked, f"--{role}-column")
        wanted = [plain(usual_of_task[role])] if role in usual_of_task else []
        return next((by_name[name] for name in (*wanted, *usual) if name in by_name), None)

    image = find("image", source.image_column, IMAGE)
    if image is None:
        raise DataError(
            f"{table}: has no column of images by a usual name (file, image, path, ...); its columns are "
            f"{listed(header)}; name it with --image-column"
        )
    patient = find("patient", source.patient_column, PATIENT)
    part = find("part", "", PART)
    several = source.label_column.split(",") if source.label_column not in header else [source.label_column]
    if len(several) > 1:
        return Columns(image, None, tuple(named(name.strip(), "--label-column") for name in several), patient, part)
    if task and task.kind == "multilabel" and not source.label_column:
        findings = tuple(index for index, name in enumerate(header) if task.class_of(name))
        if not task.matches([header[index] for index in findings]):
            missing = set(task.classes) - {task.class_of(header[index]) for index in findings}
            raise DataError(
                f"{table}: lacks {len(missing)} column(s) of {task.name}, first {sorted(missing)[0]!r}; its columns "
                f"are {listed(header)}"
            )
        return Columns(image, None, findings, patient, part)
    label = find("label", source.label_column, LABEL)
    if label is not None:
        values = {row[label] for row in rows}
        asked = len(classes) == 1 or source.uncertain or (source.label_column and values & {"-1", "-1.0"})
        if asked and one_finding(values):
            return Columns(image, None, (label,), patient, part)
        return Columns(image, label, (), patient, part)
    taken = {image, patient, part}
    findings = tuple(
        index
        for index, name in enumerate(header)
        if index not in taken and plain(name) not in {"age", "sex", "gender", ""} and _looks_binary(rows, index)
    )
    if len(findings) < 2:
        raise DataError(
            f"{table}: has no column of labels by a usual name (label, class, diagnosis, ...) and not two or more of "
            f"0 and 1; its columns are {listed(header)}; name it with --label-column"
        )
    return Columns(image, None, findings, patient, part)


def _looks_binary(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether most of what is filled in could be a finding: what is not is refused later, by name."""
    filled = Counter(row[column] for row in rows)
    filled.pop("", None)
    return 2 * sum(count for value, count in filled.items() if value in VALUES) > sum(filled.values())


def _refuse_repeats(table: Path, files: Sequence[str], targets: Sequence[tuple[int, ...]]) -> None:
    first: dict[str, int] = {}
    same, other = [], []
    for row, file in enumerate(files):
        before = first.setdefault(file, row)
        if before != row:
            (same if targets[before] == targets[row] else other).append((file, before + 2, row + 2))
    if other:
        file, before, row = other[0]
        raise DataError(
            f"{table}: {len(other)} row(s) contradict another row's labels of the same image, first {file} "
            f"(rows {before} and {row}); keep the right one"
        )
    if same:
        file, before, row = same[0]
        raise DataError(
            f"{table}: {len(same)} row(s) repeat another with the same image and labels, first {file} "
            f"(rows {before} and {row}); remove the repeats"
        )


def _parts(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]], column: int | None) -> list[str]:
    if column is None:
        return ["train"] * len(rows)
    part_of = {name: part for part, names in PARTS.items() for name in names}
    parts = [part_of.get(row[column].lower(), "") for row in rows]
    if not all(parts):
        row = parts.index("")
        raise DataError(
            f"{table}: {parts.count('')} of {len(rows)} rows have another part than train, val or test in the column "
            f"{header[column]!r}, first {rows[row][column]!r} (row {row + 2}); mend them, or rename the column"
        )
    if "train" not in parts:
        raise DataError(f"{table}: gives no row to train in the column {header[column]!r}; add some")
    return parts


def _patients(
    source: DataSource, files: Sequence[str], rows: Sequence[Sequence[str]], column: int | None, task: Task | None
) -> tuple[list[str], int]:
    """(patient of each file, how many have none and stand for themselves)."""
    if column is not None:
        found = [row[column] for row in rows]
    else:
        find = patient_finder(source.patient_pattern or (task.patient_pattern if task else None))
        found = [find(file) for file in files]
    unnamed = sum(not patient for patient in found)
    return [patient or file for patient, file in zip(found, files, strict=True)], unnamed
