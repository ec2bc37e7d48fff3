"""``medcompress report``: the pages of a bundle, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import msgspec

from .documents import as_json_option, print_json


class Written(msgspec.Struct, frozen=True):
    """``report --json``. ``files``: page, text, model card, data."""

    bundle: str
    verdict: Literal["pass", "fail", "inconclusive"]
    accepted: bool
    reason: str
    chosen: str
    files: tuple[str, ...]


@click.command("report")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.  [default: BUNDLE-report]"
)
@as_json_option
def command(bundle: Path, out: Path | None, as_json: bool) -> None:
    """Write a bundle's report again: report.html, report.md, model_card.md and report.json.

    The figures are those in the bundle, whose report.json is checked first; nothing is measured. A report.json that
    was taken out of a bundle is read too. In --out these four files are replaced, and nothing else is touched.
    """
    from ..benchmarks.report.files import CARD, HTML, JSON, MARKDOWN, refuse_folder, write_report
    from ..benchmarks.report.stored import read_report
    from ..benchmarks.report.words import verdict_word
    from ..runtime.bundle import MANIFEST, open_bundle
    from ..runtime.errors import MachineError

    path = bundle.absolute()
    whose = path.parent if (path.parent / MANIFEST).exists() else path
    folder = out or whose.with_name(f"{whose.name.removesuffix('.json')}-report")
    refuse_folder(folder)
    report = read_report(bundle)
    spec = open_bundle(bundle).manifest.spec if (bundle / MANIFEST).exists() else {}
    try:
        write_report(folder, report, spec)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written ({error.strerror}); give another --out") from error
    files = [folder / name for name in (HTML, MARKDOWN, CARD, JSON)]
    if as_json:
        names = tuple(map(str, files))
        print_json(Written(str(bundle), report.verdict, report.accepted, report.reason, report.chosen, names))
        return
    click.echo(f"{verdict_word(report.verdict, report.accepted)}: {report.reason}")
    for file in files:
        click.echo(str(file))
