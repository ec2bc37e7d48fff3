"""The layers' mean errors are gone from the emitted graph itself, whatever its biases look like."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from medcompress.compress.int8.bias_correction import correct
from medcompress.compress.int8.graph import Graph

HEAD = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[n, 2, 6, 6] image) => (float[n, 3] logits)
"""
FLOAT = """{
    first = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    relu = Relu (first)
    second = Conv <pads = [1, 1, 1, 1]> (relu, w2)
    pooled = ReduceMean <keepdims = 0> (second, spatial)
    product = MatMul (pooled, w3)
    added = Add (product, b3)
    logits = MatMul (added, w4)
}"""
# Float biases, as this package inserts them; the second convolution stays float.
INSERTED = """{
    q0 = QuantizeLinear (image, s, z)
    d0 = DequantizeLinear (q0, s, z)
    v1 = DequantizeLinear <axis = 0> (w1_q, w1_s)
    first = Conv <pads = [1, 1, 1, 1]> (d0, v1, b1)
    relu = Relu (first)
    second = Conv <pads = [1, 1, 1, 1]> (relu, w2)
    pooled = ReduceMean <keepdims = 0> (second, spatial)
    q1 = QuantizeLinear (pooled, s, z)
    d1 = DequantizeLinear (q1, s, z)
    v3 = DequantizeLinear <axis = 1> (w3_q, w3_s)
    product = MatMul (d1, v3)
    added = Add (product, b3)
    v4 = DequantizeLinear <axis = 1> (w4_q, w4_s)
    logits = MatMul (added, v4)
}"""
# With int32 biases and quantized outputs, as ONNX Runtime's kernels take them.
MERGED = """{
    q0 = QuantizeLinear (image, s, z)
    d0 = DequantizeLinear (q0, s, z)
    v1 = DequantizeLinear <axis = 0> (w1_q, w1_s)
    c1 = DequantizeLinear <axis = 0> (b1_q, b1_s)
    first = Conv <pads = [1, 1, 1, 1]> (d0, v1, c1)
    relu = Relu (first)
    q1 = QuantizeLinear (relu, s_relu, z_relu)
    d1 = DequantizeLinear (q1, s_relu, z_relu)
    v2 = DequantizeLinear <axis = 0> (w2_q, w2_s)
    second = Conv <pads = [1, 1, 1, 1]> (d1, v2)
    pooled = ReduceMean <keepdims = 0> (second, spatial)
    q2 = QuantizeLinear (pooled, s, z)
    d2 = DequantizeLinear (q2, s, z)
    v3 = DequantizeLinear <axis = 1> (w3_q, w3_s)
    product = MatMul (d2, v3)
    qp = QuantizeLinear (product, s, z)
    dp = DequantizeLinear (qp, s, z)
    c3 = DequantizeLinear (b3_q, b3_s, b3_z)
    added = Add (dp, c3)
    v4 = DequantizeLinear <axis = 1> (w4_q, w4_s)
    logits = MatMul (added, v4)
}"""


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "w3": (4, 5), "b3": (5,), "w4": (5, 3)}
    found = {name: (0.4 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    found |= {"spatial": np.array([2, 3]), "s": np.float32(0.04), "z": np.uint8(128)}
    found |= {"s_relu": np.float32(0.03), "z_relu": np.uint8(0)}
    for name in ("w1", "w2", "w3", "w4"):  # three bits: errors worth a correction
        scale = np.abs(found[name]).max() / 3
        count = found[name].shape[0 if name < "w3" else 1]
        found |= {f"{name}_q": np.rint(found[name] / scale).astype(np.int8)}
        found |= {f"{name}_s": np.full(count, scale, np.float32)}
    found["b1_s"] = (found["s"] * found["w1_s"]).astype(np.float32)
    found["b1_q"] = np.rint(found["b1"] / found["b1_s"]).astype(np.int32)
    found |= {"b3_s": np.float32(0.01), "b3_z": np.uint8(128)}
    found["b3_q"] = (np.rint(found["b3"] / 0.01) + 128).clip(0, 255).astype(np.uint8)
    return found


def model(body: str) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(HEAD + body)
    used = {name for node in parsed.graph.node for name in node.input}
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays().items() if name in used]
    parsed.graph.initializer.extend(constants)
    onnx.checker.check_model(parsed)
    return parsed


def logits(found: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(found.SerializeToString(), options).run(None, {"image": images})[0]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((19, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize(("body", "left"), [(INSERTED, 1e-5), (MERGED, 1e-4)])
def test_the_mean_error_of_the_outputs_is_gone(body: str, left: float, images: np.ndarray) -> None:
    prepared, quantized = model(FLOAT), model(body)
    before = quantized.SerializeToString()
    corrected = correct(prepared, quantized, images)
    onnx.checker.check_model(corrected)
    true = logits(prepared, images)
    assert np.abs((logits(quantized, images) - true).mean(axis=0)).max() > 0.02
    np.testing.assert_allclose((logits(corrected, images) - true).mean(axis=0), 0, atol=left)
    assert quantized.SerializeToString() == before
    assert correct(prepared, quantized, images).SerializeToString() == corrected.SerializeToString()


def test_a_form_with_int32_biases_keeps_them_so(images: np.ndarray) -> None:
    corrected = Graph(correct(model(FLOAT), model(MERGED), images))
    for layer in corrected.model.graph.node:
        if layer.op_type == "Conv":  # the second one had none
            dequantize = corrected.producers[layer.input[2]]
            stored, scale = (numpy_helper.to_array(corrected.constants[name]) for name in dequantize.input[:2])
            of_weight = numpy_helper.to_array(corrected.constants[corrected.producers[layer.input[1]].input[1]])
            of_input = numpy_helper.to_array(corrected.constants[corrected.producers[layer.input[0]].input[1]])
            assert stored.dtype == np.int32
            np.testing.assert_allclose(scale, of_input * of_weight, rtol=1e-6)


def test_a_form_with_float_biases_gets_float_ones(images: np.ndarray) -> None:
    corrected = Graph(correct(model(FLOAT), model(INSERTED), images))
    second = corrected.producers["second"]
    assert numpy_helper.to_array(corrected.constants[second.input[2]]).dtype == np.float32
    assert {node.op_type for node in corrected.consumers["product"]} == {"Add"}
    assert corrected.producers["logits"].op_type == "Add"


def test_a_bias_two_layers_share_is_split(images: np.ndarray) -> None:
    body = """{
    first = Conv <pads = [1, 1, 1, 1]> (image, w2a, b1)
    second = Conv <pads = [1, 1, 1, 1]> (first, w2, b1)
    logits = ReduceMean <keepdims = 0> (second, spatial)
}"""
    parts = []
    for step in (1.0, 0.25):
        parsed = onnx.parser.parse_model(HEAD.replace("float[n, 2", "float[n, 4") + body)
        ours = arrays()
        ours["w2a"] = ours["w2"]
        for name in ("w2a", "w2", "b1", "spatial"):
            coarse = np.rint(ours[name] / step) * step if name.startswith("w") and step != 1 else ours[name]
            parsed.graph.initializer.append(numpy_helper.from_array(coarse.astype(ours[name].dtype), name))
        parts.append(parsed)
    images = np.random.default_rng(2).standard_normal((9, 4, 6, 6)).astype(np.float32) + 1
    corrected = correct(parts[0], parts[1], images)
    graph = Graph(corrected)
    assert graph.producers["first"].input[2] != graph.producers["second"].input[2]
    error = logits(corrected, images) - logits(parts[0], images)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-5)


def test_an_int32_bias_does_not_overflow(images: np.ndarray) -> None:
    quantized = model(MERGED)
    for tensor in quantized.graph.initializer:
        if tensor.name == "b1_s":
            tensor.CopyFrom(numpy_helper.from_array(np.full(4, 1e-12, np.float32), "b1_s"))
    corrected = Graph(correct(model(FLOAT), quantized, images))
    stored = numpy_helper.to_array(corrected.constants["b1_q"])
    assert stored.dtype == np.int32
    changed = np.abs(stored.astype(np.int64))
    assert changed.max() >= 2**31 - 1
