"""The mean error of every layer, taken out of its bias.

Quantizing a layer's weight and input shifts the mean of its outputs; where that is so for most images it can be had
back for nothing. Nagel, van Baalen, Blankevoort and Welling, "Data-free quantization through weight equalization and
bias correction", ICCV 2019, section 4.2, by the means over images (their appendix D), https://arxiv.org/abs/1906.04721.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .constants import Constants
from .graph import Graph, attributes
from .walk import Parts, Walk, is_quantized


def correct(prepared: onnx.ModelProto, quantized: onnx.ModelProto, images: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """The quantized form with its layers' mean errors over the images taken out of their biases.

    One layer after the other, each with the corrected layers before it; layers that stay float are corrected too, for
    their input is off. A form whose biases are int32 keeps them so. The same arguments give the same form.

    Args:
        prepared: the float graph.
        quantized: made of it, every layer's output under its own name.
        images: as the network takes them (N, C, H, W).

    Raises:
        KeyError: a layer of the float graph is not in the quantized one.
    """
    exact, rough = Walk(prepared, images), Walk(quantized, images)
    corrected = _Biases(quantized)
    for layer in exact.graph.layers:
        ours = rough.graph.producers[layer.output[0]]
        bias = _added_after(rough.graph, ours) if layer.op_type == "MatMul" else None
        true_name, name = layer.output[0], ours.output[0]
        if bias is not None:
            true_name = name = bias.output[0]
        true, found = exact.reach(true_name), rough.reach(name)
        axis = 1 if layer.op_type == "Conv" else found[0].ndim - 1
        error = _mean_error(true, found, axis)
        error = corrected.subtract(ours, bias, error)
        shape = np.ones(found[0].ndim, int)
        shape[axis] = -1
        rough.replace(name, [part - error.reshape(shape) for part in found])
    return corrected.model


def _mean_error(true: Parts, found: Parts, axis: int) -> npt.NDArray[np.float32]:
    """Of each channel (C,)."""
    others = tuple(place for place in range(true[0].ndim) if place != axis)
    total = sum((ours - exact).sum(axis=others, dtype=np.float64) for exact, ours in zip(true, found, strict=True))
    count = sum(part.size for part in true) / true[0].shape[axis]
    return np.asarray(total / count, np.float32)


def _added_after(graph: Graph, product: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Add of a constant that is all that reads a MatMul, directly or through its quantization."""
    name = product.output[0]
    while len(graph.consumers[name]) == 1:
        (reader,) = graph.consumers[name]
        if reader.op_type == "Add":
            return reader if any(_is_constant(graph, each) for each in reader.input) else None
        if reader.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            return None
        name = reader.output[0]
    return None


def _is_constant(graph: Graph, name: str) -> bool:
    made_by = graph.producers.get(name)
    if made_by is not None and made_by.op_type == "DequantizeLinear":
        name = made_by.input[0]
    return name in graph.constants


