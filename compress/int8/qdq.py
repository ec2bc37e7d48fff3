"""QuantizeLinear and DequantizeLinear put into a float graph: on activations, and before layers' weights.

The emission of each engine says where; nothing of the graph changes its name, so a layer is found by its output again.
https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from ...runtime.errors import MachineError
from .clipping import clip
from .graph import Graph
from .plan import Clipping, Plan
from .ranges import Ranges, TensorRange

# Weights a channel: of 8 bits, and of 7 for CPUs that add two products of u8 x s8 in 16 bits: 2 * 255 * 64 < 2^15.
FULL, REDUCED = 127, 64

Numbers: TypeAlias = npt.NDArray[np.float64] | float


class Grid(NamedTuple):
    """The values 8 bits stand for: scale * (q - zero_point); one grid a tensor () or one a channel (C,)."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.uint8] | npt.NDArray[np.int8]


def unsigned(low: Numbers, high: Numbers) -> Grid:
    """256 levels from ``low`` (at most 0) to ``high`` (at least 0), one of them 0, as 0 to 255."""
    scale = _positive(np.subtract(high, low) / 255)
    return Grid(scale, np.clip(np.rint(-np.asarray(low) / scale), 0, 255).astype(np.uint8))


def signed(low: Numbers, high: Numbers) -> Grid:
    """The levels of :func:`unsigned`, as -128 to 127."""
    scale, zero_point = unsigned(low, high)
    return Grid(scale, (zero_point.astype(np.int16) - 128).astype(np.int8))


def symmetric(low: Numbers, high: Numbers) -> Grid:
    """As many levels below 0 as above, 0 as 0."""
    scale = _positive(np.maximum(np.abs(low), np.abs(high)) / 127)
    return Grid(scale, np.zeros(scale.shape, np.int8))


Make: TypeAlias = Callable[[Numbers, Numbers], Grid]


