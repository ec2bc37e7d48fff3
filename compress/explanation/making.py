"""A network's explanation, made where the network is exported: the graph that weighs its feature maps, and of what."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...runtime.errors import MedcompressError, first_line, is_full_disk
from ...runtime.records import from_json, to_json
from ...trained.results.explanation import target_layer
from ...trained.spec import ModelSpec
from .cut import cut
from .gradient import write_graph
from .tensors import find

# Beside the network's FP32 file.
GRAPH = "explanation.onnx"
_RECORD = "explanation.json"


class Explained(msgspec.Struct, frozen=True):
    """How a network's answers are explained.

    Attributes:
        tensors: of its FP32 file, what :data:`GRAPH` takes, the feature maps first; empty where they are not.
        grid: (height, width) of the feature maps.
        layer: that gives them.
        why: they are not.
    """

    tensors: tuple[str, ...] = ()
    grid: tuple[int, int] = (0, 0)
    layer: str = ""
    why: str = ""


def make_explanation(network: nn.Module, spec: ModelSpec, image: npt.NDArray[np.float32], reference: Path) -> Explained:
    """Write the graph beside the network's FP32 file, and a record of what it takes, or why there is none.

    An explanation that cannot be made costs the bundle its heat maps, and nothing else.

    Args:
        network: in evaluation mode.
        image: (C, H, W), real and prepared.
        reference: the exported file.

    Raises:
        OSError: the disk is full.
    """
    try:
        layer = target_layer(network, spec)
        parts = cut(network, layer, torch.from_numpy(image[None]))
        tensors = find(reference, image[None], parts.values(torch.from_numpy(image[None])))
        write_graph(parts, layer, reference.with_name(GRAPH))
        found = Explained(tensors, layer.grid, layer.name)
    except Exception as error:  # torch and its exporters raise what they like
        if is_full_disk(error):
            raise
        found = Explained(why=reason(error))
    reference.with_name(_RECORD).write_bytes(to_json(found))
    return found


def explained_beside(reference: Path) -> Explained:
    """The record of a network's FP32 file."""
    record = reference.with_name(_RECORD)
    if not record.is_file():
        return Explained(why="it was exported without an explanation")
    return from_json(record.read_bytes(), Explained, str(record))


def reason(error: Exception) -> str:
    """Why there are no heat maps, in one line."""
    said = first_line(error, 300)
    return said if isinstance(error, MedcompressError) else f"{type(error).__name__}: {said}"
