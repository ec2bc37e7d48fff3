"""``medcompress compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .documents import as_json_option, print_json

if TYPE_CHECKING:
    from ..trained.results.comparison import Comparison, Row
    from ..trained.results.cross_validation import CrossValidation

_FOLDER = click.Path(path_type=Path)
_SHOWN = ("auroc", "accuracy", "sensitivity", "specificity", "f1", "ece")


@click.command("compare")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_FOLDER)
@click.option("--figure", help="Sorts the rows, and differences are of it.  [default: the task's, or auroc]")
@click.option("--part", type=click.Choice(["test", "val", "all"]), default="test", show_default=True)
@click.option("--reference", type=_FOLDER, metavar="RUN", help="Differences are to it.  [default: the best]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Leave comparison.json and a plot.")
@click.option("--draws", type=click.IntRange(0, 100_000), default=1000, show_default=True, help="Of the intervals.")
@as_json_option
def command(
    runs: tuple[Path, ...],
    figure: str | None,
    part: str,
    reference: Path | None,
    out: Path | None,
    draws: int,
    as_json: bool,
) -> None:
    """Compare finished trainings by what they left in their folders.

    A RUN is the folder of a training, of its folds or seeds, or what evaluate --out left. A difference is paired: both
    models on the same test images, patients redrawn together. It is to the best run, or to --reference; the best was
    chosen by these images, which flatters it. An interval without 0 says that other patients of the same kind would
    hardly turn the difference; another seed of the training may: train with --repeats to see that.
    """
    from ..trained.results.comparison import compare

    found = compare(runs, figure, part, reference, draws)
    if out is not None:
        _leave(found, out)
    if as_json:
        print_json(found)
        return
    _print(found)
    if out is not None:
        click.echo(f"comparison.json and comparison.png: {out}")


def _print(found: Comparison) -> None:
    from rich import box
    from rich.table import Table

    from ..trained.results.summary import LABELS, duration, footnotes
    from .evaluate import interval
    from .table import wide_console

    shown = [found.figure, *(name for name in _SHOWN if name != found.figure)]
    names = _short_names(found.rows)
    short = [LABELS[name].split(" (")[0] for name in shown]
    figures = Table(title=f"{found.part} images", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    made = Table(title="how they were made", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for table in (figures, made):
        table.add_column("run", no_wrap=True)
    for name in (short[0], f"Δ {short[0]}", *short[1:], "images"):
        figures.add_column(name, justify="right", no_wrap=True)
    for name in ("network", "weights", "strategy"):
        made.add_column(name, no_wrap=True)
    for name in ("size", "epochs", "time"):
        made.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        is_reference = row.run == found.reference
        style = "bold" if is_reference else None
        if not row.figures:
            figures.add_row(names[row.run], row.status, style="dim")
            continue
        difference = "reference" if is_reference else interval(row.difference, "+.4f") if row.difference else "-"
        values = [row.figures[name] for name in shown]
        figures.add_row(
            names[row.run] + (f" (mean of {row.members})" if row.members > 1 else ""),
            interval(values[0]),
            difference,
            *("-" if each.value is None else f"{each.value:.3f}" for each in values[1:]),
            str(row.images),
            style=style,
        )
        time = "-" if row.seconds is None else duration(row.seconds)
        epochs = str(row.epochs) if row.epochs else "-"
        made.add_row(
            names[row.run], row.architecture, row.weights, row.strategy, str(row.size), epochs, time, style=style
        )
    console = wide_console(160)
    console.print(figures)
    console.print(made)
    for row in found.rows:
        if row.figures and row.status:
            console.print(f"{names[row.run]}: {row.status}", soft_wrap=True)
    shown_intervals = (row.figures[found.figure] for row in found.rows if row.figures)
    for note in footnotes(figure for figure in shown_intervals if figure.low is not None):
        console.print(note, soft_wrap=True, markup=False)
    for row in found.rows:
        if row.spread:
            told = ", ".join(
                f"{label} {row.figures[name].value:.3f} ± {row.spread[name]:.3f}"
                for name, label in zip(shown, short, strict=True)
                if name in row.spread
            )
            console.print(f"{names[row.run]}: mean ± SD of {row.members} trainings: {told}", soft_wrap=True)
        if row.cross_validation:
            text = _cross_validated(row.cross_validation, dict(zip(shown, short, strict=True)))
            console.print(f"{names[row.run]}: {text}", soft_wrap=True)


def _cross_validated(found: CrossValidation, labels: dict[str, str]) -> str:
    from .evaluate import interval

    own = [f"{labels[name]} {found.mean[name]:.3f} ± {found.spread[name]:.3f}" for name in labels if name in found.mean]
    pooled = [f"{labels[name]} {interval(found.pooled[name])}" for name in labels if name in found.pooled]
    return (
        f"cross-validation over {found.images} validation images: mean ± SD of the folds' own {', '.join(own) or '-'}; "
        f"answers of all folds pooled: {', '.join(pooled)}"
    )


def _short_names(rows: tuple[Row, ...]) -> dict[str, str]:
    """The folders' own names where they tell the runs apart."""
    own = [Path(row.run).absolute().name for row in rows]
    return {row.run: name if own.count(name) == 1 else row.run for row, name in zip(rows, own, strict=True)}


def _leave(found: Comparison, out: Path) -> None:
    from ..benchmarks.report.plots import comparison_plot
    from ..runtime.errors import MachineError
    from ..runtime.records import to_json, write_whole
    from ..trained.results.summary import LABELS

    names = _short_names(found.rows)
    rows = [(names[row.run], row.figures[found.figure]) for row in found.rows if row.figures]
    label = LABELS[found.figure].split(" (")[0]
    title = f"{label} on the {found.part} images, {found.confidence:.0%} intervals by patient"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "comparison.png", comparison_plot(rows, label, title))
        write_whole(out / "comparison.json", to_json(found))
    except OSError as error:
        raise MachineError(f"{out}: cannot be written ({error.strerror}); give another --out") from error
