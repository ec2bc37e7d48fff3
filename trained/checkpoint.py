"""``best.pth``: weights and everything needed to rebuild, feed and judge the network, as plain types only."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from ..runtime.errors import CheckpointError, InputError, first_line
from ..runtime.records import write_whole
from .data.splits import DataSource
from .foreign import read_torch, refuse_foreign
from .networks.architectures import build
from .spec import ModelSpec

FORMAT = 1
# The key that tells our files from other people's.
MARK = "medcompress_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, at the end of one epoch.

    Attributes:
        spec: rebuilds the module and its input.
        weights: the module's ``state_dict``, on the CPU.
        data: where its images lay.
        split: fingerprint of the images and parts it was trained with.
        metrics: ``val_auroc``, ``val_loss`` and, at the end of training, the ``test_`` ones.
        history: one row of figures an epoch.
        epoch: of these weights, the first is 1.
        medcompress: version that wrote it.
        format: of the file.
    """

    spec: ModelSpec
    weights: dict[str, torch.Tensor]
    data: DataSource
    split: str
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    medcompress: str = field(default_factory=lambda: version("medcompress"))
    format: int = FORMAT


class _Header(msgspec.Struct):
    """What a file holds beside the weights; validates it on reading."""

    spec: ModelSpec
    data: DataSource
    split: str
    metrics: dict[str, float]
    history: list[dict[str, float]]
    epoch: int
    medcompress: str


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file, if any, is untouched.
    """
    header = {name: getattr(checkpoint, name) for name in _Header.__struct_fields__}
    payload = {
        MARK: checkpoint.format,
        **msgspec.to_builtins(header),
        # Contiguous: the file must not depend on the memory layout training happened to use.
        "weights": {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.weights.items()},
    }
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; no code in the file is ever run.

    Raises:
        CheckpointError: missing, empty, damaged, a pickle, another tool's, of a newer format, or with weights
            that are not finite numbers.
    """
    payload = read_torch(path)
    if not isinstance(payload, dict) or MARK not in payload:
        raise refuse_foreign(path, payload)
    found = payload[MARK]
    if not isinstance(found, int) or found > FORMAT:
        raise CheckpointError(
            f"{path}: is of checkpoint format {found}, this medcompress reads up to {FORMAT}; update medcompress"
        )
    try:
        header = msgspec.convert(
            {name: payload[name] for name in _Header.__struct_fields__ if name in payload}, _Header
        )
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: its description is damaged ({error}); train it again") from error
    weights = payload.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: holds no weights; train it again")
    broken = first_not_finite(weights)
    if broken:
        raise CheckpointError(
            f"{path}: weight {broken} holds NaN or infinite values, so the training diverged; "
            "train again with a lower --lr"
        )
    fields: dict[str, Any] = msgspec.structs.asdict(header)
    return Checkpoint(weights=weights, format=found, **fields)


def rebuild(checkpoint: Checkpoint) -> nn.Module:
    """The trained network in evaluation mode: (N, C, H, W) float32 to raw outputs (N, classes).

    Raises:
        CheckpointError: the weights are not those of the network the spec names.
    """
    architecture = checkpoint.spec.architecture
    try:
        network = build(checkpoint.spec)
    except CheckpointError:
        raise
    except InputError as error:
        raise CheckpointError(
            f"the checkpoint's network cannot be rebuilt here: {error}; install the timm and torchvision it was "
            "trained with"
        ) from error
    own, kept = network.state_dict(), checkpoint.weights
    for problem, names in (
        ("lacks", own.keys() - kept.keys()),
        ("has too much", kept.keys() - own.keys()),
        ("has in another shape", {name for name in own.keys() & kept.keys() if own[name].shape != kept[name].shape}),
    ):
        if names:
            first = min(names)
            shapes = f" ({_shape(kept[first])} there, {_shape(own[first])} needed)" if "shape" in problem else ""
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"the weights do not fit {architecture} of the checkpoint's spec: it {problem} {first}{shapes}{more}; "
                "install the timm and torchvision it was trained with, or train it again"
            )
    network.load_state_dict(checkpoint.weights, strict=True)
    network.eval()
    if checkpoint.spec.pruning or checkpoint.spec.shrunk:
        _refuse_broken(network, checkpoint.spec)
    return network


def _refuse_broken(network: nn.Module, spec: ModelSpec) -> None:
    """Refuse a record of pruning that fits layer by layer, and with which the network does not run."""
    shrunk, size = spec.shrunk or spec.preprocessing.size, spec.preprocessing.size
    if not all(0 < one <= most for one, most in zip(shrunk, size, strict=True)):
        raise CheckpointError(
            f"the checkpoint's spec resamples images of {size[0]} x {size[1]} pixels to {shrunk[0]} x {shrunk[1]}, "
            "which is not smaller; train it again"
        )
    try:
        with torch.inference_mode():
            network(torch.zeros(1, *spec.preprocessing.shape))
    except Exception as error:
        why = first_line(error)
        raise CheckpointError(
            f"the checkpoint's network does not run as its spec says it was pruned ({why}); install the timm and "
            "torchvision it was pruned with, or prune it again"
        ) from error


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def first_not_finite(weights: dict[str, torch.Tensor]) -> str:
    """Name of the first tensor with NaN or infinite values; empty if there is none."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return ""
