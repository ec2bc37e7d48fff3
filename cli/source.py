"""The options that say what the data are: the same for every command that reads labelled images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.core import ParameterSource

from ..runtime.errors import DataError

if TYPE_CHECKING:
    from ..trained.data.splits import DataSource

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--task", default="", help="Task of the registry, e.g. chexpert; by default known by its classes."),
    click.option("--table", type=_FILE, help="CSV of labels; by default the one that lies beside the images."),
    click.option("--image-column", default="", help="Of the table; by default found by its name, as are the others."),
    click.option("--label-column", default="", help="Of the table; several findings are parted by commas."),
    click.option("--patient-column", default="", help="Of the table: patient, lesion, subject."),
    click.option(
        "--uncertain",
        type=click.Choice(["ignore", "zeros", "ones"]),
        help="What an uncertain finding (-1) counts as: nothing, absent, present.",
    ),
    click.option("--patient-pattern", help="Regular expression for file names; its first group is the patient."),
    click.option("--patients-csv", type=_FILE, help="Table with the columns file and patient."),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the parts that are drawn."),
)
# The names of the parameters, for a command that must tell them from its own.
NAMES = (
    *("task", "table", "image_column", "label_column", "patient_column"),
    *("uncertain", "patient_pattern", "patients_csv", "seed"),
)


def source_options(command: F) -> F:
    """Add the options to a command; their values go to :func:`source_from` as they come."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_options(context: click.Context, described: Iterable[str]) -> list[str]:
    """Those of the options that stand on the command line."""
    return [name for name in described if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]


def source_from(
    data: str | Path,
    *,
    task: str = "",
    table: Path | None = None,
    image_column: str = "",
    label_column: str = "",
    patient_column: str = "",
    uncertain: Literal["ignore", "zeros", "ones"] | None = None,
    patient_pattern: str | None = None,
    patients_csv: Path | None = None,
    seed: int = 0,
) -> DataSource:
    """The source that options name, with absolute paths.

    Args:
        data: a folder, an .npz file of MedMNIST's form, or the name of a MedMNIST set, which is downloaded.

    Raises:
        InputError: no such data, or no such task.
        MachineError: a MedMNIST set that is not here and cannot be downloaded.
    """
    from ..trained.data.splits import DataSource
    from ..trained.data.table_search import find_table
    from ..trained.tasks import task as find_task

    path = _find(str(data))
    if table is None and path.is_dir():
        table = find_table(path)
    return DataSource(
        str(path),
        patient_pattern,
        str(patients_csv.resolve()) if patients_csv else None,
        seed,
        task=find_task(task).name if task else "",
        table=str(table.resolve()) if table else None,
        image_column=image_column,
        label_column=label_column,
        patient_column=patient_column,
        uncertain=uncertain or "",
    )


def _find(data: str) -> Path:
    from ..trained.data.medmnist import download, is_name
    from ..trained.tasks import MEDMNIST

    path = Path(data)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".npz"):
        return path.resolve()
    if path.exists():
        raise DataError(f"{path}: is neither a folder nor an .npz file; give the folder, and a CSV with --table")
    if is_name(data):
        return download(data).resolve()
    close = difflib.get_close_matches(data.lower(), MEDMNIST, n=1)
    hint = f"did you mean the MedMNIST set {close[0]}?" if close else "give a folder, an .npz file or a MedMNIST name"
    raise DataError(f"{data}: there is no such folder or file; {hint}")
