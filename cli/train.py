"""``medcompress train``: a folder of images to ``best.pth``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import click

from ..runtime.errors import InputError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
# Options that a resumed run takes from its folder.
_FIXED = (
    "arch",
    "size",
    "epochs",
    "batch_size",
    "lr",
    "weights",
    "out",
    "seed",
    "patient_pattern",
    "patients_csv",
    "positive",
)


@click.command("train")
@click.option("--data", type=_FOLDER, help="Folder with train (val, test) parts, or a folder per class.")
@click.option("--arch", default="resnet18", show_default=True, help="Network of timm or torchvision.")
@click.option("--size", default=224, show_default=True, help="Side of the square input, pixels.")
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(2))
@click.option("--lr", default=1e-3, show_default=True, help="Highest learning rate of the one-cycle schedule.")
@click.option(
    "--weights",
    type=click.Choice(["scratch", "imagenet"]),
    default="scratch",
    show_default=True,
    help="imagenet downloads them.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: runs/DATA-ARCH]")
@click.option("--resume", type=_FOLDER, metavar="RUN", help="Go on with the interrupted run in this folder.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--patient-pattern", help="Regular expression for file names; its first group is the patient.")
@click.option("--patients-csv", type=_FILE, help="Table with the columns file and patient.")
@click.option("--positive", default="", help="Of two classes, the finding; by default the one not named healthy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    data: Path | None,
    arch: str,
    size: int,
    epochs: int,
    batch_size: int,
    lr: float,
    weights: Literal["scratch", "imagenet"],
    out: Path | None,
    resume: Path | None,
    seed: int,
    patient_pattern: str | None,
    patients_csv: Path | None,
    positive: str,
    as_json: bool,
) -> None:
    """Train a classifier on a folder of images.

    Images are split by patient, never by image. The result is best.pth, the epoch with the highest validation
    AUROC, judged once on the test images.
    """
    started = time.monotonic()
    if resume is not None:
        given = [
            name for name in _FIXED if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            option = given[0].replace("_", "-")
            raise InputError(f"--{option} cannot be changed in a run that is resumed; leave it out")
    elif data is None:
        raise InputError("--data is missing; give the folder of the images, or --resume RUN")

    from ..trained import training
    from ..trained.checkpoint import load_checkpoint
    from ..trained.splits import DataSource

    try:
        if resume is not None:
            best = training.resume(resume, data)
        else:
            assert data is not None
            source = DataSource(
                str(data.resolve()), patient_pattern, str(patients_csv.resolve()) if patients_csv else None, seed
            )
            name = f"{data.resolve().name}-{arch.rpartition('/')[2]}"
            try:
                options = training.TrainOptions(source, arch, size, epochs, batch_size, lr, weights, positive)
            except ValueError as error:
                raise InputError(f"{error}; see medcompress train --help") from error
            best = training.train(options, out or Path("runs") / name)
    except KeyboardInterrupt as interrupt:
        click.echo(str(interrupt) or "stopped; nothing was trained", err=True)
        context.exit(130)

    checkpoint = load_checkpoint(best)
    result = {
        "checkpoint": str(best),
        "metrics": checkpoint.metrics,
        "epochs": len(checkpoint.history),
        "classes": list(checkpoint.spec.decision.classes),
        "architecture": checkpoint.spec.architecture,
        "seconds": round(time.monotonic() - started, 1),
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    rows = {
        "checkpoint": result["checkpoint"],
        "architecture": result["architecture"],
        "classes": ", ".join(result["classes"]),
        "epochs": result["epochs"],
        "time": f"{result['seconds']:.0f} s",
        **{name.replace("_", " "): f"{value:.4f}" for name, value in result["metrics"].items()},
    }
    for name, value in rows.items():
        click.echo(f"{name:18} {value}")
