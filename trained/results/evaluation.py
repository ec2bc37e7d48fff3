"""A trained model, checkpoint or bundle, judged on labelled images: its own held-out ones or others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.data.samples import Sample, count_by_class
from ...benchmarks.progress import track
from ...benchmarks.statistics.assessment import DRAWS
from ...benchmarks.statistics.metrics import require_scikit_learn
from ...runtime.bundle import CALIBRATION_FILE, MANIFEST, Bundle, Calibration
from ...runtime.decision import Decision
from ...runtime.errors import BundleError, CheckpointError, DataError, ImageError, InputError
from ...runtime.preprocessing import Preprocessing
from ...runtime.records import from_json
from ..data.held_out import Part, images_to_judge
from ..data.splits import DataSource
from ..run_files import BEST, OPTIONS, RESUME, WARNINGS, read_warnings
from .predictions import predictions_of
from .run_report import METRICS, Data, RunReport, Training, plain_history, write_report

_BATCH = 32


@dataclass(frozen=True)
class Evaluated:
    """What was judged and what was found; ``ran`` says what computed the answers."""

    report: RunReport
    part: Part
    ran: str


@dataclass(frozen=True)
class _Model:
    """A model opened, whatever it is stored as.

    ``source`` is where its training images lay and ``split`` their fingerprint; None and all text that may hold it
    where that is not known. ``calibrated``: pixel hashes of the images INT8 ranges were taken from. ``warnings``: of
    its training.
    """

    architecture: str
    decision: Decision
    preprocessing: Preprocessing
    source: DataSource | None
    split: str
    training: Training
    ran: str
    probabilities: Callable[[Sequence[Path]], npt.NDArray[np.float64]]
    calibrated: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def evaluate(
    path: Path,
    data: Path | None = None,
    part: Part | None = None,
    variant: str | None = None,
    out: Path | None = None,
    draws: int = DRAWS,
    source: DataSource | None = None,
) -> Evaluated:
    """Judge a model.

    Args:
        path: ``best.pth``, the folder of a run, or a bundle.
        data: labelled images; None takes those the checkpoint was trained with. Where they are others than those, and
            no part is asked for, they are all judged, or those of their test folder.
        part: None is ``test``.
        variant: of a bundle; None takes the one it would run here.
        out: gets the files of :mod:`medcompress.trained.results.run_report`; None writes nothing.
        draws: of the intervals.
        source: what ``data`` are, where that is not as the model's own were; in place of ``data``.

    Raises:
        CheckpointError, BundleError: the model cannot be read.
        DataError: the images cannot be used, or their classes are not the model's.
        EngineError: no variant of the bundle runs here.
        InputError: nothing to judge on, or ``out`` holds something else.
        MachineError: a package is missing, or ``out`` cannot be written.
    """
    require_scikit_learn()
    path = find_model(path)
    if out is not None and (out / OPTIONS).exists():
        raise InputError(f"{out}: holds a training, whose own figures would be overwritten; give another --out")
    model = _open_bundle(path, variant) if path.is_dir() else _open_checkpoint(path, variant)
    images = images_to_judge(model.decision.classes, model.source, model.split, data, source, part, model.calibrated)
    own = (f"of its training: {told}" for told in model.warnings if told not in images.warnings)
    samples, folder = images.samples, images.folder
    classes = model.decision.classes
    probabilities = model.probabilities([sample.path for sample in samples])
    found = predictions_of(samples, folder, classes, probabilities)
    part = part or "test"
    told = Data(
        str(folder),
        images.split,
        {part: count_by_class(samples, classes)},
        {part: len(set(found.patients))},
        {part: found.fingerprint},
    )
    report = write_report(
        out,
        str(path),
        model.architecture,
        model.decision,
        model.preprocessing,
        told,
        {part: found},
        model.training,
        (*images.warnings, *own),
        draws,
    )
    return Evaluated(report, part, model.ran)


def find_model(path: Path) -> Path:
    """``best.pth`` of a run's folder; a checkpoint or a bundle as it is.

    Raises:
        InputError: a folder that is neither, or an ONNX file.
    """
    if path.suffix.lower() == ".onnx":
        raise InputError(f"{path}: an ONNX file does not say its classes or preprocessing; give the bundle it lies in")
    if not path.is_dir() or (path / MANIFEST).is_file():
        return path
    if (path / BEST).is_file():
        return path / BEST
    members = sorted(entry.name for entry in path.iterdir() if (entry / BEST).is_file())
    if members:
        raise InputError(
            f"{path}: holds several trainings ({', '.join(members)}); name one, as {path / members[0]}, or see "
            "them together with: medcompress compare"
        )
    inside = f"; it holds {METRICS} only" if (path / METRICS).is_file() else ""
    raise InputError(f"{path}: is no bundle and holds no best.pth{inside}; give a checkpoint, a run or a bundle")


def _open_checkpoint(path: Path, variant: str | None) -> _Model:
    if variant is not None:
        raise InputError(f"--variant {variant}: a checkpoint has none; leave it out, or give a bundle")
    from ..checkpoint import load_checkpoint, rebuild

    checkpoint = load_checkpoint(path)
    network = rebuild(checkpoint)
    spec = checkpoint.spec

    def probabilities(images: Sequence[Path]) -> npt.NDArray[np.float64]:
        import torch

        from ..data.datasets import ImageDataset
        from ..networks.prediction import predict

        blank = tuple(0 for _ in spec.decision.classes)
        held = [Sample(image, blank, "") for image in images]
        # In parts, so that memory does not bound how many there are.
        parts = range(0, len(held), 16 * _BATCH)
        moved = network.to("cuda" if torch.cuda.is_available() else "cpu")
        outputs = [
            predict(moved, ImageDataset(held[start : start + 16 * _BATCH], spec.preprocessing, name="images"))
            for start in track(parts, "Answering", len(parts))
        ]
        return spec.decision.probabilities(_finite(np.concatenate(outputs), path))

    training = Training(_options_beside(path), plain_history(checkpoint.history), checkpoint.epoch)
    return _Model(
        spec.architecture,
        spec.decision,
        spec.preprocessing,
        checkpoint.data,
        checkpoint.split,
        training,
        "torch fp32",
        probabilities,
        warnings=_warnings_beside(path),
    )


def _open_bundle(path: Path, variant: str | None) -> _Model:
    from ...runtime.predictor import load

    # Every image that is given is judged, also one the kiosk would refuse.
    predictor = load(path, variant=variant, guard="off")
    manifest = predictor.bundle.manifest
    classes = manifest.decision.classes

    def probabilities(images: Sequence[Path]) -> npt.NDArray[np.float64]:
        answers = []
        for start in track(range(0, len(images), _BATCH), "Answering", -(-len(images) // _BATCH)):
            try:
                answers += predictor.predict_batch(images[start : start + _BATCH])
            except ImageError as error:
                raise DataError(f"{error}; mend or remove the file") from error
        predictor.close()
        return np.array([[answer.probabilities[name] for name in classes] for answer in answers])

    executed = predictor.executed
    return _Model(
        str(manifest.spec.get("architecture", "")),
        manifest.decision,
        manifest.preprocessing,
        None,
        str(manifest.lineage.get("split", "")),
        Training({}, [], 0),
        f"{predictor.variant.name} ({executed.precision} on {executed.device})",
        probabilities,
        _calibrated(predictor.bundle),
    )


def _calibrated(bundle: Bundle) -> tuple[str, ...]:
    if CALIBRATION_FILE not in bundle.manifest.files:
        return ()
    path = bundle.check(CALIBRATION_FILE)
    return from_json(path.read_bytes(), Calibration, str(path), BundleError).sha256


def _finite(logits: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if not np.isfinite(logits).all():
        raise CheckpointError(f"{path}: gives outputs that are not numbers; train it again with a lower --lr")
    return logits


def _options_beside(path: Path) -> dict[str, Any]:
    """What a run left beside its checkpoint; nothing where it is gone, for the checkpoint does not need it."""
    try:
        found = msgspec.json.decode((path.parent / OPTIONS).read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _warnings_beside(path: Path) -> tuple[str, ...]:
    """What was said of the training a checkpoint lies in, and that it is not finished."""
    folder = path.parent
    found = read_warnings(folder) if (folder / WARNINGS).is_file() else ()
    if (folder / RESUME).is_file():
        found = (f"it is not finished (go on with: medcompress train --resume {folder})", *found)
    return found
