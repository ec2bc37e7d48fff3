"""What a finished run leaves beside its checkpoint, and what an evaluation leaves:

metrics.json      this module's RunReport: figures with intervals, options, history, versions, machine
predictions.csv   probabilities of every validation and test image (patient data: see the module predictions)
summary.md        one page, to be read first
curves.png, confusion.png, roc.png, pr.png, reliability.png
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.data.samples import count_by_class
from ...benchmarks.report.plots import confusion_plot, learning_plot, precision_recall_plot, reliability_plot, roc_plot
from ...benchmarks.statistics.assessment import DRAWS, Assessment, assess_judged
from ...runtime.decision import Decision
from ...runtime.errors import InputError, MachineError
from ...runtime.hardware import Cpu, this_cpu
from ...runtime.preprocessing import Preprocessing
from ...runtime.records import from_json, to_json, write_whole
from ..run_files import BEST
from .predictions import FILE, Predictions, predictions_of, read_predictions, to_csv
from .summary import summary

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..data.splits import Split

SCHEMA = 1
METRICS, SUMMARY = "metrics.json", "summary.md"
_PACKAGES = ("numpy", "pillow", "scikit-learn", "torch", "torchvision", "timm", "lightning", "onnxruntime", "openvino")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it ran. ``gpu``: the maker's name for it, empty without one."""

    cpu: Cpu
    gpu: str = ""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The images.

    Attributes:
        folder: where they lay.
        split: fingerprint of all parts together; empty where there is none.
        images: of each part, by class; an image with several findings counts for each.
        patients: of each part.
        fingerprints: of each judged part, see :attr:`medcompress.trained.results.predictions.Predictions.fingerprint`.
    """

    folder: str
    split: str
    images: dict[str, dict[str, int]]
    patients: dict[str, int]
    fingerprints: dict[str, str]


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model came about.

    Attributes:
        options: :class:`medcompress.trained.learning.options.TrainOptions`, as plain types; empty where they are not
            known.
        history: a row of figures an epoch.
        epoch: the one that was kept.
        seconds: the whole run took; None where it is not known.
        command: that repeats it.
    """

    options: dict[str, Any]
    history: list[dict[str, float | None]]
    epoch: int
    seconds: float | None = None
    command: str = ""


class RunReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``metrics.json``.

    Attributes:
        schema: of this record; others are refused.
        created: UTC, ISO 8601.
        model: the file or folder that was judged.
        parts: what was found on each part that was judged: ``val`` and ``test`` of a run.
        warnings: what a reader must know before the figures, a sentence each.
    """

    schema: int
    created: str
    model: str
    architecture: str
    decision: Decision
    preprocessing: Preprocessing
    data: Data
    parts: dict[str, Assessment]
    training: Training
    machine: Machine
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()


def write_run_report(
    out: Path,
    checkpoint: Checkpoint,
    split: Split,
    logits: Mapping[str, npt.NDArray[np.floating]],
    options: msgspec.Struct | dict[str, Any],
    seconds: float | None = None,
    command: str = "",
    warnings: Sequence[str] = (),
    draws: int = DRAWS,
) -> RunReport:
    """Judge a finished training on its held-out parts, and leave all files in ``out``.

    Args:
        checkpoint: the best one, with the whole history.
        split: the images it was trained with.
        logits: by part (``val``, ``test``): raw outputs (N, classes) in the order of the part's samples.
        options: the run was started with.
        seconds: it took.
        command: that repeats it.
        warnings: of the data and the run, a sentence each.

    Raises:
        DataError: outputs that do not line up with the samples, or are not numbers.
        MachineError: ``out`` cannot be written, or matplotlib or scikit-learn are not installed.
    """
    spec = checkpoint.spec
    parts = {
        part: predictions_of(
            getattr(split, part), split.folder, spec.decision.classes, spec.decision.probabilities(np.asarray(found))
        )
        for part, found in logits.items()
    }
    samples = {part: getattr(split, part) for part in ("train", "val", "test")}
    data = Data(
        str(split.folder),
        checkpoint.split,
        {part: count_by_class(found, spec.decision.classes) for part, found in samples.items()},
        {part: len({sample.patient for sample in found}) for part, found in samples.items()},
        {part: found.fingerprint for part, found in parts.items()},
    )
    training = Training(
        msgspec.to_builtins(options), plain_history(checkpoint.history), checkpoint.epoch, seconds, command
    )
    return write_report(
        out,
        str(out / BEST),
        spec.architecture,
        spec.decision,
        spec.preprocessing,
        data,
        parts,
        training,
        tuple(warnings),
        draws,
    )


def write_report(
    out: Path | None,
    model: str,
    architecture: str,
    decision: Decision,
    preprocessing: Preprocessing,
    data: Data,
    parts: Mapping[str, Predictions],
    training: Training,
    warnings: tuple[str, ...],
    draws: int,
    seed: int = 0,
) -> RunReport:
    """Judge predictions, and leave the files in ``out`` (None leaves none); see :func:`write_run_report`."""
    judged = {part: found.judged(decision) for part, found in parts.items()}
    report = RunReport(
        SCHEMA,
        datetime.now(UTC).isoformat(timespec="seconds"),
        model,
        architecture,
        decision,
        preprocessing,
        data,
        {part: assess_judged(found, draws, seed) for part, found in judged.items()},
        training,
        Machine(this_cpu(), _gpu()),
        _versions(),
        warnings,
    )
    if out is None:
        return report
    # The plots are of what no decision was taken on; a run without a test part shows what it has.
    part = "test" if "test" in judged else next(iter(judged))
    name = f"{Path(model).resolve().parent.name if training.history else Path(model).name}, {part}"
    title = f"{name}, {len(judged[part])} images"
    files = {
        "confusion.png": confusion_plot(judged[part], title),
        "roc.png": roc_plot(judged[part], title),
        "pr.png": precision_recall_plot(judged[part], title),
        "reliability.png": reliability_plot(judged[part], title),
        FILE: to_csv(parts),
        SUMMARY: summary(report, part).encode(),
        # Last: a folder with it has all the others.
        METRICS: to_json(report),
    }
    if training.history:
        curves = learning_plot(training.history, training.epoch, name.rpartition(", ")[0])
        files = {"curves.png": curves, **files}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            write_whole(out / file, content)
    except OSError as error:
        raise MachineError(
            f"{out}: cannot be written ({error.strerror}); free disk space or give another --out"
        ) from error
    return report


def read_run(folder: Path) -> tuple[RunReport, dict[str, Predictions]]:
    """What a run left: its report, and the predictions of each part.

    Raises:
        InputError: missing, damaged, of another schema, or the two do not belong together.
    """
    path = folder / METRICS
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give the folder of a finished run, or make one with: "
            "medcompress evaluate CHECKPOINT --out DIR"
        ) from error
    report = from_json(stored, RunReport, str(path))
    if report.schema != SCHEMA:
        raise InputError(f"{path}: is of schema {report.schema}, this medcompress reads {SCHEMA}; update medcompress")
    parts = read_predictions(folder / FILE)
    for part, assessment in report.parts.items():
        rows = len(parts[part].files) if part in parts else 0
        if rows != assessment.images + assessment.unknown or (
            rows and parts[part].fingerprint != report.data.fingerprints.get(part)
        ):
            raise InputError(
                f"{folder}: {FILE} and {METRICS} do not line up on the {part} images; one was changed: evaluate the "
                "model again with: medcompress evaluate MODEL --out DIR"
            )
    return report, parts


def plain_history(history: Sequence[Mapping[str, float]]) -> list[dict[str, float | None]]:
    """Rows JSON can hold: what is not a finite number is None."""
    return [{name: float(value) if np.isfinite(value) else None for name, value in row.items()} for row in history]


def _versions() -> dict[str, str]:
    found = {"medcompress": version("medcompress"), "python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpu() -> str:
    torch: Any = sys.modules.get("torch")  # a bundle is judged without it
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def artifacts(out: Path) -> list[Path]:
    """The files of a run's report that may be shown to others: all but the patients' predictions."""
    return [path for path in (out / METRICS, out / SUMMARY, *sorted(out.glob("*.png"))) if path.is_file()]
