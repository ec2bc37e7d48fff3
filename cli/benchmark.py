"""``medcompress benchmark``: the one table, for this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.errors import InputError
from .documents import as_json_option, print_json
from .scenarios import measure, scenario_options
from .source import given_options, source_from, source_options

if TYPE_CHECKING:
    from ..benchmarks.bundle_benchmark import Local
    from ..benchmarks.candidate import Candidate
    from ..runtime.bundle import Bundle

_PATH = click.Path(path_type=Path)


@click.command("benchmark")
@click.argument("bundle", type=_PATH)
@click.option("--data", help="Labelled images of your own: a folder per class, or described by --table and the like.")
@click.option("--part", type=click.Choice(["train", "val", "test", "all"]), help="Of --data.  [default: test, or all]")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@click.option("--tolerance", type=_PATH, help="YAML file with margins; by default those of the bundle.")
@click.option("--metadata", type=_PATH, help="CSV with the columns of the tolerance's subgroups.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Leave the report, with pictures.")
@click.option("--accept-inconclusive", is_flag=True, help="Exit code 0 where nothing is shown either way.")
@scenario_options
@source_options
@as_json_option
@click.pass_context
def command(
    context: click.Context,
    bundle: Path,
    data: str | None,
    part: Any,
    threads: int | None,
    tolerance: Path | None,
    metadata: Path | None,
    out: Path | None,
    accept_inconclusive: bool,
    scenario: Any,
    variant: str | None,
    seconds: float | None,
    target_qps: float | None,
    latency_bound: float | None,
    as_json: bool,
    **described: Any,
) -> int:
    """Measure every variant of BUNDLE on this machine; with --data, judge them on your images too.

    Without --data the accuracy shown is the one measured when the bundle was made. --out leaves the same report as
    optimize does, for this machine and these images; it holds pictures of the images whose answer changed, and so is
    patient data. Exit code 1: on your images the chosen variant does not pass the gate; 3: it does not run.

    --scenario measures speed alone, as MLPerf's load generator drives it.
    """
    from ..benchmarks.bundle_benchmark import benchmark
    from ..benchmarks.progress import stage
    from ..runtime.bundle import open_bundle
    from ..runtime.hardware import this_cpu
    from .documents import Benchmarked

    given = given_options(context, described)
    if data is None and (given or part or tolerance or metadata or out):
        raise InputError("--out, --tolerance, --metadata and what describes images are for --data; give it too")
    if scenario is not None and (out or tolerance or metadata or accept_inconclusive):
        raise InputError(
            "--scenario measures speed alone; leave out --out, --tolerance, --metadata and --accept-inconclusive"
        )
    if scenario is None and any(value is not None for value in (variant, seconds, target_qps, latency_bound)):
        raise InputError("--variant, --seconds, --target-qps and --latency-bound are for --scenario; give it too")
    if out is not None:
        from ..benchmarks.report.files import refuse_folder

        refuse_folder(out)
    opened = open_bundle(bundle)
    manifest = opened.manifest
    threads = threads or manifest.threads
    local = None
    if data is not None:
        source = source_from(data, **described) if given or not Path(data).exists() else None
        local = _local(
            opened,
            Path(data),
            source,
            part,
            tolerance,
            metadata,
            pictures=out is not None,
            accept_inconclusive=accept_inconclusive,
        )
    if scenario is not None:
        from ..benchmarks.timing.scenarios import SECONDS, Load

        images = [sample.path for sample in local.samples] if local else []
        load = Load(scenario, threads, seconds or SECONDS, target_qps, latency_bound)
        return measure(opened, images, load, variant, as_json)
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        eager = _eager(manifest.spec, Path(scratch))
        found = benchmark(opened, local, threads, eager)
    if as_json:
        origin = data or "bundle"
        document = Benchmarked(
            bundle=str(bundle),
            chosen=manifest.chosen,
            reference=manifest.reference,
            accuracy_from=origin,
            threads=threads,
            cpu=this_cpu(),
            variants=found.rows,
            report=str(out / "report.json") if out else None,
        )
        print_json(document)
    else:
        from .table import print_table

        origin = f"accuracy on {data}" if data else "accuracy as measured when the bundle was made"
        print_table(found.rows, f"{bundle}: {origin}; {threads} thread(s), {this_cpu().kind}", manifest.chosen)
    chosen = next(row for row in found.rows if row.name == manifest.chosen)
    if out is not None and local is not None and found.report is not None:
        from ..benchmarks.report.files import HTML, write_report

        files = [sample.path.relative_to(local.folder).as_posix() for sample in local.samples]
        write_report(out, found.report, manifest.spec, found.pictures, files)
        stage(f"report, with pictures of patients: {out / HTML}")
    if chosen.state == "inconclusive":
        return 0 if accept_inconclusive else 1
    return {"fail": 1, "error": 3, "not run here": 3}.get(chosen.state, 0)


def _local(
    bundle: Bundle,
    data: Path,
    source: Any,
    part: Any,
    tolerance: Path | None,
    metadata: Path | None,
    *,
    pictures: bool,
    accept_inconclusive: bool,
) -> Local:
    """The images, as evaluate finds them."""
    from ..benchmarks.bundle_benchmark import Local
    from ..benchmarks.tolerance import read_tolerance
    from ..trained.data.held_out import images_to_judge

    manifest = bundle.manifest
    margins, registration = read_tolerance(tolerance) if tolerance else (None, None)
    found = images_to_judge(
        manifest.decision.classes, None, str(manifest.lineage.get("split", "")), None if source else data, source, part
    )
    return Local(
        found.samples,
        found.folder,
        metadata=metadata or (Path(source.table) if source and source.table else None),
        image_column="" if metadata or not source else source.image_column,
        tolerance=margins,
        registration=registration,
        warnings=found.warnings,
        pictures=pictures,
        accept_inconclusive=accept_inconclusive,
    )


def _eager(spec: dict[str, Any], folder: Path) -> tuple[Candidate, ...]:
    """The torch baseline, where torch is installed."""
    from ..compress.eager import candidate

    found = candidate(spec, folder)
    return (found,) if found else ()
