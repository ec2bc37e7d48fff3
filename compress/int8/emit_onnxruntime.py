"""INT8 graphs for ONNX Runtime's CPU provider, of QuantizeLinear and DequantizeLinear pairs it fuses into its kernels.

A convolution runs in 8 bits only if its output is quantized too (QLinearConv), its bias 32 bits on the product of the
scales; a product of matrices may answer in floats. On x86 activations are unsigned: its kernels for signed ones are
many times slower; on ARM they are signed, as its dot product is. A CPU without VNNI adds pairs of u8 x s8 products in
16 bits and saturates: there weights have 7 bits.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ...runtime.errors import MachineError
from ...runtime.records import write_whole
from .form import activations, check_weight, quantized_layers
from .graph import Graph, attributes
from .plan import Kind, Plan
from .qdq import FULL, REDUCED, Insertion, layers_to_quantize, rectified_sums, signed, unsigned
from .ranges import Ranges

# A bias takes at most a quarter of its 32 bits: bias correction moves it, and products are added to it.
_BIAS_ROOM = 2.0**29


def emit(prepared: Path, ranges: Ranges, plan: Plan, kind: Kind) -> onnx.ModelProto:
    """The Q/DQ graph of a float graph.

    Raises:
        MachineError: no layer can be quantized, or weights are not finite.
    """
    graph = Graph(onnx.load(prepared))
    layers = [layer for layer in layers_to_quantize(graph, plan) if _is_taken(graph, layer)]
    if not layers:
        raise MachineError("the network has no layer that ONNX Runtime runs in INT8: convolutions or products")
    sums = rectified_sums(graph)
    insertion = Insertion(graph, ranges, plan, signed if kind == "arm" else unsigned)
    for layer in layers:
        insertion.activation(layer, 0)
        _weigh(insertion, layer, REDUCED if kind == "avx2" else FULL)
    for layer in layers:
        if layer.op_type == "Conv":
            _answer(insertion, layer.output[0])
    for node in sums:
        insertion.activation(node, 0)
        insertion.activation(node, 1)
        _answer(insertion, node.output[0])
    return insertion.model()


def write(model: onnx.ModelProto, path: Path, kind: Kind, *, float_layers: tuple[str, ...] = ()) -> list[Path]:
    """Write a Q/DQ graph, and check what was written.

    Raises:
        MachineError: it is not of the form its CPU needs.
    """
    write_whole(path, model.SerializeToString())
    check_form(path, kind, float_layers=float_layers)
    return [path]


def check_form(path: Path, kind: Kind, *, float_layers: tuple[str, ...] = ()) -> None:
    """The postcondition, of a file.

    Raises:
        MachineError: it is not of the form its CPU needs; the message says where.
    """
    model = onnx.load(path)
    expected = np.int8 if kind == "arm" else np.uint8
    try:
        for name, (_, scale, zero_point, _) in activations(model).items():
            if zero_point.dtype != expected:
                raise MachineError(
                    f"the tensor {name} is quantized to {zero_point.dtype}, and {kind} needs {expected.__name__}"
                )
            if scale.size != 1:
                raise MachineError(f"the tensor {name} is quantized on more than one grid")
        for layer in quantized_layers(model, float_layers=float_layers):
            check_weight(layer, REDUCED if kind == "avx2" else FULL)
            if layer.bias is not None and layer.bias.levels is not None and layer.bias.levels.dtype != np.int32:
                raise MachineError(f"the bias of the layer {layer.name} is not of 32 bits")
            product = layer.activation.scale * layer.weight.scale
            if layer.bias is not None and not np.allclose(layer.bias.scale, product, rtol=1e-5, atol=0):
                raise MachineError(f"the bias of the layer {layer.name} is not on the grid of its products")
    except MachineError as error:
        raise MachineError(f"{path.name}: {error}") from None


def _is_taken(graph: Graph, layer: onnx.NodeProto) -> bool:
    """Whether there is an integer kernel for it: with a constant bias, one number an output, neither factor scaled."""
    if layer.op_type == "Gemm":
        found = attributes(layer)
        if found.get("transA", 0) or found.get("alpha", 1.0) != 1 or found.get("beta", 1.0) != 1:
            return False
    if len(layer.input) < 3 or not layer.input[2]:
        return True
    bias = graph.constants.get(layer.input[2])
    outputs = graph.constants[layer.input[1]].dims[graph.output_axis(layer)]
    return bias is not None and np.prod(bias.dims) == outputs


def _weigh(insertion: Insertion, layer: onnx.NodeProto, limit: int) -> None:
    """Quantize a layer's weight, and its bias on the product of the scales; that it must not overflow."""
    source = insertion.scale(layer, 0)
    if len(layer.input) < 3 or not layer.input[2]:
        insertion.weight(layer, limit)
        return
    bias = onnx.numpy_helper.to_array(insertion.graph.constants[layer.input[2]]).astype(np.float64).reshape(-1)
    scale = insertion.weight(layer, limit, np.abs(bias) / (source * _BIAS_ROOM))
    insertion.bias(layer, source * scale.astype(np.float64))


def _answer(insertion: Insertion, tensor: str) -> None:
    """Quantize what a node makes, after the rectifier that reads it; a rectifier of 8 bits is the grid's own end."""
    readers = insertion.graph.consumers[tensor]
    if len(readers) == 1 and readers[0].op_type == "Relu":
        tensor = readers[0].output[0]
    insertion.output(tensor)
