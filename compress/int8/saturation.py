"""How often a CPU without VNNI would cut off sums of 8-bit products: seen on any machine, on calibration images.

Without VNNI, engines on x86 multiply with ``vpmaddubsw``: two neighbouring products of an unsigned 8-bit activation and
a signed 8-bit weight are added in 16 bits, and what does not fit is cut off (Intel 64 and IA-32 Architectures Software
Developer's Manual, PMADDUBSW; https://oneapi-src.github.io/oneDNN/dev_guide_int8_computations.html). The activations
are multiplied as they are stored; their zero point is taken out of the 32-bit sum afterwards.

Neighbours are those of ONNX Runtime: in the order kernel row, kernel column, input channel of the group
(microsoft/onnxruntime: ``ReorderFilter`` and the im2col in core/providers/cpu/quantization/qlinearconv.cc, packed in
fours by ConvSymKernelAvx2 and qgemm_kernel_avx2.cpp of mlas/lib). oneDNN, OpenVINO's engine, starts anew at every place
of the kernel (``compute`` in src/cpu/x64/jit_uni_x8s8s32x_conv_kernel.cpp): the same pairs wherever a group's input
channels are even in number, as in nearly every layer but a network's first. Both widen a depthwise convolution to 32
bits before they add.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx.numpy_helper import to_array

from ...benchmarks.trace import LayerOverflow
from ...runtime.errors import DataError
from .graph import WEIGHTED, Graph, attributes

# Of a layer's outputs in one image, at most so many places are looked at, evenly spread.
POSITIONS = 256

# With both activations at 255, the weights of a pair must reach this together, with one sign: 255 * 128 < 2**15.
_RISKY = 129
_CHUNK = 1 << 20


class Pairs(NamedTuple):
    """The pairs of weights, of all a layer has, whose products can leave 16 bits.

    Attributes:
        rows: of the first activation of each, the second is in the next row.
        outputs: the output channel each belongs to.
        weights: of each, two (pairs, 2).
    """

    rows: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]


class _Layer(NamedTuple):
    node: onnx.NodeProto
    codes: str
    zero_point: int
    pairs: Pairs
    summed: int
    groups: int
    kernel: tuple[int, ...]
    scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64] | float


def count_overflows(quantized: Path | onnx.ModelProto, images: npt.NDArray[np.float32]) -> tuple[LayerOverflow, ...]:
    """Of every layer with unsigned 8-bit activations and signed 8-bit weights, in the graph's order.

    Counts are of at most :data:`POSITIONS` places of every layer's output in every image. A depthwise convolution has
    no pairs.

    Args:
        quantized: a Q/DQ graph, as :func:`onnxruntime.quantization.quantize_static` or our own insertion left it.
        images: as the graph takes them (N, C, H, W).

    Raises:
        DataError: no images.
    """
    if not len(images):
        raise DataError("overflows are counted on images, and there are none: give calibration images")
    model = onnx.load(quantized) if isinstance(quantized, Path) else quantized
    layers = tuple(_layers(model))
    if not layers:
        return ()
    session = _revealing(model, layers)
    pairs, overflows, power, lost = (np.zeros(len(layers)) for _ in range(4))
    names = [name for layer in layers for name in (layer.codes, layer.node.output[0])]
    for image in images:
        ran = session.run(names, {session.get_inputs()[0].name: image[None]})
        values = {name: np.asarray(value) for name, value in zip(names, ran, strict=True)}
        for i, layer in enumerate(layers):
            result = values[layer.node.output[0]]
            output = _by_position(layer, result)
            at = np.unique(np.linspace(0, len(output) - 1, min(len(output), POSITIONS)).astype(np.int64))
            pairs[i] += layer.summed * len(at)
            power[i] += np.mean(np.square(output[at] - layer.bias))
            if len(layer.pairs.rows):
                codes = _rows(layer, values[layer.codes], result.shape, at)
                count, cut = cut_off(codes, layer.pairs, output.shape[1])
                overflows[i] += count
                lost[i] += np.mean(np.square(cut * layer.scale))
    error = np.sqrt(lost / np.where(power > 0, power, 1))
    return tuple(
        LayerOverflow(layer.node.output[0], int(pairs[i]), int(overflows[i]), float(error[i]), len(images))
        for i, layer in enumerate(layers)
    )


def risky_pairs(weight: npt.NDArray[np.int8], groups: int = 1) -> Pairs:
    """Those pairs of neighbouring weights whose products can leave 16 bits; all others never do.

    The activations are at most 255, so the sum is within 255 times the positive and 255 times the negative weights:
    beyond 16 bits only if those of one sign reach 129 together. 7-bit weights (-64 to 64) never do.

    Args:
        weight: of the outputs, in the order they are multiplied in (outputs, K); the outputs of a group follow each
            other, and so do its K rows of activations.
        groups: of a convolution.
    """
    outputs, width = weight.shape
    couples = weight[:, : width // 2 * 2].reshape(outputs, -1, 2).astype(np.int16)
    risky = np.maximum(np.maximum(couples, 0).sum(2), np.maximum(-couples, 0).sum(2)) >= _RISKY
    which, first = np.nonzero(risky)
    group = which // (outputs // groups)
    return Pairs(group * width + first * 2, which, couples[which, first].astype(np.int32))


def cut_off(codes: npt.NDArray[np.uint8], pairs: Pairs, outputs: int) -> tuple[int, npt.NDArray[np.int64]]:
    """What ``vpmaddubsw`` cuts off.

    Args:
        codes: the activations as stored (rows, positions).
        pairs: of the layer, see :func:`risky_pairs`.
        outputs: of the layer.

    Returns:
        How many sums of two products leave 16 bits, and for every position and output (positions, outputs) the exact
        sum less the one such a CPU computes.
    """
    highest = codes.max(1).astype(np.int32)
    reach = np.stack([highest[pairs.rows], highest[pairs.rows + 1]], 1)
    most = (reach * np.maximum(pairs.weights, 0)).sum(1)
    least = (reach * np.minimum(pairs.weights, 0)).sum(1)
    (possible,) = np.nonzero((most > 32767) | (least < -32768))
    cut = np.zeros((codes.shape[1], outputs), np.int64)
    count = 0
    step = max(1, _CHUNK // codes.shape[1])
    for start in range(0, len(possible), step):
        part = possible[start : start + step]
        rows, weights = pairs.rows[part], pairs.weights[part]
        sums = codes[rows] * weights[:, :1] + codes[rows + 1] * weights[:, 1:]
        beyond = sums - np.clip(sums, -32768, 32767)
        where, position = np.nonzero(beyond)
        np.add.at(cut, (position, pairs.outputs[part][where]), beyond[where, position])
        count += len(where)
    return count, cut


def _layers(model: onnx.ModelProto) -> Iterator[_Layer]:
    graph = Graph(model)

    def dequantizer(name: str) -> onnx.NodeProto | None:
        node = graph.producers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def constant(name: str) -> npt.NDArray[np.float64]:
        """Of a tensor that is stored, as a float or as integers with a scale."""
        node = dequantizer(name)
        if node is None:
            return to_array(graph.constants[name]).astype(np.float64)
        values, scale = (to_array(graph.constants[node.input[i]]).astype(np.float64) for i in (0, 1))
        return values * scale

    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        activation, stored = dequantizer(node.input[0]), dequantizer(node.input[1])
        if activation is None or stored is None or stored.input[0] not in graph.constants:
            continue
        weight = to_array(graph.constants[stored.input[0]])
        zero_points = to_array(graph.constants[activation.input[2]]) if len(activation.input) > 2 else np.uint8(0)
        if weight.dtype != np.int8 or zero_points.dtype != np.uint8 or (node.op_type != "Conv" and weight.ndim != 2):
            continue
        groups = attributes(node).get("group", 1)
        if node.op_type == "Conv":
            kernel = weight.shape[2:]
            flat = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
        else:
            kernel = ()
            flat = weight if node.op_type == "Gemm" and attributes(node).get("transB", 0) else weight.T
        widened = node.op_type == "Conv" and weight.shape[:2] == (groups, 1)
        pairs = risky_pairs(flat[:, :0] if widened else flat, groups)
        scales = [to_array(graph.constants[each.input[1]]).astype(np.float64) for each in (activation, stored)]
        bias = constant(node.input[2]) if len(node.input) > 2 and node.input[2] else 0.0
        summed = 0 if widened else flat.shape[0] * (flat.shape[1] // 2)
        zero_point, scale = int(zero_points.flat[0]), scales[1] * scales[0].flat[0]
        yield _Layer(node, activation.input[0], zero_point, pairs, summed, groups, kernel, scale, bias)


def _revealing(model: onnx.ModelProto, layers: tuple[_Layer, ...]) -> onnxruntime.InferenceSession:
    """The graph as it stands, in floats, with every layer's stored activations and its result among its outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {output.name for output in shown.graph.output}
    for name in dict.fromkeys(name for layer in layers for name in (layer.codes, layer.node.output[0])):
        if name not in known:
            shown.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # No fusing to integer layers, whose sums are not to be had; the weights become floats once, not at every image.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _by_position(layer: _Layer, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A layer's result for one image (positions, outputs)."""
    if layer.node.op_type == "Conv":
        return output.reshape(output.shape[1], -1).T
    return output.reshape(-1, output.shape[-1])


