"""``medcompress benchmark``: the one table, for this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from .output import as_json_option, print_json


@click.command("benchmark")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images of your own: a folder per class.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@as_json_option
def command(bundle: Path, data: Path | None, threads: int | None, as_json: bool) -> int:
    """Measure every variant of BUNDLE on this machine; with --data, judge them on your images too.

    Without --data the accuracy shown is the one measured when the bundle was made. Exit code 1: on your images the
    chosen variant does not pass the gate.
    """
    from ..benchmarks.bundle_benchmark import benchmark
    from ..runtime.bundle import open_bundle
    from ..runtime.hardware import this_cpu

    opened = open_bundle(bundle)
    manifest = opened.manifest
    threads = threads or manifest.threads
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        eager = _eager(manifest.spec, Path(scratch))
        rows = benchmark(opened, data, threads, eager)
    by_name = {row.name: row for row in rows}
    base = by_name[manifest.reference]
    baseline = next((row for row in rows if row.status == "baseline"), None)
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "chosen": manifest.chosen,
                "reference": manifest.reference,
                "accuracy_from": str(data) if data else "bundle",
                "threads": threads,
                "cpu": this_cpu(),
                "variants": [
                    {
                        **{name: getattr(row, name) for name in row.__struct_fields__},
                        "speedup_vs_reference": _speedup(base.p50_ms, row.p50_ms),
                        "speedup_vs_eager": _speedup(baseline.p50_ms if baseline else None, row.p50_ms),
                    }
                    for row in rows
                ],
            }
        )
    else:
        from .table import print_table

        source = f"accuracy on {data}" if data else "accuracy as measured when the bundle was made"
        title = f"{bundle}: {source}; {threads} thread(s), {this_cpu().kind}"
        print_table(rows, title, base, baseline, manifest.chosen)
    return 1 if by_name[manifest.chosen].status.startswith("fail") else 0


def _eager(spec: dict[str, object], folder: Path):
    """The torch baseline, where torch and the part of medcompress that needs it are installed."""
    try:
        from ..compress.eager import candidate
    except ImportError:
        return ()
    found = candidate(spec, folder)
    return (found,) if found else ()


def _speedup(base: float | None, own: float | None) -> float | None:
    return base / own if base and own else None
