"""Equalized, a network computes what it did, and its channels fill their tensors' ranges better."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from medcompress.compress.int8.equalization import equalize
from medcompress.compress.int8.gates import tightened
from medcompress.compress.int8.ranges import Ranges, TensorRange

C = 8
HEAD = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[n, 8, 6, 6] image) => (float[n, k] logits)
"""
END = "pooled = ReduceMean <keepdims = 1> (last, spatial)\n flat = Reshape (pooled, shape)\n logits = Gemm (flat, g)\n}"
# Nothing can be scaled through it.
BENT = "bent = Gelu (last)\n" + END.replace("last", "bent")
CONV = "Conv <pads = [1, 1, 1, 1]>"
DEPTHWISE = "Conv <pads = [1, 1, 1, 1], group = 8>"

NETS = {
    "plain": f"""{{
        a = {CONV} (image, w1, uneven)
        b = Relu (a)
        last = {CONV} (b, w2, bias)
        {END}""",
    "no bias": f"{{ a = {CONV} (image, w1)\n b = Relu (a)\n last = {CONV} (b, w2)\n {END}",
    "grouped": f"""{{
        a = {CONV} (image, w1, uneven)
        b = MaxPool <kernel_shape = [2, 2]> (a)
        last = Conv <pads = [1, 1, 1, 1], group = 2> (b, half, bias)
        {END}""",
    "shared weight": f"""{{
        a = {CONV} (image, w1, uneven)
        b = Relu (a)
        c = {CONV} (b, w1, uneven)
        last = Relu (c)
        {END}""",
    "squeeze and excitation": f"""{{
        a = {CONV} (image, w1, uneven)
        b = Relu (a)
        m = ReduceMean <keepdims = 1> (b, spatial)
        e = Conv (m, point, bias)
        gate = Sigmoid (e)
        c = Mul (gate, b)
        last = {CONV} (c, w2, bias)
        {END}""",
    "gated depthwise": f"""{{
        a = {CONV} (image, w1, uneven)
        gate = HardSigmoid <alpha = 0.16666667, beta = 0.5> (a)
        b = Mul (a, gate)
        last = {DEPTHWISE} (b, each, bias)
        {END}""",
    "normalized": f"""{{
        a = BatchNormalization (image, uneven, bias, bias, ones)
        b = Relu (a)
        last = {CONV} (b, w2, bias)
        {END}""",
    "transformer": """{
        tokens = Reshape (image, tokens_shape)
        a = LayerNormalization <axis = -1> (tokens, uneven, bias)
        q = MatMul (a, g)
        k = MatMul (a, g2)
        h = Add (q, k)
        hb = Add (h, five)
        r = Relu (hb)
        s = MatMul (r, g3)
        sb = Add (s, uneven)
        t = Relu (sb)
        u = MatMul (t, g)
        logits = ReduceMean <keepdims = 0> (u, one)
    }""",
}
NOTHING = {
    "a residual": f"""{{
        a = {CONV} (image, w1, uneven)
        b = Add (a, image)
        last = {CONV} (b, w2, bias)
        {BENT}""",
    "a tensor times itself": f"""{{
        a = {CONV} (image, w1, uneven)
        r = Relu (a)
        b = Mul (a, r)
        last = {CONV} (b, w2, bias)
        {BENT}""",
    "an activation that is not linear for positive values": f"""{{
        a = {CONV} (image, w1, uneven)
        b = Gelu (a)
        last = {CONV} (b, w2, bias)
        {BENT}""",
}