def _rows(
    layer: _Layer, codes: npt.NDArray[np.uint8], shape: tuple[int, ...], at: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The activations that are multiplied for the positions ``at`` of one image, in order (rows, positions)."""
    if layer.node.op_type != "Conv":
        return np.ascontiguousarray(codes.reshape(-1, codes.shape[-1])[at].T)
    settings = attributes(layer.node)
    strides, dilations = (np.array(settings.get(name, [1] * len(layer.kernel))) for name in ("strides", "dilations"))
    padding = _padding(settings, codes.shape[2:], shape[2:], layer.kernel)
    image = np.pad(codes[0], ((0, 0), *padding), constant_values=layer.zero_point)
    corners = np.stack(np.unravel_index(at, shape[2:]), 1) * strides
    # The image's channels at every place of the kernel: (kernel places, channels, positions).
    taken = np.stack(
        [image[(slice(None), *(corners + np.array(offset) * dilations).T)] for offset in np.ndindex(*layer.kernel)]
    )
    grouped = taken.reshape(len(taken), layer.groups, -1, len(at))
    return np.ascontiguousarray(grouped.swapaxes(0, 1)).reshape(-1, len(at))


def _padding(
    settings: dict[str, Any], size: tuple[int, ...], out: tuple[int, ...], kernel: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Before and after the image, along each of its axes: as much as its outputs ``out`` reach over."""
    rank = len(kernel)
    strides, dilations = (settings.get(name, [1] * rank) for name in ("strides", "dilations"))
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, strides, kernel, dilations, strict=True)]
    over = [max(0, r - n) for r, n in zip(reach, size, strict=True)]
    same = {b"SAME_UPPER": [n // 2 for n in over], b"SAME_LOWER": [n - n // 2 for n in over]}
    before = same.get(settings.get("auto_pad", b""), list(settings.get("pads", [0] * rank))[:rank])
    return [(b, max(0, r - n - b)) for b, r, n in zip(before, reach, size, strict=True)]
