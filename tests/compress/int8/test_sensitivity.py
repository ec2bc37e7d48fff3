"""The layer that quantization hurts most comes first, and the images it changed most."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from medcompress.compress.int8.sensitivity import most_changed, rank

HEAD = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[n, 2, 6, 6] image) => (float[n, 4, 6, 6] logits)
"""
FLOAT = """{
    first = Conv <pads = [1, 1, 1, 1]> (image, w1, b)
    relu = Relu (first)
    second = Conv <pads = [1, 1, 1, 1]> (relu, w2, b)
    logits = Conv <pads = [1, 1, 1, 1]> (second, w3, b)
}"""
# The third layer stays float.
QUANTIZED = """{
    q0 = QuantizeLinear (image, s, z)
    d0 = DequantizeLinear (q0, s, z)
    v1 = DequantizeLinear <axis = 0> (w1_q, w1_s)
    first = Conv <pads = [1, 1, 1, 1]> (d0, v1, b)
    relu = Relu (first)
    q1 = QuantizeLinear (relu, s, z0)
    d1 = DequantizeLinear (q1, s, z0)
    v2 = DequantizeLinear <axis = 0> (w2_q, w2_s)
    second = Conv <pads = [1, 1, 1, 1]> (d1, v2, b)
    logits = Conv <pads = [1, 1, 1, 1]> (second, w3, b)
}"""


def model(body: str, levels: dict[str, int]) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(HEAD + body)
    rng = np.random.default_rng(0)
    arrays = {"b": np.zeros(4), "s": np.float32(0.04), "z": np.uint8(128), "z0": np.uint8(0)}
    for name, inputs in (("w1", 2), ("w2", 4), ("w3", 4)):
        weight = 0.3 * rng.standard_normal((4, inputs, 3, 3))
        scale = np.abs(weight).max() / levels.get(name, 127)
        arrays |= {name: weight, f"{name}_q": np.rint(weight / scale).astype(np.int8), f"{name}_s": np.full(4, scale)}
    used = {name for node in parsed.graph.node for name in node.input}
    for name in sorted(used & arrays.keys()):
        array = np.asarray(arrays[name])
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        parsed.graph.initializer.append(numpy_helper.from_array(array, name))
    return parsed


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((11, 2, 6, 6)).astype(np.float32)


def test_the_coarse_layer_is_first_and_its_noise_stays_its_own(images: np.ndarray) -> None:
    levels = {"w2": 3}
    noise = rank(model(FLOAT, levels), model(QUANTIZED, levels), images)
    assert [each.layer for each in noise] == ["second", "first"]
    second, first = noise
    assert second.own < 20 < 35 < first.own


def test_noise_that_comes_in_is_not_its_own(images: np.ndarray) -> None:
    levels = {"w1": 3}
    noise = {each.layer: each for each in rank(model(FLOAT, levels), model(QUANTIZED, levels), images)}
    assert noise["first"].own < 20
    assert noise["second"].own > 35


def test_nothing_quantized_is_nothing_to_rank(images: np.ndarray) -> None:
    assert rank(model(FLOAT, {}), model(FLOAT, {}), images) == ()


def test_the_most_changed_images_come_first_and_the_earlier_of_equal_ones() -> None:
    reference = np.zeros((5, 2))
    logits = np.array([[0.0, 0.1], [-2.0, 0.0], [0.5, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert most_changed(reference, logits, 3).tolist() == [1, 2, 3]
    assert most_changed(reference, logits, 9).tolist() == [1, 2, 3, 0, 4]
