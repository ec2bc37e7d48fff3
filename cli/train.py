"""``medcompress train``: a data set to ``best.pth``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from ..benchmarks.progress import leads
from ..runtime.errors import InputError
from .config import as_yaml, config_options
from .dicom import dicom_options
from .sections import Sectioned
from .source import NAMES as SOURCE
from .source import source_from, source_options

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
# Names of the options that are fields of TrainOptions.
_FIELDS = (
    *("architecture", "head", "weights", "weights_input", "size", "strategy", "backbone_lr", "unfreeze", "epochs"),
    *("batch_size", "accumulate", "learning_rate", "weight_decay", "clip", "schedule", "loss", "label_smoothing"),
    *("teacher", "teacher_share", "balance", "augmentation", "flips", "normalization", "precision", "cache"),
    *("patience", "save_every", "positive"),
    *("seed", "track", "devices", "skip_unreadable", "drop_leaks"),
    *("modality", "body_part", "dicom"),
)


# The options that begin a section of --help.
_SECTIONS = {"data": "Data", "architecture": "Network", "strategy": "Learning", "devices": "Run"}


def _whole(context: click.Context, parameter: click.Parameter, path: str) -> str:
    """A path that is the same from every folder: a resumed run looks for it again."""
    return str(Path(path).resolve()) if path else ""


def _choice(*names: str) -> click.Choice[str]:
    return click.Choice(names)


@click.command("train", cls=Sectioned, sections=_SECTIONS)
@click.option("--data", help="Folder of images, MedMNIST .npz file, or name of a MedMNIST set.")
@source_options
@click.option("--positive", default="", help="Of two classes, the finding; by default the one not named healthy.")
@click.option(
    "--per-class",
    default=0,
    type=click.IntRange(0),
    help="Train on so many images a class only.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read; they are listed.")
@click.option("--drop-leaks", is_flag=True, help="Leave out training images that are copies of held-out ones.")
@dicom_options
@click.option("--cache", type=_choice("auto", "memory", "disk", "none"), default="auto", help="Of decoded images.")
@click.option("--arch", "architecture", default="resnet18", show_default=True, help="Network of timm or torchvision.")
@click.option("--head", type=_choice("linear", "mlp", "mlp-bn"), default="linear", show_default=True)
@click.option(
    "--weights",
    default="scratch",
    show_default=True,
    help="scratch, imagenet (downloads them), a best.pth whose backbone is taken, or a file of feature weights.",
)
@click.option(
    "--weights-input",
    type=_choice("library", "caffe-bgr"),
    default="library",
    show_default=True,
    help="What the weights of such a file expect.",
)
@click.option("--size", default=0, help="Side of the square input, pixels.  [default: as the network and task have it]")
@click.option("--strategy", type=_choice("full", "frozen", "two-stage", "gradual"), default="full", show_default=True)
@click.option("--backbone-lr", default=1.0, show_default=True, help="Rate of all but the head, as a share of --lr.")
@click.option(
    "--unfreeze", default=0, type=click.IntRange(0), help="Gradual: train at most the last N groups of layers."
)
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(2), help="Of each process.")
@click.option("--accumulate", default=1, show_default=True, type=click.IntRange(1), help="Batches a step.")
@click.option("--lr", "learning_rate", default=1e-3, show_default=True, help="Highest learning rate of the schedule.")
@click.option("--weight-decay", default=0.05, show_default=True)
@click.option("--clip", default=1.0, show_default=True, help="Largest norm of the gradient; 0 does not clip.")
@click.option(
    "--schedule", type=_choice("one-cycle", "cosine", "plateau", "constant"), default="one-cycle", show_default=True
)
@click.option("--loss", type=_choice("cross-entropy", "focal"), default="cross-entropy", show_default=True)
@click.option("--label-smoothing", default=0.0, show_default=True)
@click.option("--teacher", default="", callback=_whole, help="Checkpoint whose answers are learned; chooses the epoch.")
@click.option("--teacher-share", default=0.9, show_default=True, help="Of the loss; the rest is the labels'.")
@click.option(
    "--balance",
    type=_choice("loss", "sampler", "none"),
    default="loss",
    show_default=True,
    help="Unequal classes: weigh them in the loss, draw them equally often, or leave them.",
)
@click.option("--augmentation", type=_choice("none", "light", "strong"), default="light", show_default=True)
@click.option("--flips", type=_choice("auto", "none", "horizontal", "both"), default="auto", show_default=True)
@click.option(
    "--normalization",
    type=_choice("auto", "data", "imagenet"),
    default="auto",
    show_default=True,
    help="Mean and std: computed from the data at the training size, or ImageNet's; auto takes those of --weights.",
)
@click.option("--precision", type=_choice("auto", "fp32", "bf16", "fp16"), default="auto", show_default=True)
@click.option("--patience", default=6, show_default=True, type=click.IntRange(0), help="Early stopping; 0 is never.")
@click.option("--save-every", default=0, type=click.IntRange(0), help="Also keep a checkpoint every N epochs.")
@click.option("--devices", default=1, show_default=True, type=click.IntRange(1), help="GPUs, or processes of the CPU.")
@click.option("--folds", default=0, type=click.IntRange(0), help="Cross-validation by patient, in K trainings.")
@click.option("--repeats", default=1, type=click.IntRange(1), help="Train so many times, from --seed on.")
@click.option("--track", multiple=True, type=_choice("mlflow", "tensorboard", "wandb"), help="May be repeated.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: runs/DATA-ARCH]")
@click.option("--resume", type=_FOLDER, metavar="RUN", help="Go on with the interrupted run in this folder.")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, print_config: bool, resume: Path | None, as_json: bool, **params: Any) -> None:
    """Train a classifier.

    Images are split by patient, never by image. The result is best.pth, the epoch with the highest validation AUROC
    (with --teacher: with the answers nearest to its), judged once on the test images, with its figures and plots
    beside it.
    """
    started = time.monotonic()
    if print_config:
        click.echo(as_yaml(context), nl=False)
        return
    if resume is None and params["data"] is None:
        raise InputError("--data is missing; give the folder of the images, or --resume RUN")

    # torch's own warnings of processes that train together are of no use to anybody.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    try:
        from ..trained.learning import training

        if resume is not None:
            found = [training.resume(resume, _moved(params["data"]), *_given(context))]
        else:
            found = _train(params)
    except KeyboardInterrupt as interrupt:
        click.echo(str(interrupt) or _stopped(resume, params), err=True)
        context.exit(130)
    if not leads():
        return
    results = [_result(best, time.monotonic() - started) for best in found]
    if as_json:
        click.echo(json.dumps(results[0] if len(results) == 1 else {"trainings": results}, indent=2))
    else:
        _show(results)


def _train(params: dict[str, Any]) -> Sequence[Path]:
    from ..trained.learning.options import TrainOptions
    from ..trained.learning.studies import parts_of, run_study
    from ..trained.learning.training import train
    from ..trained.networks.architectures import resolve

    source = source_from(params["data"], **{name: params[name] for name in SOURCE})
    source = msgspec.structs.replace(source, per_class=params["per_class"])
    values: dict[str, Any] = {name: params[name] for name in _FIELDS}
    values["architecture"] = resolve(params["architecture"])
    try:
        options = TrainOptions(source=source, **values)
    except ValueError as error:
        raise InputError(f"{error}; see medcompress train --help") from error
    name = f"{Path(params['data']).resolve().stem}-{options.architecture.rpartition('/')[2]}"
    out: Path = params["out"] or Path("runs") / name
    if params["folds"] or params["repeats"] > 1:
        return run_study(parts_of(options, params["folds"], params["repeats"]), out)
    return [train(options, out)]


def _stopped(resume: Path | None, params: dict[str, Any]) -> str:
    if resume is not None:
        return f"stopped; go on with: medcompress train --resume {resume}"
    if params["folds"] or params["repeats"] > 1:
        return "stopped; the same command goes on from the last finished epoch"
    return "stopped before the first epoch was finished; nothing was kept"


def _moved(data: str | None) -> Path | None:
    return Path(data) if data is not None else None


def _given(context: click.Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the user named again for a resumed run, in the call or in a file: of the training, and of the data."""
    default = click.core.ParameterSource.DEFAULT
    given = {name: value for name, value in context.params.items() if context.get_parameter_source(name) is not default}
    for name in ("out", "folds", "repeats"):
        usual = next(option.default for option in context.command.params if option.name == name)
        if given.get(name, usual) != usual:
            raise InputError(f"--{name} does not go with --resume; leave it out")
    asked = {name: given[name] for name in _FIELDS if name in given and name != "seed"}
    source = {name: given[name] for name in (*SOURCE, "per_class") if name in given}
    return asked, {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in source.items()}


def _result(best: Path, seconds: float) -> dict[str, Any]:
    from ..trained.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(best)
    return {
        "checkpoint": str(best),
        "metrics": checkpoint.metrics,
        "epochs": len(checkpoint.history),
        "classes": list(checkpoint.spec.decision.classes),
        "architecture": checkpoint.spec.architecture,
        "seconds": round(seconds, 1),
    }


def _show(results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        rows = {
            "checkpoint": result["checkpoint"],
            "architecture": result["architecture"],
            "classes": ", ".join(result["classes"]),
            "epochs": result["epochs"],
            **{name.replace("_", " "): f"{value:.4f}" for name, value in result["metrics"].items()},
        }
        for name, value in rows.items():
            click.echo(f"{name:18} {value}")
    click.echo(f"{'time':18} {results[-1]['seconds']:.0f} s")
