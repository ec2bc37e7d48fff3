"""``medcompress evaluate``: how well a model answers, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.errors import InputError
from .documents import Evaluated, as_json_option, print_json
from .source import given_options, source_from, source_options

if TYPE_CHECKING:
    from ..benchmarks.statistics.assessment import Assessment, Figure
    from ..trained.data.held_out import Part

_PATH = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("model", type=_PATH)
@click.option("--data", help="Labelled images: other ones, or where those of the training lie now.")
@click.option("--part", type=click.Choice(["train", "val", "test", "all"]), help="[default: test]")
@click.option("--variant", help="Of a bundle; by default the one it runs here.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Leave figures, predictions and plots.")
@click.option("--draws", type=click.IntRange(0, 100_000), default=1000, show_default=True, help="Of the intervals.")
@source_options
@as_json_option
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    data: str | None,
    part: Part | None,
    variant: str | None,
    out: Path | None,
    draws: int,
    as_json: bool,
    **described: Any,
) -> None:
    """Judge MODEL on labelled images: best.pth, the folder of a run, or a bundle.

    Without --data a checkpoint is judged on the test images of its own training. Every figure has its 95 % interval:
    what other patients of the same kind might have given, patients redrawn whole. --task, --table and the like say
    what other --data are, where folders do not tell their classes; of such data the test part is judged, or --part all.
    """
    from ..benchmarks.progress import console
    from ..trained.results.evaluation import evaluate

    given = given_options(context, described)
    if given and data is None:
        raise InputError(
            f"--{given[0].replace('_', '-')} says what --data are, and there are none; give both or neither"
        )
    # What --data are is known from the checkpoint, unless the user says it.
    source = source_from(data, **described) if data is not None and (given or not Path(data).exists()) else None
    found = evaluate(model, Path(data) if data is not None else None, part, variant, out, draws, source)
    report = found.report
    assessment = report.parts[found.part]
    for warning in (*report.warnings, *assessment.notes):
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)
    if as_json:
        told = (*report.warnings, *assessment.notes)
        where = str(out) if out else ""
        print_json(Evaluated(report.model, found.ran, report.data.folder, found.part, told, where, assessment))
        return
    print_assessment(assessment, f"{report.model}: {report.data.folder}, {found.part} images; {found.ran}")
    if out:
        click.echo(f"plots, predictions and figures: {out}")


def print_assessment(found: Assessment, title: str) -> None:
    """Two tables on stdout: the figures over all, and each class's."""
    from rich import box
    from rich.table import Table

    from ..benchmarks.statistics.measures import OF_CLASS
    from ..trained.results.summary import LABELS, footnotes, label
    from .table import wide_console

    console = wide_console(200)
    positive = f", finding {found.decision.positive}" if found.decision.positive else ""
    console.print(title, soft_wrap=True)
    console.print(f"{found.images} images of {found.patients} patients{positive}", soft_wrap=True)
    percent = f"{found.confidence:.0%}".replace("%", " %")
    overall = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    overall.add_column("figure", no_wrap=True)
    overall.add_column("value", justify="right", no_wrap=True)
    overall.add_column(f"{percent} interval", no_wrap=True)
    for name, figure in found.figures.items():
        value = "-" if figure.value is None else f"{figure.value:.4f}"
        limits = figure.reason if figure.low is None else f"{figure.low:.4f} to {figure.high:.4f}{_mark(figure)}"
        overall.add_row(label(name, found.decision), value, limits)
    console.print(overall)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in ("images", *(LABELS[name].split(" (")[0] for name in OF_CLASS)):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in found.by_class:
        table.add_row(entry.name, str(entry.support), *(interval(entry.figures[name]) for name in OF_CLASS))
    console.print(table)
    shown = [*found.figures.values(), *(entry.figures[name] for entry in found.by_class for name in OF_CLASS)]
    for note in footnotes(figure for figure in shown if figure.low is not None):
        console.print(note, soft_wrap=True, markup=False)


def _mark(figure: Figure) -> str:
    return " †" if figure.reason else ""


def interval(figure: Figure, form: str = ".3f") -> str:
    """``0.957 [0.934, 0.976]``; the value alone where it has none, ``-`` where there is none.

    An interval of another kind is marked: ``1.000 [0.884, 1.000] †``.
    """
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:{form}}"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]{_mark(figure)}"
