"""A graph run layer by layer gives what it gives in one piece."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from medcompress.compress.int8 import walk
from medcompress.compress.int8.graph import Graph

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[n, 2, 6, 6] image) => (float[n, 3] logits)
{
    first = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    relu = Relu (first)
    second = Conv <pads = [1, 1, 1, 1]> (relu, w2, b2)
    sum = Add (relu, second)
    shape = Shape <end = 1> (image)
    kept = Concat <axis = 0> (shape, rest)
    mean = ReduceMean <keepdims = 1> (sum, spatial)
    flat = Reshape (mean, kept)
    logits = Gemm <transB = 1> (flat, w3, b3)
}
"""


def make() -> onnx.ModelProto:
    model = onnx.parser.parse_model(GRAPH)
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (3, 4), "b3": (3,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"rest": np.array([4]), "spatial": np.array([2, 3])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def whole(model: onnx.ModelProto, images: np.ndarray, name: str) -> np.ndarray:
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if name not in {output.name for output in model.graph.output}:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"image": images})[0]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((walk.PART + 3, 2, 6, 6)).astype(np.float32)


def test_layer_by_layer_is_the_whole(images: np.ndarray) -> None:
    model = make()
    steps = walk.Walk(model, images)
    for layer in steps.graph.layers:
        parts = steps.reach(layer.output[0])
        assert [len(part) for part in parts] == [walk.PART, 3]
        np.testing.assert_allclose(np.concatenate(parts), whole(model, images, layer.output[0]), rtol=1e-4, atol=1e-5)


def test_only_what_is_still_read_is_held(images: np.ndarray) -> None:
    steps = walk.Walk(make(), images)
    steps.reach("second")
    assert set(steps._values) == {"relu", "second", "image"}  # Shape still reads the image
    steps.reach("logits")
    assert set(steps._values) == {"logits"}
    with pytest.raises(KeyError):
        steps.reach("relu")


def test_what_was_replaced_is_what_comes_after_reads(images: np.ndarray) -> None:
    model = make()
    steps = walk.Walk(model, images)
    steps.replace("second", [part + 1 for part in steps.reach("second")])
    weight = onnx.numpy_helper.to_array(Graph(model).constants["w3"])
    moved = whole(model, images, "logits") + weight.sum(axis=1)
    np.testing.assert_allclose(np.concatenate(steps.reach("logits")), moved, rtol=1e-3, atol=1e-4)
