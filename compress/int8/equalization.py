"""Channels scaled against each other before quantization, so that one range for all of them wastes less.

A tensor has one scale for all its channels, and a channel whose values are small beside the others' gets few of the 256
levels. What a layer gives is divided by a factor a channel, what reads it multiplied by the same: the network computes
what it did. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section
4.1, https://arxiv.org/abs/1906.04721; with the balance of Xiao et al., "SmoothQuant", ICML 2023,
https://arxiv.org/abs/2211.10438.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .constants import Constants
from .gates import closed_at, is_gate
from .graph import WEIGHTED, Graph, attributes
from .ranges import Ranges

Floats: TypeAlias = npt.NDArray[np.floating]

# Of the disparity, the share that goes from a tensor to the weights that read it. A depthwise convolution has a weight
# scale for each channel: it takes all of it, and loses nothing.
BALANCE = 0.5
# A channel is enlarged by no more than this against the largest: images not calibrated on may exceed its range.
LARGEST = 1000.0
# A gate (x * sigmoid(x)) needs a product more: it is paid for where a depthwise convolution reads the tensor and the
# typical channel has less than this share of the range.
GATED_BELOW = 0.35

_NORMALIZATIONS = ("LayerNormalization", "BatchNormalization")
_HOMOGENEOUS = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "Identity"}
_GLOBAL_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "ReduceMean"}
_SHAPES = {"Reshape", "Flatten", "Squeeze"}


@dataclass
class _Scope:
    """What a factor a channel put on what one node gives reaches, up to the layers that take it back out.

    Attributes:
        by_image: the channels are axis 1, as convolutions have them; else the last.
        channels: how many.
        tensors: all that are scaled.
        layers: that take it out.
        added: nodes that add a constant on the way, and which of their inputs that is.
        gates: sigmoids that are to see the tensor as it was.
        pooled: of the tensors, those with one value a channel.
    """

    by_image: bool
    channels: int
    tensors: list[str]
    layers: list[onnx.NodeProto] = field(default_factory=list)
    added: list[tuple[onnx.NodeProto, int]] = field(default_factory=list)
    gates: list[onnx.NodeProto] = field(default_factory=list)
    pooled: set[str] = field(default_factory=set)

    def along(self, factors: Floats) -> Floats:
        """The factors in a shape to multiply a tensor by."""
        return factors.reshape(-1, 1, 1) if self.by_image else factors


def equalize(prepared: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto | None:
    """The same function with its channels scaled, or None where nothing can be.

    Its tensors keep their names, but not their values: their ranges are to be gathered again.

    Args:
        prepared: the float graph.
        ranges: of its tensors.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    graph = Graph(model)
    constants = Constants(graph)
    changed = False
    for source in list(model.graph.node):
        scope = _scope(graph, source)
        factors = _factors(graph, scope, ranges) if scope is not None else None
        if scope is None or factors is None:
            continue
        _divide(graph, constants, source, factors)
        for node, place in scope.added:
            _scale(constants, node, place, scope.along(1 / factors))
        for layer in scope.layers:
            _multiply(graph, constants, layer, factors)
        for gate in scope.gates:
            _multiply_before(graph, constants, gate, scope.along(factors))
        changed = True
    return model if changed else None


def _scope(graph: Graph, source: onnx.NodeProto) -> _Scope | None:
    """Of what a node gives, where it can divide it and everything that reads it can multiply it back."""
    if source.op_type in WEIGHTED and source.input[1] in graph.constants:
        dims = graph.constants[source.input[1]].dims
        if len(dims) != (4 if source.op_type == "Conv" else 2):
            return None
        channels = dims[graph.output_axis(source)]
    elif source.op_type in _NORMALIZATIONS and all(name in graph.constants for name in source.input[1:]):
        dims = graph.constants[source.input[1]].dims
        if len(dims) != 1:
            return None
        channels = dims[0]
    else:
        return None
    scope = _Scope(source.op_type in {"Conv", "BatchNormalization"}, channels, [source.output[0]])
    outputs = {output.name for output in graph.model.graph.output}
    for name in scope.tensors:  # it grows
        if name in outputs or not all(_takes(graph, scope, reader, name) for reader in graph.consumers[name]):
            return None
    return scope if scope.layers else None


def _takes(graph: Graph, scope: _Scope, reader: onnx.NodeProto, name: str) -> bool:
    """Whether a reader of a scaled tensor takes the factors out again, or hands them on; the scope grows by it."""
    kind = reader.op_type
    others = [each for each in reader.input if each != name]
    if len(others) != len(reader.input) - 1:
        return False
    if kind in WEIGHTED:
        scope.layers.append(reader)
        return _reads(graph, scope, reader, name)
    if is_gate(graph, reader, name):
        scope.gates.append(reader)
        return True
    if kind == "Add" and others[0] in graph.constants and name not in scope.pooled:
        scope.added.append((reader, list(reader.input).index(others[0])))
    elif (kind in _GLOBAL_POOLS and scope.by_image and _is_spatial(graph, reader)) or (
        kind in _SHAPES and name in scope.pooled
    ):
        scope.pooled.add(reader.output[0])
    elif kind == "Mul":  # read twice, the second time tells
        if set(others) & set(scope.tensors):
            return False
    elif kind not in _HOMOGENEOUS or ("Pool" in kind and not scope.by_image):
        return False
    if reader.output[0] not in scope.tensors:
        scope.tensors.append(reader.output[0])
    return True


