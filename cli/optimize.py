"""``medcompress optimize``: from best.pth to a proven bundle."""

from __future__ import annotations

from pathlib import Path

import click

from .documents import as_json_option, print_json


@click.command("optimize")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Make INT8 forms; without it, float forms only.")
@click.option("--data", type=click.Path(path_type=Path), help="The images; by default where the checkpoint found them.")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder; by default beside the checkpoint.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="For one inference.")
@click.option("--target", default="cpu", show_default=True, help="cpu, or cpu-vnni and cpu-avx2, separated by commas.")
@click.option("--tolerance", type=click.Path(path_type=Path), help="YAML file with the margins of the gate.")
@click.option(
    "--accept-leaks", is_flag=True, help="Go on where training images are among the held-out; the report says so."
)
@click.option("--force", is_flag=True, help="Replace the bundle that lies there.")
@as_json_option
def command(
    checkpoint: Path,
    int8: bool,
    data: Path | None,
    out: Path | None,
    threads: int,
    target: str,
    tolerance: Path | None,
    accept_leaks: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Turn CHECKPOINT into the fastest form that is not worse on its held-out images.

    Exit codes: 0 a form passed, 1 the gate said no (the FP32 bundle is kept), 2 wrong input, 3 something is missing.
    Stopped at any point, the same command goes on from its last finished stage.
    """
    from ..benchmarks.tolerance import Tolerance, read_tolerance
    from ..compress.optimize import Options, optimize

    outcome = optimize(
        Options(
            checkpoint=checkpoint,
            data=data,
            out=out,
            int8=int8,
            targets=tuple(name.strip() for name in target.split(",")),
            threads=threads,
            tolerance=read_tolerance(tolerance) if tolerance else Tolerance(),
            replace=force,
            accept_leaks=accept_leaks,
        )
    )
    report = outcome.report
    if as_json:
        from .documents import Optimized

        bundle = str(outcome.bundle)
        print_json(Optimized(bundle, report.verdict, report.reason, report.chosen, report.reference_row, report.rows))
    else:
        from .table import print_table

        click.echo(f"{report.verdict.upper()}: {report.reason}")
        title = f"{report.model}; {report.held_out} held-out images; {report.threads} thread(s), {report.cpu.kind}"
        print_table(report.rows, title, report.chosen)
        click.echo(f"bundle: {outcome.bundle}\nreport: {outcome.bundle / 'report.html'}")
    return 0 if report.verdict == "pass" else 1
