"""``medcompress results``: the published table, from stored reports."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ..benchmarks.row import Row
from ..runtime.hardware import Cpu
from .documents import as_json_option, print_json


class Published(msgspec.Struct, frozen=True):
    """One report of ``results --json``. ``images``, ``patients``: held out."""

    source: str
    model: str
    verdict: str
    accepted: bool
    chosen: str
    reference: str
    cpu: Cpu
    threads: int
    images: int
    patients: int
    variants: tuple[Row, ...]


class Results(msgspec.Struct, frozen=True):
    """``results --json``. ``into``: the file the table was put into, or empty."""

    into: str
    reports: tuple[Published, ...]


@click.command("results")
@click.argument("sources", metavar="BUNDLE_OR_REPORT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--into",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace what stands between the markers of this file.",
)
@as_json_option
def command(sources: tuple[Path, ...], into: Path | None, as_json: bool) -> None:
    """Print architectures and their variants as a Markdown table, from bundles or their report.json.

    Reports measured on different machines, or with different numbers of threads, get a table each. The markers of
    --into are <!-- medcompress results --> and <!-- /medcompress results -->.
    """
    from ..benchmarks.report.published import results_table
    from ..benchmarks.report.stored import read_report

    reports = [read_report(source) for source in sources]
    table = results_table(reports)
    if into is not None:
        _put(table, into)
    if as_json:
        found = (
            Published(
                str(source),
                each.model,
                each.verdict,
                each.accepted,
                each.chosen,
                each.reference,
                each.cpu,
                each.threads,
                each.held_out,
                each.patients,
                each.rows,
            )
            for source, each in zip(sources, reports, strict=True)
        )
        print_json(Results("" if into is None else str(into), tuple(found)))
        return
    click.echo(table if into is None else f"{into}: the table of {len(reports)} reports was put between its markers")


def _put(table: str, into: Path) -> None:
    from ..benchmarks.report.published import BEGIN, END, replaced
    from ..runtime.errors import InputError, MachineError
    from ..runtime.records import write_whole

    try:
        into = into.resolve()
        text = into.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{into}: cannot be read ({error}); give a text file that holds the markers") from error
    changed = replaced(text, table)
    if changed is None:
        raise InputError(f"{into}: has no one place for the table; write {BEGIN} and {END} once, on lines of their own")
    try:
        mode = into.stat().st_mode
        write_whole(into, changed.encode())
        into.chmod(mode)
    except OSError as error:
        raise MachineError(f"{into}: cannot be written ({error.strerror}); give another --into") from error
