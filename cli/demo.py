"""``medcompress demo``: the whole job on synthetic radiographs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .documents import as_json_option, print_json

PATIENTS = 300
ARCHITECTURE = "resnet10t"
SIZE = 96
EPOCHS = 8
BATCH = 16
LEARNING_RATE = 2e-3
# Written before the first image is drawn, as it should be.
TOLERANCE = """# Sixty phantom patients show no small loss: margins for the demo, not for real images.
auroc_drop: 0.05
sensitivity_drop: 0.15
specificity_drop: 0.15
ece_rise: 0.1
flips: 0.1
"""


@click.command("demo")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/demo"), show_default=True)
@as_json_option
def command(out: Path, as_json: bool) -> int:
    """Draw synthetic phantom radiographs, train, compress, verify and measure. Takes a few minutes on two cores.

    What an earlier, interrupted demo finished in the folder is used again.
    """
    from ..benchmarks.bundle_benchmark import Local, benchmark
    from ..benchmarks.data.samples import find_samples, held_out_folder
    from ..benchmarks.progress import stage
    from ..benchmarks.tolerance import read_tolerance
    from ..compress.eager import candidate
    from ..compress.optimize import optimize
    from ..compress.options import Options
    from ..runtime.bundle import open_bundle
    from ..runtime.records import write_whole
    from ..runtime.selftest import verify
    from ..trained.data.splits import DataSource
    from ..trained.learning import training
    from ..trained.learning.options import TrainOptions
    from ..trained.learning.runs import state
    from ..trained.phantom import write_phantoms
    from ..trained.run_files import BEST
    from .documents import Benchmarked
    from .table import print_table

    started = time.monotonic()
    images, run, bundle, margins = out / "phantoms", out / "training", out / "bundle", out / "tolerance.yaml"
    out.mkdir(parents=True, exist_ok=True)
    if not margins.exists():
        write_whole(margins, TOLERANCE.encode())
    if not images.is_dir():
        stage("1/5 Drawing synthetic phantom radiographs: made by formulas, nobody's images")
        write_phantoms(images, PATIENTS)
    stage(f"2/5 Training {ARCHITECTURE} at {SIZE} px")
    best = run / BEST
    found = state(run)
    if found == "resumable":
        best = training.resume(run)
    elif found != "finished":
        options = TrainOptions(
            DataSource(str(images.resolve())),
            ARCHITECTURE,
            size=SIZE,
            epochs=EPOCHS,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
        )
        best = training.train(options, run)
    stage("3/5 Optimizing to INT8")
    tolerance, registration = read_tolerance(margins)
    outcome = optimize(
        Options(best, out=bundle, int8=True, tolerance=tolerance, registration=registration, replace=True)
    )
    stage("4/5 Verifying the bundle on this machine")
    found = verify(bundle)
    stage(f"  {found.files} files as they were written; runs here: {found.runs}")
    stage("5/5 Benchmarking")
    opened = open_bundle(bundle)
    eager = candidate(opened.manifest.spec, out)
    local = Local(find_samples(held_out_folder(images), opened.manifest.decision.classes), images)
    rows = benchmark(opened, local, opened.manifest.threads, (eager,) if eager else ()).rows

    report = outcome.report
    if as_json:
        threads = opened.manifest.threads
        print_json(Benchmarked(str(bundle), report.chosen, report.reference, str(images), threads, report.cpu, rows))
        return 0 if report.verdict == "pass" and found.runs else 1
    title = f"SYNTHETIC phantom radiographs, {report.held_out} test images, {report.cpu.kind}, 1 thread"
    print_table(rows, title, report.chosen)
    click.echo(f"{report.verdict.upper()}: {report.reason}")
    click.echo("The images are synthetic: nothing here says anything about real radiographs.")
    click.echo(f"bundle: {bundle}\nreport: {bundle / 'report.html'}")
    click.echo(f"took {time.monotonic() - started:.0f} s")
    return 0 if report.verdict == "pass" and found.runs else 1
