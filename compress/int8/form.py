"""What an emitted Q/DQ graph really holds, read back from it: every layer as the engine will see it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from ...runtime.errors import MachineError
from .graph import WEIGHTED, Graph, attributes


class Stored(NamedTuple):
    """One operand on its grid; ``levels`` are None for an activation, ``axis`` None for a grid of the whole tensor."""

    levels: npt.NDArray[np.integer] | None
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.integer]
    axis: int | None


class Layer(NamedTuple):
    """A layer whose weight is stored in 8 bits."""

    name: str
    activation: Stored
    weight: Stored
    bias: Stored | None
    output_axis: int
    depthwise: bool


def quantized_layers(model: onnx.ModelProto, *, float_layers: tuple[str, ...] = ()) -> list[Layer]:
    """Of a Q/DQ graph.

    Args:
        model: the graph.
        float_layers: layers that must not be among them.

    Raises:
        MachineError: there is none, one is half in 8 bits, or one of ``float_layers`` is not float.
    """
    graph = Graph(model)
    found = []
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        weight = _stored(graph, node.input[1])
        if weight is None or weight.levels is None:
            continue
        name = node.output[0]
        if name in float_layers:
            raise MachineError(f"the layer {name} is to stay float, and its weight is in {weight.levels.dtype}")
        activation = _stored(graph, node.input[0])
        if activation is None or activation.levels is not None:
            raise MachineError(f"the layer {name} has an INT8 weight, and its input is not quantized")
        bias = _stored(graph, node.input[2]) if len(node.input) > 2 else None
        transposed = node.op_type == "Conv" or attributes(node).get("transB", 0)
        axis = 0 if transposed else weight.levels.ndim - 1
        depthwise = node.op_type == "Conv" and attributes(node).get("group", 1) > 1 and weight.levels.shape[1] == 1
        found.append(Layer(name, activation, weight, bias, axis, depthwise))
    if not found:
        raise MachineError("no weight was quantized; the graph has no INT8 layer")
    return found


def check_weight(layer: Layer, limit: int) -> None:
    """Signed 8 bits within a limit, symmetric, one grid an output.

    Raises:
        MachineError: it is not.
    """
    levels, scale, zero_point, axis = layer.weight
    assert levels is not None
    if levels.dtype != np.int8 or np.abs(levels.astype(np.int16)).max(initial=0) > limit:
        bits = 8 if limit > 64 else 7
        raise MachineError(f"the weight of the layer {layer.name} is not within {bits} bits, signed")
    if zero_point.any():
        raise MachineError(f"the weight of the layer {layer.name} has a zero point that is not 0")
    if axis != layer.output_axis or scale.shape != (levels.shape[layer.output_axis],):
        raise MachineError(f"the weight of the layer {layer.name} has not one scale an output")
    check_scale(layer.name, scale)


def check_scale(name: str, scale: npt.NDArray[np.floating]) -> None:
    """Positive and finite.

    Raises:
        MachineError: it is not.
    """
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise MachineError(f"{name} has a scale that is not a positive number")


def activations(model: onnx.ModelProto) -> dict[str, Stored]:
    """Every tensor a graph quantizes as it runs, by name; one on two grids has the second under its pair's name.

    Raises:
        MachineError: a scale or a zero point is computed, or a scale is not a positive number.
    """
    graph = Graph(model)
    found: dict[str, Stored] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            stored = _grid(graph, node, None)
            check_scale(node.input[0], stored.scale)
            found[node.output[0] if node.input[0] in found else node.input[0]] = stored
    return found


def _stored(graph: Graph, name: str) -> Stored | None:
    """What a DequantizeLinear makes; None of anything else."""
    made_by = graph.producers.get(name)
    if made_by is None or made_by.op_type != "DequantizeLinear":
        return None
    source = graph.constants.get(made_by.input[0])
    if source is not None:
        return _grid(graph, made_by, onnx.numpy_helper.to_array(source))
    quantize = graph.producers.get(made_by.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        raise MachineError(f"{name} is dequantized, and was not quantized before")
    before, after = _grid(graph, quantize, None), _grid(graph, made_by, None)
    if not (np.array_equal(before.scale, after.scale) and np.array_equal(before.zero_point, after.zero_point)):
        raise MachineError(f"{name} is dequantized on another grid than it was quantized on")
    return after


def _grid(graph: Graph, node: onnx.NodeProto, levels: npt.NDArray[np.integer] | None) -> Stored:
    constants = [graph.constants.get(name) for name in node.input[1:] if name]
    if not constants or any(tensor is None for tensor in constants):
        raise MachineError(f"the grid of {node.input[0]} is not constant")
    scale, *rest = (onnx.numpy_helper.to_array(tensor) for tensor in constants if tensor is not None)
    zero_point = rest[0] if rest else np.zeros(scale.shape, np.uint8 if levels is None else levels.dtype)
    axis = None
    if scale.ndim:
        rank = levels.ndim if levels is not None else 4
        axis = attributes(node).get("axis", 1)
        axis += rank if axis < 0 else 0
    return Stored(levels, scale, zero_point, axis)