class Insertion:
    """Changes a model in place; ``graph`` is the look at it from before."""

    def __init__(self, graph: Graph, ranges: Ranges, plan: Plan, make: Make) -> None:
        self.graph = graph
        self._ranges = ranges
        self._clipping: Clipping = plan.clipping
        self._make = make
        self._first: list[onnx.NodeProto] = []
        self._after: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._done: dict[tuple[object, ...], str] = {}
        self._restored: set[str] = set()
        self._scales: dict[str, float] = {}
        self._names = {*graph.constants, *graph.producers, *(value.name for value in graph.model.graph.input)}

    def range(self, tensor: str) -> TensorRange:
        """Of an activation.

        Raises:
            MachineError: none was gathered: a tensor of another graph, or not of floats.
        """
        found = self._ranges.tensors.get(tensor)
        if found is None:
            raise MachineError(f"no range of the tensor {tensor} was gathered; calibrate this graph again")
        return found

    def activation(self, node: onnx.NodeProto, index: int, *, per_channel: bool = False, like: str = "") -> None:
        """Quantize an input of a node, if it is not yet; one pair serves all that read the tensor on one grid.

        Args:
            node: of the graph.
            index: of its input.
            per_channel: a grid for each channel (axis 1).
            like: take the grid of this tensor instead.
        """
        tensor = node.input[index]
        if tensor in self._restored:
            return
        key = (tensor, per_channel, like)
        if key not in self._done:
            self._done[key] = self._pair(tensor, self._grid(like or tensor, per_channel))
        node.input[index] = self._done[key]

    def output(self, tensor: str) -> None:
        """Quantize a tensor for all nodes that read it as a float; as the graph's output it stays float."""
        for node in self.graph.consumers[tensor]:
            for index, name in enumerate(node.input):
                if name == tensor:
                    self.activation(node, index)

    def scale(self, node: onnx.NodeProto, index: int) -> float:
        """Of a node's input that was quantized, of one grid."""
        return self._scales[node.input[index]]

    def weight(
        self, layer: onnx.NodeProto, limit: int, least: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float32]:
        """Quantize a layer's weight to -limit to limit, symmetric, and return the scale of each output.

        Args:
            layer: of the graph.
            limit: :data:`FULL` or :data:`REDUCED`.
            least: scales (outputs,) not to go below.
        """
        name, axis = layer.input[1], self.graph.output_axis(layer)
        weight = self.graph.weight(layer).astype(np.float64)
        across = tuple(other for other in range(weight.ndim) if other != axis)
        scale = np.abs(weight).max(axis=across) / limit
        scale = _positive(scale if least is None else np.maximum(scale, least))
        key = (name, axis, scale.tobytes())
        if key not in self._done:
            shape = [-1 if other == axis else 1 for other in range(weight.ndim)]
            levels = np.clip(np.rint(weight / scale.reshape(shape)), -limit, limit).astype(np.int8)
            # ONNX Runtime has a product whose weight has no zero point run in floats; a convolution needs none.
            zero_point = {} if layer.op_type == "Conv" else {"zero_point": np.zeros(scale.shape, np.int8)}
            self._done[key] = self._constant(name, axis, quantized=levels, scale=scale, **zero_point)
        layer.input[1] = self._done[key]
        return scale

    def bias(self, layer: onnx.NodeProto, scale: npt.NDArray[np.float64]) -> None:
        """Quantize a layer's bias to 32 bits on the given scales (outputs,)."""
        bias = onnx.numpy_helper.to_array(self.graph.constants[layer.input[2]]).astype(np.float64).reshape(-1)
        levels = np.rint(bias / scale).astype(np.int32)
        name = f"{layer.output[0]}_bias"
        layer.input[2] = self._constant(name, 0, quantized=levels, scale=scale.astype(np.float32))

    def model(self) -> onnx.ModelProto:
        """The changed model, its nodes in order, without the constants nothing reads any longer."""
        graph = self.graph.model.graph
        nodes = list(self._first)
        for value in graph.input:
            nodes.extend(self._after[value.name])
        for node in graph.node:
            nodes.append(node)
            for name in node.output:
                nodes.extend(self._after[name])
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        # Shapes of the float graph, which engines find by themselves.
        del graph.value_info[:]
        return self.graph.model

    def _grid(self, tensor: str, per_channel: bool) -> Grid:
        found = self.range(tensor)
        if per_channel:
            low, high = np.asarray(found.channel_low), np.asarray(found.channel_high)
            return self._make(np.minimum(low, 0), np.maximum(high, 0))
        return self._make(*clip(found, self._clipping))

    def _pair(self, tensor: str, grid: Grid) -> str:
        quantized, restored, scale, zero_point = (
            self._new(f"{tensor}_{end}") for end in ("quantized", "restored", "scale", "zero_point")
        )
        self._add(scale, grid.scale)
        self._add(zero_point, grid.zero_point)
        self._restored.add(restored)
        if not grid.scale.ndim:
            self._scales[restored] = float(grid.scale)
        attributes: dict[str, Any] = {"axis": 1} if grid.scale.ndim else {}
        for kind, source, made in (("Quantize", tensor, quantized), ("Dequantize", quantized, restored)):
            self._after[tensor].append(
                onnx.helper.make_node(f"{kind}Linear", [source, scale, zero_point], [made], **attributes)
            )
        return restored

    def _constant(self, name: str, axis: int, **parts: npt.NDArray[np.generic]) -> str:
        """What a DequantizeLinear makes of ``quantized``, ``scale`` and ``zero_point``, which is 0 if not given."""
        inputs = [self._new(f"{name}_{part}") for part in parts]
        for each, array in zip(inputs, parts.values(), strict=True):
            self._add(each, array)
        restored = self._new(f"{name}_restored")
        self._first.append(onnx.helper.make_node("DequantizeLinear", inputs, [restored], axis=axis))
        return restored

    def _add(self, name: str, values: npt.NDArray[np.generic]) -> None:
        self.graph.model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))

    def _new(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def layers_to_quantize(graph: Graph, plan: Plan) -> list[onnx.NodeProto]:
    """Of a graph, all but those the plan keeps float and those of squeeze and excitation.

    The latter see one pixel: their products take no time, and what they make scales whole channels.

    Raises:
        MachineError: none is left, the plan names one the graph lacks, or a weight or bias is not finite.
    """
    names = {layer.output[0] for layer in graph.layers}
    if unknown := [name for name in plan.float_layers if name not in names]:
        raise MachineError(f"the plan keeps the layer {unknown[0]} float, and the graph has none of that name")
    chosen = [
        layer for layer in graph.layers if layer.output[0] not in plan.float_layers and not graph.is_pooled(layer)
    ]
    if not chosen:
        raise MachineError("the network has no layer to quantize: no convolution or product with constant weights")
    for layer in chosen:
        for name in layer.input[1:]:
            tensor = graph.constants.get(name)
            if tensor is not None and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
                raise MachineError(f"the layer {layer.output[0]} has weights that are not finite ({name})")
    return chosen


def rectified_sums(graph: Graph) -> list[onnx.NodeProto]:
    """Residual additions that a rectifier follows (ResNet, RegNet): the sum leaves no layer but through 8 bits.

    Others (EfficientNet, ConvNeXt, ViT) hand the sum on from block to block, and lose by rounding it.
    """
    found = []
    for node in graph.model.graph.node:
        if node.op_type == "Add" and not any(name in graph.constants for name in node.input):
            readers = graph.consumers[node.output[0]]
            if len(readers) == 1 and readers[0].op_type == "Relu":
                found.append(node)
    return found


def _positive(scale: npt.NDArray[np.floating] | np.floating) -> npt.NDArray[np.float32]:
    """A scale of 0 (a constant tensor, a channel of zeros) would divide by it; there any other will do."""
    values = np.asarray(scale, dtype=np.float32)
    return np.where(values > np.finfo(np.float32).tiny, values, np.float32(1))
