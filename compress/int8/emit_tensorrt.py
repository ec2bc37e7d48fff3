"""INT8 graphs for TensorRT 11: explicit quantization, the only one it has.

Signed 8 bits, every zero point 0, activations on one grid a tensor, weights on one an output, biases float. Where a
residual addition follows a convolution its other input is quantized, so that both fuse into one kernel.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
The parser's operators: https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md (of TensorRT 10.15); its
opsets: https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html (of TensorRT 11).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ...runtime.errors import MachineError
from ...runtime.records import write_whole
from .form import activations, check_weight, quantized_layers
from .graph import Graph
from .plan import Plan
from .qdq import FULL, Insertion, layers_to_quantize, symmetric
from .ranges import Ranges

OPSETS = range(9, 26)
# All that the parser takes as they stand; a network for classification needs no more. Control flow is left out.
_NAMES = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape
    Conv ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten
    Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear RMSNormalization Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth
    Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_TAKEN = frozenset(_NAMES.split())
# Inputs that must be constants of the file.
_CONSTANT_INPUTS = {f"Reduce{kind}": 1 for kind in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")}


def emit(prepared: Path, ranges: Ranges, plan: Plan) -> onnx.ModelProto:
    """The Q/DQ graph of a float graph.

    Raises:
        MachineError: no layer can be quantized, weights are not finite, or the parser does not take an operator.
    """
    graph = Graph(onnx.load(prepared))
    check_operators(graph.model)
    layers = layers_to_quantize(graph, plan)
    residuals = _residual_inputs(graph, {layer.output[0] for layer in layers})
    insertion = Insertion(graph, ranges, plan, symmetric)
    for layer in layers:
        insertion.activation(layer, 0)
        insertion.weight(layer, FULL)
    for node, index in residuals:
        insertion.activation(node, index)
    return insertion.model()


def write(model: onnx.ModelProto, path: Path, *, float_layers: tuple[str, ...] = ()) -> list[Path]:
    """Write a Q/DQ graph, and check what was written.

    Raises:
        MachineError: TensorRT would not take it.
    """
    write_whole(path, model.SerializeToString())
    check_form(path, float_layers=float_layers)
    return [path]


def check_form(path: Path, *, float_layers: tuple[str, ...] = ()) -> None:
    """The postcondition, of a file.

    Raises:
        MachineError: it is not of the form TensorRT needs; the message says where.
    """
    model = onnx.load(path)
    try:
        check_operators(model)
        for name, (_, scale, zero_point, _) in activations(model).items():
            if zero_point.dtype != np.int8 or zero_point.any():
                raise MachineError(f"the tensor {name} is not quantized to signed 8 bits with a zero point of 0")
            if scale.size != 1:
                raise MachineError(f"the tensor {name} is quantized on more than one grid")
        for layer in quantized_layers(model, float_layers=float_layers):
            check_weight(layer, FULL)
            if layer.bias is not None:
                raise MachineError(f"the bias of the layer {layer.name} is quantized")
        constants = Graph(model).constants
        for node in model.graph.node:
            stored = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if stored is not None and stored.data_type != onnx.TensorProto.INT8:
                raise MachineError(f"the constant {stored.name} is not of signed 8 bits")
    except MachineError as error:
        raise MachineError(f"{path.name}: {error}") from None


def check_operators(model: onnx.ModelProto) -> None:
    """That TensorRT's parser takes every operator of a graph.

    Raises:
        MachineError: it does not; the message names the first it refuses.
    """
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    if opset not in OPSETS:
        raise MachineError(f"TensorRT takes ONNX opsets {OPSETS[0]} to {OPSETS[-1]}, and this graph is of {opset}")
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        where = f"{node.op_type} ({node.output[0]})"
        if node.domain not in {"", "ai.onnx"} or node.op_type not in _TAKEN:
            domain = f"{node.domain}." if node.domain else ""
            raise MachineError(f"TensorRT does not take the operator {domain}{where}")
        index = _CONSTANT_INPUTS.get(node.op_type)
        if index is not None and len(node.input) > index and node.input[index] and node.input[index] not in constants:
            raise MachineError(f"TensorRT takes {where} only with constant axes")
        if node.op_type in {"LayerNormalization", "MaxPool"} and sum(map(bool, node.output)) > 1:
            raise MachineError(f"TensorRT takes {where} only with one output")


def _residual_inputs(graph: Graph, quantized: set[str]) -> list[tuple[onnx.NodeProto, int]]:
    """Of additions of two activations, one made by a quantized convolution: the other, which its kernel then adds."""
    convolved = {node.output[0] for node in graph.layers if node.op_type == "Conv"} & quantized
    found = []
    for node in graph.model.graph.node:
        if node.op_type == "Add" and not any(name in graph.constants for name in node.input):
            made = [name in convolved for name in node.input]
            if any(made):
                found.append((node, 0 if made[1] else 1))
    return found