def _reads(graph: Graph, scope: _Scope, layer: onnx.NodeProto, name: str) -> bool:
    """Whether a layer's weight counts the scope's channels."""
    if layer.input[0] != name or layer.input[1] not in graph.constants:
        return False
    dims, given = graph.constants[layer.input[1]].dims, attributes(layer)
    if layer.op_type == "Conv":
        return scope.by_image and len(dims) == 4 and dims[1] * given.get("group", 1) == scope.channels
    pooled = layer.op_type == "Gemm" and name in scope.pooled
    if (scope.by_image and not pooled) or len(dims) != 2 or given.get("transA", 0):
        return False
    return dims[1 - graph.output_axis(layer)] == scope.channels


def _is_spatial(graph: Graph, pool: onnx.NodeProto) -> bool:
    """Whether a pool leaves the channels (axis 1) apart."""
    if pool.op_type != "ReduceMean":
        return True
    axes = attributes(pool).get("axes")
    if axes is None and len(pool.input) > 1 and pool.input[1] in graph.constants:
        axes = numpy_helper.to_array(graph.constants[pool.input[1]]).tolist()
    return axes is not None and sorted(axis % 4 for axis in axes) == [2, 3]


def _factors(graph: Graph, scope: _Scope, ranges: Ranges) -> Floats | None:
    """By what each channel is divided (C,); None where it would not pay."""
    read = dict.fromkeys(layer.input[0] for layer in scope.layers if not graph.is_pooled(layer))
    shares = []
    # What goes into a gate is quantized too, where a convolution's output is.
    lows = dict.fromkeys(read, -np.inf) | {gate.input[0]: closed_at(gate) for gate in scope.gates}
    for name, closed in lows.items():
        found = ranges.tensors.get(name)
        if found is not None:
            width = np.maximum(-np.maximum(found.channel_low, closed), found.channel_high).clip(0)
            shares.append(width / max(width.max(), 1e-30))
    if not shares or {len(share) for share in shares} != {scope.channels}:
        return None
    share = np.max(shares, axis=0)
    depthwise = any(graph.is_depthwise(layer) for layer in scope.layers)
    used = share > 0
    if used.sum() < 2 or (scope.gates and not (depthwise and np.median(share[used]) < GATED_BELOW)):
        return None
    share[~used] = np.exp(np.log(share[used]).mean())
    share = np.maximum(share, 1 / LARGEST)
    weights = [_greatest(graph, layer) for layer in scope.layers if not graph.is_depthwise(layer)]
    weights = [each for each in weights if each is not None]
    if depthwise or not weights:
        factors = share
    else:
        greatest = np.max(weights, axis=0)
        greatest = np.maximum(greatest / max(greatest.max(), 1e-30), 1 / LARGEST)
        factors = share**BALANCE / greatest ** (1 - BALANCE)
    factors = factors / np.exp(np.log(factors).mean())
    return factors.astype(np.float32)


def _greatest(graph: Graph, layer: onnx.NodeProto) -> Floats | None:
    """Of a layer's weights, by input channel (C,); None of one in squeeze and excitation, that stays float."""
    if graph.is_pooled(layer):
        return None
    weight = np.abs(graph.weight(layer))
    if layer.op_type != "Conv":
        return weight.max(axis=graph.output_axis(layer))
    groups = attributes(layer).get("group", 1)
    return weight.reshape(groups, -1, *weight.shape[1:]).max(axis=(1, 3, 4)).ravel()


def _divide(graph: Graph, constants: Constants, source: onnx.NodeProto, factors: Floats) -> None:
    """What a node gives, by its constants."""
    if source.op_type in _NORMALIZATIONS:
        for place in range(1, min(len(source.input), 3)):
            _scale(constants, source, place, 1 / factors)
        return
    shape = np.ones(len(graph.constants[source.input[1]].dims), int)
    shape[graph.output_axis(source)] = -1
    _scale(constants, source, 1, (1 / factors).reshape(shape))
    if len(source.input) > 2 and source.input[2]:
        _scale(constants, source, 2, 1 / factors)


def _multiply(graph: Graph, constants: Constants, layer: onnx.NodeProto, factors: Floats) -> None:
    """What a layer reads, by its weight."""
    dims = graph.constants[layer.input[1]].dims
    if layer.op_type != "Conv":
        _scale(constants, layer, 1, factors if graph.output_axis(layer) == 0 else factors[:, None])
        return
    groups = attributes(layer).get("group", 1)
    ours = np.repeat(factors.reshape(groups, -1), dims[0] // groups, axis=0)  # (outputs, inputs of a group)
    _scale(constants, layer, 1, ours.reshape(*ours.shape, *[1] * (len(dims) - 2)))


def _scale(constants: Constants, node: onnx.NodeProto, place: int, factors: Floats) -> None:
    array = constants.array(node.input[place])
    constants.change(node, place, (array * factors).astype(array.dtype))


def _multiply_before(graph: Graph, constants: Constants, node: onnx.NodeProto, factors: Floats) -> None:
    """Let a node read its input times a constant."""
    name = node.input[0]
    node.input[0] = constants.free(f"{name}_unscaled")
    inputs = [name, constants.new(f"{name}_factors", factors)]
    mul = onnx.helper.make_node("Mul", inputs, [node.input[0]], f"{node.input[0]}_Mul")
    nodes = graph.model.graph.node
    nodes.insert(list(nodes).index(node), mul)
