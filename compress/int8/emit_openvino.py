"""INT8 graphs for OpenVINO's CPU plugin: Q/DQ pairs on what layers with weights read, converted to its own format.

A depthwise convolution takes each channel on a grid of its own, for its channels differ most and its products are
never summed over channels. CPUs without VNNI add pairs of u8 x s8 products in 16 bits: there weights have 7 bits.
https://docs.openvino.ai/2026/documentation/openvino-extensibility/openvino-plugin-library/advanced-guides/quantized-models.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from openvino.op import Constant

from ...runtime.errors import MachineError
from .form import quantized_layers
from .graph import Graph
from .plan import Kind, Plan
from .qdq import FULL, REDUCED, Insertion, layers_to_quantize, rectified_sums, unsigned
from .ranges import Ranges

_WEIGHTED = {"Convolution", "GroupConvolution", "MatMul"}
_POOLINGS = {"MaxPool", "AveragePool"}
_RESTORING = {"Convert", "Subtract", "Multiply", "Reshape"}


def emit(prepared: Path, ranges: Ranges, plan: Plan, kind: Kind) -> onnx.ModelProto:
    """The Q/DQ graph of a float graph.

    Raises:
        MachineError: no layer can be quantized, or weights are not finite.
    """
    graph = Graph(onnx.load(prepared))
    layers = layers_to_quantize(graph, plan)
    depthwise = [graph.is_depthwise(layer) and graph.weight(layer).ndim == 4 for layer in layers]
    sums, joins = rectified_sums(graph), _joins(graph, {layer.output[0] for layer in layers})
    insertion = Insertion(graph, ranges, plan, unsigned)
    for layer, each_channel in zip(layers, depthwise, strict=True):
        insertion.activation(layer, 0, per_channel=each_channel)
        insertion.weight(layer, REDUCED if kind == "avx2" else FULL)
    for node in sums:
        insertion.activation(node, 0)
        insertion.activation(node, 1)
    for node in joins:
        for index in range(len(node.input)):
            insertion.activation(node, index, like=node.output[0])
    return insertion.model()


def _joins(graph: Graph, quantized: set[str]) -> list[onnx.NodeProto]:
    """Concatenations that only quantized layers and poolings read: on one grid their parts need no second rounding."""
    found = []
    for node in graph.model.graph.node:
        readers = graph.consumers[node.output[0]] if node.op_type == "Concat" else []
        if readers and all(
            reader.op_type in _POOLINGS or (reader.output[0] in quantized and not graph.is_depthwise(reader))
            for reader in readers
        ):
            found.append(node)
    return found


def write(model: onnx.ModelProto, path: Path, kind: Kind, *, float_layers: tuple[str, ...] = ()) -> list[Path]:
    """Write a Q/DQ graph as OpenVINO's xml and bin, and check what was written.

    Raises:
        MachineError: OpenVINO cannot take it, or the written form is not that of its kind.
    """
    expected = len(quantized_layers(model, float_layers=float_layers))
    try:
        converted = ov.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1][:300]
        raise MachineError(f"{path.name}: OpenVINO cannot convert the network ({reason})") from error
    ov.save_model(converted, path, compress_to_fp16=False)
    check_form(path, kind, layers=expected)
    return [path, path.with_suffix(".bin")]


def check_form(path: Path, kind: Kind, *, layers: int | None = None) -> None:
    """The postcondition, of an xml file with its bin.

    Args:
        path: of the xml file.
        kind: of CPU.
        layers: how many layers must be quantized.

    Raises:
        MachineError: it is not of the form its CPU needs; the message says where.
    """
    limit = REDUCED if kind == "avx2" else FULL
    found = 0
    for op in ov.Core().read_model(path).get_ops():
        name = f"{path.name}: the layer {op.get_friendly_name().removesuffix('/WithoutBiases')}"
        if op.get_type_name() == "FakeQuantize":
            if op.get_attributes()["levels"] != 256 or _reader(op) != "u8":
                raise MachineError(f"{path.name}: {op.get_friendly_name()} does not quantize to unsigned 8 bits")
        elif op.get_type_name() in _WEIGHTED and (weight := _stored(op.input_value(1).get_node())) is not None:
            found += 1
            _check_weight(name, op, weight, limit)
            if not _is_quantized(op.input_value(0).get_node()):
                raise MachineError(f"{name} has an INT8 weight, and its input is not quantized")
    if not found:
        raise MachineError(f"{path.name}: no weight was quantized; the graph has no INT8 layer")
    if layers is not None and found != layers:
        raise MachineError(f"{path.name}: {found} layers are quantized, and {layers} were to be")


def _check_weight(name: str, op: ov.Node, weight: Constant, limit: int) -> None:
    levels = weight.get_data()
    if weight.get_element_type() != ov.Type.i8 or np.abs(levels.astype(np.int16)).max(initial=0) > limit:
        raise MachineError(f"{name} has a weight that is not within {8 if limit > REDUCED else 7} bits, signed")
    scales = max((node.get_data().size for node in _constants(op.input_value(1).get_node(), "f32")), default=0)
    outputs = op.output(0).partial_shape[1 if "Convolution" in op.get_type_name() else -1].get_length()
    if scales != outputs:
        raise MachineError(f"{name} has not one weight scale an output")


def _above(node: ov.Node) -> Iterator[ov.Node]:
    """What restores a quantized tensor, from the last step up."""
    while node.get_type_name() in _RESTORING:
        yield node
        node = node.input_value(0).get_node()
    yield node


def _constants(node: ov.Node, kind: str) -> Iterator[Constant]:
    for step in _above(node):
        for value in step.input_values()[1:]:
            *_, end = _above(value.get_node())
            if isinstance(end, Constant) and end.get_element_type().get_type_name() == kind:
                yield end


def _stored(node: ov.Node) -> Constant | None:
    """The 8-bit constant a layer's weight is restored from; None where it is float, or no constant."""
    *_, end = _above(node)
    if not isinstance(end, Constant) or end.get_element_type().is_real():
        return None
    return end


def _is_quantized(node: ov.Node) -> bool:
    *_, end = _above(node)
    return end.get_type_name() == "FakeQuantize"


def _reader(op: ov.Node) -> str:
    """The type a FakeQuantize's answer is turned into by what reads it."""
    kinds = {reader.get_node().get_element_type().get_type_name() for reader in op.output(0).get_target_inputs()}
    return kinds.pop() if len(kinds) == 1 else ""
