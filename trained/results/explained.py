"""A checkpoint's answers, explained: which images are drawn, and the contact sheets of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...benchmarks.data.rendering import render_all
from ...benchmarks.data.samples import Sample
from ...benchmarks.progress import stage, track
from ...runtime.decision import Decision
from ...runtime.errors import InputError, MachineError
from ..checkpoint import Checkpoint, load_checkpoint, rebuild
from ..data.datasets import in_order, normalization_table, normalize
from ..data.splits import located, split_of
from ..spec import ModelSpec
from .contact_sheet import Row, draw_sheet, write_sheet
from .explanation import BATCH, TargetLayer, answered, explain, require_grad_cam, target_layer

# A side of fewer cells tells one half of the image from the other, and not much more.
LEAST_GRID = 4

Sheets = dict[Path, tuple[Row, ...]]


@dataclass(frozen=True)
class _Explainer:
    """A network that answers and is explained; ``column``: of the class that is asked for, if one is."""

    name: str
    network: nn.Module
    spec: ModelSpec
    layer: TargetLayer
    column: int | None

    def sheet(
        self,
        path: Path,
        samples: Sequence[Sample],
        logits: npt.NDArray[Any],
        columns: npt.NDArray[np.intp],
        what: str,
    ) -> tuple[Row, ...]:
        """Write the sheet of these images; ``columns`` says which class each heat map is of."""
        spec = self.spec
        pixels = render_all([sample.path for sample in samples], spec.preprocessing)
        heat = explain(self.network, spec, pixels, columns.tolist(), self.layer)
        rows = tuple(
            _row(spec.decision, sample, outputs, column)
            for sample, outputs, column in zip(samples, logits, columns, strict=True)
        )
        height, width = self.layer.grid
        coarse = "a coarse grid" if min(height, width) >= LEAST_GRID else "too coarse to say where"
        layer = f"layer {self.layer.name}, {height} x {width}: {coarse}"
        note = f"Grad-CAM of {spec.architecture} ({self.name}), {layer}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sheet(path, draw_sheet(rows, heat, spec.preprocessing, what, note))
        except OSError as error:
            raise MachineError(f"{path}: cannot be written ({error.strerror}); give another --out") from error
        return rows


def explain_images(
    checkpoint: Path, images: Sequence[Path], out: Path, class_name: str | None = None, per_sheet: int = 8
) -> tuple[str, Sheets]:
    """Contact sheets, ``images.png`` or ``images-1.png`` and so on, of these images, whose truth is not known.

    Returns:
        the layer's name, and the sheets with their rows.

    Raises:
        CheckpointError: see :func:`medcompress.trained.checkpoint.load_checkpoint`.
        InputError: no such class, or a network that cannot be explained.
        DataError: images that cannot be read.
    """
    explainer, _ = _explainer(checkpoint, class_name)
    unknown = (-1,) * len(explainer.spec.decision.classes)
    samples = [Sample(path, unknown, str(path)) for path in images]
    logits = _logits(explainer, samples)
    columns = _columns(explainer, logits)
    sheets: Sheets = {}
    batches = in_order(len(samples), per_sheet)
    for number, batch in enumerate(batches, 1):
        path = out / (f"images-{number}.png" if len(batches) > 1 else "images.png")
        title = f"Images {batch[0] + 1} to {batch[-1] + 1} of {len(samples)}"
        sheets[path] = explainer.sheet(path, [samples[i] for i in batch], logits[batch], columns[batch], title)
    return explainer.layer.name, sheets


def explain_part(
    checkpoint: Path,
    out: Path,
    data: Path | None = None,
    part: str = "test",
    per_class: int = 8,
    class_name: str | None = None,
    seed: int = 0,
) -> tuple[str, Sheets]:
    """A contact sheet for each class, ``CLASS.png``, of images of one part of the checkpoint's own data.

    Args:
        checkpoint: of ours.
        out: folder of the sheets.
        data: where the images lie now; None looks where they were.
        part: ``train``, ``val`` or ``test``.
        per_class: images a sheet: the surest wrong answers first, at most half of them, then others by chance.
        class_name: only this class's sheet, explained for it; None explains each answer, and with several
            findings the one of the sheet.
        seed: of the chance.

    Returns, Raises: see :func:`explain_images`; also:
        DataError: the images are not there.
    """
    explainer, stored = _explainer(checkpoint, class_name)
    decision = explainer.spec.decision
    samples = _samples(stored, checkpoint, data, part)
    logits = _logits(explainer, samples)
    columns = _columns(explainer, logits)
    targets = np.array([sample.target for sample in samples])
    wrong = _wrong(decision, targets, logits)
    sure = decision.probabilities(logits).max(axis=1)
    sheets: Sheets = {}
    for index, name in enumerate(decision.classes):
        members = np.flatnonzero(targets[:, index] == 1)
        if explainer.column not in (None, index):
            continue
        if not len(members):
            stage(f"{name}: no {part} image has it, so it has no sheet")
            continue
        rng = np.random.default_rng((seed, index))
        judged = wrong[:, [index]] if decision.kind == "multilabel" else wrong
        missed = judged.max(axis=1)[members]
        chosen = _choose(members, missed, sure, per_class, rng)
        of_class = np.full(len(chosen), index) if decision.kind == "multilabel" else columns[chosen]
        path = out / f"{_file_name(name)}.png"
        title = f"{name}: {len(chosen)} of {len(members)} {part} images ({missed.sum()} of all are answered wrong)"
        sheets[path] = explainer.sheet(path, [samples[i] for i in chosen], logits[chosen], of_class, title)
    return explainer.layer.name, sheets


def _explainer(path: Path, class_name: str | None) -> tuple[_Explainer, Checkpoint]:
    require_grad_cam()
    checkpoint = load_checkpoint(path)
    column = None if class_name is None else _column(checkpoint.spec.decision, class_name)
    network = rebuild(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    layer = target_layer(network, checkpoint.spec)
    name = f"{path.absolute().parent.name}/{path.name}"
    return _Explainer(name, network, checkpoint.spec, layer, column), checkpoint


def _column(decision: Decision, name: str) -> int:
    if name in decision.classes:
        return decision.classes.index(name)
    lowered = {known.lower(): known for known in decision.classes}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    hint = f"did you mean {lowered[close[0]]}?" if close else f"it is one of {', '.join(decision.classes)}"
    raise InputError(f"--class {name!r} is no class of the checkpoint; {hint}")


def _samples(checkpoint: Checkpoint, path: Path, data: Path | None, part: str) -> tuple[Sample, ...]:
    split = split_of(located(checkpoint.data, data, path), checkpoint.spec.decision.classes)
    if split.fingerprint != checkpoint.split:
        stage("note: these are not the images the checkpoint was trained with, or they changed since")
    return getattr(split, part)


def _logits(explainer: _Explainer, samples: Sequence[Sample]) -> npt.NDArray[Any]:
    preprocessing = explainer.spec.preprocessing
    device = next(explainer.network.parameters()).device
    table = normalization_table(preprocessing).to(device)
    outputs = []
    with torch.inference_mode():
        for batch in track(in_order(len(samples), BATCH), "Answers"):
            pixels = render_all([samples[index].path for index in batch], preprocessing)
            inputs = normalize(torch.from_numpy(pixels).to(device), table)
            outputs.append(explainer.network(inputs).float().cpu().numpy())
    return np.concatenate(outputs)


def _columns(explainer: _Explainer, logits: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    if explainer.column is not None:
        return np.full(len(logits), explainer.column)
    return answered(explainer.spec.decision, logits)


def _wrong(
    decision: Decision, targets: npt.NDArray[np.integer[Any]], logits: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """(N, classes): where the answer is not the truth; what is unknown is not wrong."""
    answers = decision.answers(decision.probabilities(logits))
    return (answers != (targets == 1)) & (targets >= 0)


def _choose(
    members: npt.NDArray[np.intp],
    missed: npt.NDArray[np.bool_],
    sure: npt.NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.intp]:
    """The surest wrong answers, at most half of ``count``, then of the right ones by chance, in the data's order."""
    bad, good = members[missed], members[~missed]
    bad = bad[np.argsort(-sure[bad], kind="stable")]
    shown = max(count // 2, count - len(good))
    good = np.sort(rng.permutation(good)[: count - min(shown, len(bad))])
    return np.concatenate([bad[:shown], good])


def _row(decision: Decision, sample: Sample, logits: npt.NDArray[Any], column: int) -> Row:
    probabilities = decision.probabilities(logits[None])
    answers = decision.answers(probabilities)[0]
    targets = np.array(sample.target)
    named = [", ".join(np.array(decision.classes)[chosen]) for chosen in (targets == 1, answers)]
    known = targets >= 0
    if decision.kind == "multilabel":  # The finding that is explained; of the others nothing is shown.
        known &= np.arange(len(targets)) == column
    right = bool((answers == (targets == 1))[known].all()) if known.any() else None
    return Row(sample.path, named[0], named[1], float(probabilities[0, column]), decision.classes[column], right)


def _file_name(name: str) -> str:
    """A class name as a file name: letters of any script and digits stay."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "class"