class _Biases:
    """Of a copy of a quantized form, to be changed."""

    def __init__(self, quantized: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(quantized)
        self._graph = Graph(self.model)
        self._constants = Constants(self._graph)
        layers = [node for node in self.model.graph.node if node.op_type in {"Conv", "Gemm"}]
        self._int32 = any(name in self._graph.producers for node in layers for name in node.input[2:])

    def subtract(
        self, layer: onnx.NodeProto, added: onnx.NodeProto | None, error: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Take an error (C,) out of the bias of a layer, or out of what is added after it.

        Returns:
            what was taken out (C,): a bias of whole steps takes not quite all.
        """
        layer = self._graph.producers[layer.output[0]]
        if added is not None:
            added = self._graph.producers[added.output[0]]
            place = next(i for i, name in enumerate(added.input) if _is_constant(self._graph, name))
            return self._change(added, place, error)
        if layer.op_type == "MatMul":
            self._add_after(layer, -error)
            return error
        if layer.input[2:]:
            beta = np.float32(attributes(layer).get("beta", 1.0))
            return beta * self._change(layer, 2, error / beta)
        return -self._give(layer, -error)

    def _change(self, reader: onnx.NodeProto, place: int, error: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        name = reader.input[place]
        if name in self._graph.constants:
            value = self._constants.array(name)
            self._constants.change(reader, place, (value - error).astype(value.dtype))
            return error
        dequantize = self._graph.producers[name]
        if self._constants.uses[name] > 1:
            dequantize = self._split(dequantize, reader, place)
        stored, scale = self._constants.array(dequantize.input[0]), self._constants.array(dequantize.input[1])
        if stored.dtype == np.int32:
            changed = _cast(stored - np.rint(error.astype(np.float64) / scale), np.dtype(np.int32))
            self._constants.change(dequantize, 0, changed)
            return ((stored.astype(np.int64) - changed) * scale).astype(np.float32)
        # A constant of 8 bits has a scale of its own, that must follow.
        zero = self._constants.array(dequantize.input[2])
        value = (stored.astype(np.float32) - zero) * scale
        constants = _quantized(value - error, zero.dtype)
        for i, array in enumerate(constants):
            self._constants.change(dequantize, i, array)
        stored, scale, zero = constants
        return value - (stored.astype(np.float32) - zero) * scale

    def _give(self, layer: onnx.NodeProto, bias: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A bias to a convolution or fully connected layer that has none: as near to it as its steps allow."""
        name = self._constants.free(f"{layer.output[0]}_bias")
        if not (self._int32 and is_quantized(self._graph, layer)):
            layer.input.append(self._constants.new(name, bias))
            return bias
        of_input, of_weight = (self._constants.array(self._graph.producers[each].input[1]) for each in layer.input[:2])
        scale = np.broadcast_to(of_input * of_weight, bias.shape).astype(np.float32)
        stored = _cast(np.rint(bias.astype(np.float64) / scale), np.dtype(np.int32))
        inputs = [self._constants.new(f"{name}_quantized", stored), self._constants.new(f"{name}_scale", scale)]
        node = onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=0)
        self._insert(layer, node)
        layer.input.append(name)
        return (stored * scale).astype(np.float32)

    def _add_after(self, product: onnx.NodeProto, bias: npt.NDArray[np.float32]) -> None:
        """A product of matrices has no bias of its own: engines fuse an Add that follows it."""
        name, place = product.output[0], list(self.model.graph.node).index(product)
        if any(output.name == name for output in self.model.graph.output):
            product.output[0] = self._constants.free(f"{name}_product")
            ends = [product.output[0], name]
        else:
            ends = [name, self._constants.free(f"{name}_biased")]
            for reader in self._graph.consumers[name]:
                reader.input[list(reader.input).index(name)] = ends[1]
        add = onnx.helper.make_node(
            "Add", [ends[0], self._constants.new(f"{name}_bias", bias)], [ends[1]], f"{ends[1]}_Add"
        )
        self.model.graph.node.insert(place + 1, add)

    def _split(self, dequantize: onnx.NodeProto, reader: onnx.NodeProto, place: int) -> onnx.NodeProto:
        """A DequantizeLinear for one of its readers alone."""
        ours = onnx.NodeProto()
        ours.CopyFrom(dequantize)
        ours.output[0] = self._constants.free(f"{reader.output[0]}_bias")
        self._constants.uses.update(ours.input)
        self._constants.uses[reader.input[place]] -= 1
        reader.input[place] = ours.output[0]
        return self._insert(reader, ours)

    def _insert(self, reader: onnx.NodeProto, node: onnx.NodeProto) -> onnx.NodeProto:
        """A node before another one."""
        nodes = self.model.graph.node
        place = list(nodes).index(reader)
        nodes.insert(place, node)
        return nodes[place]


def _cast(value: npt.NDArray[Any], kind: np.dtype) -> npt.NDArray[Any]:
    """Whole numbers in a narrower type, the ends of its range instead of an overflow."""
    info = np.iinfo(kind)
    return np.asarray(np.clip(value, info.min, info.max), kind)


def _quantized(value: npt.NDArray[np.float32], kind: np.dtype) -> tuple[npt.NDArray[Any], ...]:
    """In so many bits, its scale and its zero point."""
    info = np.iinfo(kind)
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    scale = np.float32(max((high - low) / (info.max - info.min), 1e-12))
    zero = _cast(np.rint(info.min - low / scale), kind)
    return _cast(np.rint(value / scale) + zero, kind), np.asarray(scale), zero