def model(body: str) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(HEAD + body)
    rng = np.random.default_rng(0)
    uneven = np.geomspace(0.01, 20, C)
    shapes = {"w2": (C, C, 3, 3), "half": (C, C // 2, 3, 3), "each": (C, 1, 3, 3), "point": (C, C, 1, 1)}
    shapes |= {"g": (C, 5), "g2": (C, 5), "g3": (5, C), "five": (5,), "bias": (C,)}
    arrays = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays |= {"w1": 0.2 * rng.standard_normal((C, C, 3, 3)) * uneven[:, None, None, None], "uneven": uneven}
    arrays |= {"ones": np.ones(C), "spatial": np.array([2, 3]), "one": np.array([1]), "shape": np.array([-1, C])}
    arrays["tokens_shape"] = np.array([0, -1, C])
    used = {name for node in parsed.graph.node for name in node.input}
    for name in sorted(used & arrays.keys()):
        array = arrays[name].astype(np.float32) if arrays[name].dtype == np.float64 else arrays[name]
        parsed.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(parsed)
    return parsed


def tensors(found: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    names = [output for node in found.graph.node for output in node.output]
    every = onnx.ModelProto.FromString(found.SerializeToString())
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "logits")
    session = onnxruntime.InferenceSession(every.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": images}), strict=True)) | {"image": images}


def ranges(found: onnx.ModelProto, images: np.ndarray) -> Ranges:
    result = {}
    for name, array in tensors(found, images).items():
        axes = tuple(axis for axis in range(array.ndim) if axis != (1 if array.ndim == 4 else array.ndim - 1))
        low, high = (tuple(map(float, np.ravel(each(array, axis=axes)))) for each in (np.min, np.max))
        result[name] = TensorRange(min(low), max(high), max(-min(low), max(high)), (), low, high)
    return Ranges(len(images), 0.0, result)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((6, C, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_the_function_stays(name: str, images: np.ndarray) -> None:
    prepared = model(NETS[name])
    before = prepared.SerializeToString()
    found = equalize(prepared, ranges(prepared, images))
    assert found is not None
    onnx.checker.check_model(found)
    true = tensors(prepared, images)
    np.testing.assert_allclose(tensors(found, images)["logits"], true["logits"], rtol=1e-4, atol=1e-4)
    assert prepared.SerializeToString() == before
    assert equalize(prepared, ranges(prepared, images)).SerializeToString() == found.SerializeToString()
    # The median channel fills more of the range than it did.
    scaled = "c" if name == "squeeze and excitation" else "a" if name == "transformer" else "b"
    axis = tuple(range(true[scaled].ndim - 1)) if name == "transformer" else (0, 2, 3)
    share = [
        np.median(width / width.max())
        for width in (np.abs(each[scaled]).max(axis) for each in (true, tensors(found, images)))
    ]
    assert share[1] > 1.5 * share[0]


@pytest.mark.parametrize("name", NOTHING)
def test_what_reads_a_tensor_otherwise_stands_in_the_way(name: str, images: np.ndarray) -> None:
    prepared = model(NOTHING[name])
    assert equalize(prepared, ranges(prepared, images)) is None


def test_a_depthwise_convolution_after_a_gate_loses_far_less(images: np.ndarray) -> None:
    prepared = model(NETS["gated depthwise"])
    found = equalize(prepared, ranges(prepared, images))
    assert found is not None
    assert [node.op_type for node in found.graph.node if "unscaled" in node.output[0]] == ["Mul"]
    lost = []
    for each in (prepared, found):
        session, spread = tensors(each, images), tightened(each, ranges(each, images)).tensors
        rounded = dict(session)
        for name in ("a", "b"):
            step = (max(spread[name].high, 0) - min(spread[name].low, 0)) / 255
            rounded[name] = step * np.rint(np.clip(session[name], spread[name].low, spread[name].high) / step)
        weight = next(numpy_helper.to_array(t) for t in each.graph.initializer if t.name == "each")
        gain = np.abs(weight).sum(axis=(1, 2, 3))
        lost.append(np.square((rounded["b"] - session["b"]) * gain[:, None, None]).mean(axis=(0, 2, 3)))
    assert np.median(lost[1]) < 0.1 * np.median(lost[0])


def test_ranges_leave_out_what_a_closed_gate_hides(images: np.ndarray) -> None:
    prepared = model(NETS["gated depthwise"])
    before = ranges(prepared, images)
    after = tightened(prepared, before)
    assert before.tensors["a"].low < -10
    assert after.tensors["a"].low == pytest.approx(-3, abs=1e-3)
    assert after.tensors["b"] == before.tensors["b"]
    found = equalize(prepared, before)
    assert found is not None
    factors = next(numpy_helper.to_array(t).ravel() for t in found.graph.initializer if t.name == "a_factors")
    scaled = ranges(found, images).tensors["a"]
    expected = np.maximum(scaled.channel_low, -3 / factors)
    np.testing.assert_allclose(tightened(found, ranges(found, images)).tensors["a"].channel_low, expected, rtol=1e-3)
    plain = model(NETS["plain"])
    assert tightened(plain, ranges(plain, images)) == ranges(plain, images)


def test_a_network_of_zeros_stays_finite(images: np.ndarray) -> None:
    prepared = model(NETS["plain"])
    for tensor in prepared.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((C, C, 3, 3), np.float32), "w2"))
    found = equalize(prepared, ranges(prepared, images))
    assert found is not None
    assert all(np.isfinite(array).all() for array in tensors(found, images).values())
