"""``medcompress optimize``: from best.pth to a proven bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runtime.errors import InputError
from .dicom import dicom_options
from .documents import as_json_option, print_json
from .duration import Duration

if TYPE_CHECKING:
    from ..compress.pruning.importance import Importance
    from ..compress.pruning.target import Kind


@click.command("optimize")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Make INT8 forms; without it, float forms only.")
@click.option("--data", type=click.Path(path_type=Path), help="The images; by default where the checkpoint found them.")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder; by default beside the checkpoint.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="For one inference.")
@click.option(
    "--target",
    default="cpu",
    show_default=True,
    help="cpu (of this machine), gpu (NVIDIA), intel-gpu, npu (Intel), auto (as OpenVINO chooses), cpu-vnni, cpu-avx2, "
    "cpu-arm; several with commas: cpu,gpu.",
)
@click.option("--tolerance", type=click.Path(path_type=Path), help="YAML file with the margins of the gate.")
@click.option("--metadata", type=click.Path(path_type=Path), help="CSV with the columns of the tolerance's subgroups.")
@click.option(
    "--accept-inconclusive",
    is_flag=True,
    help="Let a form through that is not shown to be as good; the report tells.",
)
@click.option(
    "--accept-leaks", is_flag=True, help="Go on where training images are among the held-out; the report says so."
)
@click.option(
    "--calibration",
    type=click.IntRange(min=16),
    default=300,
    show_default=True,
    help="Training images INT8 ranges are taken from, at most.",
)
@click.option(
    "--budget",
    type=Duration(),
    default="60m",
    show_default=True,
    help="Time for pruning, recovery and finding the INT8 forms, 30m or 2h; a step that was begun is finished.",
)
@click.option("--macs", type=float, help="Prune to this share of the multiply-accumulates: 0.25.")
@click.option("--params", type=float, help="Prune to this share of the parameters.")
@click.option("--latency-ms", type=float, help="Prune until the fastest form takes so many milliseconds here.")
@click.option(
    "--auto", is_flag=True, help="Search for the fastest pruned network that is still as good; implies --int8."
)
@click.option(
    "--epochs",
    type=click.IntRange(min=0),
    help="Of recovery after pruning; by default 6, and more where images are few.",
)
@click.option("--rounds", type=click.IntRange(1, 20), help="Of pruning and recovery; by default by the target.")
@click.option(
    "--importance",
    type=click.Choice(["magnitude", "taylor"]),
    help="By which channels are chosen: by their weights (the default), or by what training images make of them.",
)
@click.option("--keep", multiple=True, metavar="LAYER", help="A layer whose channels all stay, with * and ?.")
@click.option("--shrink-to", type=click.IntRange(16, 4096), help="Side in pixels the pruned network looks at.")
@click.option(
    "--fine-tune/--no-fine-tune",
    default=True,
    show_default=True,
    help="Train on with the quantization in place where the gate would refuse all that is cheaper.",
)
@click.option(
    "--review/--no-review", default=True, help="Leave a report with the patients' pictures beside the bundle."
)
@dicom_options
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
    metadata: Path | None,
    accept_inconclusive: bool,
    calibration: int,
    budget: float,
    macs: float | None,
    params: float | None,
    latency_ms: float | None,
    auto: bool,
    epochs: int | None,
    rounds: int | None,
    importance: Importance | None,
    keep: tuple[str, ...],
    shrink_to: int | None,
    fine_tune: bool,
    review: bool,
    accept_leaks: bool,
    modality: tuple[str, ...],
    body_part: tuple[str, ...],
    dicom: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Turn CHECKPOINT into the fastest form that is shown, on its held-out images, not to be worse.

    The verdict is PASS, FAIL (worse than the margins allow) or INCONCLUSIVE (too few images to say). Exit codes: 0 a
    form passed, 1 none did (the FP32 bundle is kept), 2 wrong input, 3 something is missing.
    Stopped at any point, the same command goes on from its last finished stage.
    """
    from ..benchmarks.tolerance import BETWEEN_NETWORKS, Tolerance, read_tolerance
    from ..compress.optimize import optimize
    from ..compress.options import Options
    from ..compress.pruning.options import Pruning
    from ..compress.pruning.target import Target

    targets: dict[Kind, float | None] = {"macs": macs, "params": params, "latency-ms": latency_ms}
    given = [Target(kind, value) for kind, value in targets.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"--{given[0].kind} and --{given[1].kind}: give one target of pruning")
    of_pruning = {"rounds": rounds, "importance": importance, "keep": keep or None, "shrink-to": shrink_to}
    if not auto:
        of_pruning["epochs"] = epochs
    unused = [f"--{name}" for name, value in of_pruning.items() if value is not None]
    if unused and not given:
        raise InputError(f"{unused[0]}: goes with a target of pruning; give --macs, --params or --latency-ms")
    shrunk = (shrink_to, shrink_to) if shrink_to else None
    pruning = Pruning(given[0], importance or "magnitude", rounds or 0, epochs, keep, shrunk) if given else None
    if pruning and auto:
        raise InputError(f"--auto searches for the target itself; leave --{given[0].kind} out")
    usual = BETWEEN_NETWORKS if pruning or auto else Tolerance()
    margins, registration = read_tolerance(tolerance) if tolerance else (usual, None)
    outcome = optimize(
        Options(
            checkpoint=checkpoint,
            data=data,
            out=out,
            int8=int8 or auto,
            targets=tuple(name.strip() for name in target.split(",")),
            threads=threads,
            tolerance=margins,
            registration=registration,
            metadata=metadata,
            replace=force,
            accept_leaks=accept_leaks,
            accept_inconclusive=accept_inconclusive,
            calibration=calibration,
            minutes=budget,
            fine_tune=fine_tune,
            pruning=pruning,
            auto=auto,
            epochs=epochs,
            review=review,
            modality=modality,
            body_part=body_part,
            dicom=dicom,
        )
    )
    report = outcome.report
    if as_json:
        from .documents import Optimized

        print_json(
            Optimized(
                bundle=str(outcome.bundle),
                verdict=report.verdict,
                reason=report.reason,
                chosen=report.chosen,
                reference=report.reference_row,
                variants=report.rows,
                accepted=report.accepted,
                cautions=report.cautions,
                review=str(outcome.review) if outcome.review else None,
                networks=report.networks,
                checkpoints=tuple(map(str, outcome.networks)),
            )
        )
    else:
        from .table import print_table

        for caution in report.cautions:
            click.echo(f"CAUTION: {caution}")
        click.echo(f"{report.verdict.upper()}{' (accepted)' if report.accepted else ''}: {report.reason}")
        title = f"{report.model}; {report.held_out} held-out images; {report.threads} thread(s), {report.cpu.kind}"
        print_table(report.rows, title, report.chosen)
        click.echo(f"bundle: {outcome.bundle}\nreport: {outcome.bundle / 'report.html'}")
        for network in outcome.networks:
            click.echo(f"pruned checkpoint: {network}")
        if outcome.review:
            click.echo(f"for the reviewer, with pictures of the patients whose answer changed: {outcome.review}")
    return 0 if report.verdict == "pass" or report.accepted else 1
