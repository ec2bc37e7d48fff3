"""A float ONNX graph, and what of it INT8 is about: its layers with weights.

A layer is known by the name of its first output, which no emission changes.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

WEIGHTED = ("Conv", "Gemm", "MatMul")
INPUT = "image"
OUTPUT = "logits"

# Between a global pool and the convolution it feeds, in a squeeze-and-excitation block.
_ELEMENTWISE = {"Relu", "Sigmoid", "HardSigmoid", "HardSwish", "Clip", "Gelu", "Mul", "Add", "Conv", "Sqrt"}
_POOLS = {"ReduceMean", "GlobalAveragePool", "GlobalMaxPool"}


class Graph:
    """A look at an ONNX model: who makes a tensor, who reads it, what is constant.

    It is of the model as it was when the look was taken: take a new one after a change.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.producers = {output: node for node in model.graph.node for output in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.consumers[name].append(node)

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """The initializers, by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def layers(self) -> tuple[onnx.NodeProto, ...]:
        """Convolutions, fully connected layers and products with a constant second operand, in the graph's order."""
        return tuple(node for node in self.model.graph.node if node.op_type in WEIGHTED and self._has_weight(node))

    def weight(self, layer: onnx.NodeProto) -> npt.NDArray[np.float32]:
        """Of a layer, as it is stored."""
        return onnx.numpy_helper.to_array(self.constants[layer.input[1]])

    def output_axis(self, layer: onnx.NodeProto) -> int:
        """The axis of a layer's weight that counts its outputs."""
        if layer.op_type == "Conv" or (layer.op_type == "Gemm" and attributes(layer).get("transB", 0)):
            return 0
        return len(self.constants[layer.input[1]].dims) - 1

    def is_depthwise(self, layer: onnx.NodeProto) -> bool:
        """Whether it is a convolution of each channel by itself."""
        groups = attributes(layer).get("group", 1) if layer.op_type == "Conv" else 1
        return groups > 1 and self.constants[layer.input[1]].dims[1] == 1

    def is_pooled(self, layer: onnx.NodeProto) -> bool:
        """Whether it is a convolution of one pixel, after a global pool: a part of squeeze and excitation."""
        if layer.op_type != "Conv":
            return False
        seen = layer
        while (made_by := self.producers.get(seen.input[0])) is not None:
            if made_by.op_type in _POOLS:
                return True
            makers = {id(self.producers[name]) for name in made_by.input if name in self.producers}
            activation = made_by.op_type == "Mul" and len(makers) == 2  # x * sigmoid(x)
            if made_by.op_type not in _ELEMENTWISE or (len(makers) > 1 and not activation):
                return False
            if activation and not self._is_activation(made_by):
                return False
            seen = made_by
        return False

    def _has_weight(self, node: onnx.NodeProto) -> bool:
        """Whether its second operand is a constant of floats, in rows and columns."""
        weight = self.constants.get(node.input[1])
        return weight is not None and weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1

    def _is_activation(self, product: onnx.NodeProto) -> bool:
        """Whether it multiplies a tensor by its own sigmoid."""
        gates = [self.producers.get(name) for name in product.input]
        return any(
            gate is not None and gate.op_type in {"Sigmoid", "HardSigmoid"} and gate.input[0] in product.input
            for gate in gates
        )


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Of a node, by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def prepare(reference: Path, prepared: Path) -> None:
    """Write the graph that is calibrated and quantized: normalizations folded into convolutions, constants folded.

    Args:
        reference: the FP32 ONNX file; its input is ``image``, its output ``logits``.
    """
    # Its symbolic shape inference fails on some exported networks (ConvNeXt V2), and is not needed.
    quant_pre_process(reference, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used or not entry.domain]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, prepared)
