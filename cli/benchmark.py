"""``medcompress benchmark``: the one table, for this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .documents import as_json_option, print_json

if TYPE_CHECKING:
    from ..benchmarks.evaluation import Candidate


@click.command("benchmark")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images of your own: a folder per class.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@as_json_option
def command(bundle: Path, data: Path | None, threads: int | None, as_json: bool) -> int:
    """Measure every variant of BUNDLE on this machine; with --data, judge them on your images too.

    Without --data the accuracy shown is the one measured when the bundle was made. Exit code 1: on your images the
    chosen variant does not pass the gate; 3: it does not run.
    """
    from ..benchmarks.bundle_benchmark import benchmark
    from ..runtime.bundle import open_bundle
    from ..runtime.hardware import this_cpu
    from .documents import Benchmarked

    opened = open_bundle(bundle)
    manifest = opened.manifest
    threads = threads or manifest.threads
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        eager = _eager(manifest.spec, Path(scratch))
        rows = benchmark(opened, data, threads, eager)
    if as_json:
        source = str(data) if data else "bundle"
        print_json(Benchmarked(str(bundle), manifest.chosen, manifest.reference, source, threads, this_cpu(), rows))
    else:
        from .table import print_table

        source = f"accuracy on {data}" if data else "accuracy as measured when the bundle was made"
        print_table(rows, f"{bundle}: {source}; {threads} thread(s), {this_cpu().kind}", manifest.chosen)
    chosen = next(row for row in rows if row.name == manifest.chosen)
    return {"fail": 1, "error": 3}.get(chosen.status.split(":")[0], 0)


def _eager(spec: dict[str, Any], folder: Path) -> tuple[Candidate, ...]:
    """The torch baseline, where torch is installed."""
    from ..compress.eager import candidate

    found = candidate(spec, folder)
    return (found,) if found else ()
