"""The tensors heat maps are made of, in a network's ONNX file and in the forms made of it.

They are found by their values: nothing is assumed of how an exporter names what, or in which order it computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from ...runtime.engines import load_engine
from ...runtime.errors import MedcompressError
from ..int8.graph import Graph

Floats = npt.NDArray[np.float32]

# Of the largest value: as far as float32 sums in another order differ over a deep network.
_EQUAL = 1e-3


def find(model: Path, image: Floats, wanted: Sequence[Floats]) -> tuple[str, ...]:
    """The names of the tensors that have these values.

    Args:
        model: the FP32 ONNX file.
        image: (1, C, H, W).
        wanted: of each tensor, its values for that image, (1, ...).

    Raises:
        MedcompressError: the file computes one of them in no place.
    """
    shapes = {values.shape[1:] for values in wanted}
    loaded = onnx.load(model)
    # An Identity's output may be gone once the graph is optimized.
    passed = {name for node in loaded.graph.node if node.op_type == "Identity" for name in node.output}
    names = [
        value.name
        for value in loaded.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        and tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:] in shapes
        and value.name not in passed
    ]
    del loaded
    found: list[str] = []
    given = values_of(model, names, image) if names else []
    for values in wanted:
        alike = [
            (float(np.abs(own - values).max()), -place)
            for place, own in enumerate(given)
            if own.shape == values.shape
        ]  # fmt: skip
        off, place = min(alike, default=(np.inf, 0))
        if not off <= _EQUAL * max(float(np.abs(values).max()), 1e-12):
            raise MedcompressError("the exported file does not compute what its heat maps are made of")
        found.append(names[-place])
    return tuple(found)


def values_of(model: Path, names: Sequence[str], image: Floats) -> list[Floats]:
    """Of some tensors of an ONNX file, for one image (1, C, H, W)."""
    engine = load_engine("onnxruntime", [model], "fp32", threads=1, tensors=names)
    _, *found = engine.run_all(image)
    engine.close()
    return found


def restored(quantized: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The same tensors of a form, as what follows reads them: after their quantization where they are quantized.

    A tensor before its quantization is one no engine fuses into an integer kernel: asked for, it would cost time, and
    the answer would be another one.

    Args:
        quantized: a graph of QuantizeLinear and DequantizeLinear nodes.

    Raises:
        MedcompressError: the form has no such tensor.
    """
    graph = Graph(onnx.load(quantized))
    found = []
    for name in names:
        if name not in graph.producers:
            raise MedcompressError("the form does not compute what its heat maps are made of")
        read = [node.output[0] for node in graph.consumers[name] if node.op_type == "QuantizeLinear"]
        after = [node.output[0] for each in read for node in graph.consumers[each]]
        found.append(after[0] if after else name)
    return tuple(found)


def scales(reference: Path, changed: Path, names: Sequence[str], images: Floats) -> list[Floats]:
    """What the channels of tensors are to be multiplied by to be those of the reference, where they were equalized.

    Args:
        changed: the equalized float graph.
        images: (N, C, H, W).

    Returns:
        for each tensor, an array that spreads over it.

    Raises:
        MedcompressError: they are not the same but for a factor a channel.
    """
    ours_of, theirs_of = ([values_of(model, names, each[None]) for each in images] for model in (reference, changed))
    found = []
    for place in range(len(names)):
        ours, theirs = (np.concatenate([each[place] for each in of]).astype(np.float64) for of in (ours_of, theirs_of))
        axis = 1 if ours.ndim == 4 else ours.ndim - 1
        across = tuple(other for other in range(ours.ndim) if other != axis)
        power = (theirs * theirs).sum(axis=across, keepdims=True)
        factors = np.where(power > 0, (ours * theirs).sum(axis=across, keepdims=True) / np.maximum(power, 1e-30), 1)
        if np.abs(ours - factors * theirs).max() > _EQUAL * max(np.abs(ours).max(), 1e-12):
            raise MedcompressError("its channels were changed by more than a factor")
        found.append(factors.astype(np.float32))
    return found
