"""Graphs in 16-bit floats: as near to the FP32 model as that allows, and whole where values do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array, to_array
from onnx.reference import ReferenceEvaluator

from medcompress.compress.half import LARGEST, halve
from medcompress.compress.int8.emission import Request, make
from medcompress.compress.int8.gathering import gather
from medcompress.compress.int8.graph import prepare
from medcompress.compress.int8.plan import Plan
from medcompress.compress.int8.ranges import write_ranges
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.engines import load_engine
from medcompress.runtime.errors import MachineError
from medcompress.runtime.golden import TOLERANCE, read_golden

Images = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def images(pristine_bundle: Path) -> Images:
    """Of a bundle's own, and what lies between them."""
    bundle = open_bundle(pristine_bundle)
    rendered = read_golden(bundle).inputs.astype(np.float64)
    mixed = [(share * rendered[0] + (1 - share) * rendered[2]).astype(np.uint8) for share in np.linspace(0, 1, 14)]
    return np.stack([bundle.manifest.preprocessing.normalize(each) for each in (*rendered.astype(np.uint8), *mixed)])


def answers(file: Path, batch: Images) -> Images:
    return load_engine("onnxruntime", [file], "fp32", 1).run(batch)


def strictly(file: Path, batch: Images) -> Images:
    """By ONNX's own evaluator, in the types that are written; ONNX Runtime's CPU leaves roundings out."""
    with np.errstate(all="ignore"):
        return np.asarray(ReferenceEvaluator(str(file)).run(None, {"image": batch})[0])


def off(found: Images, expected: Images) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def small(nodes: list[onnx.NodeProto], weights: dict[str, Images], path: Path) -> Path:
    """From ``image`` (N, 4, 8, 8) to ``logits``."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    constants = [from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "small", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_trained_network_answers_as_in_32_bits(pristine_bundle: Path, images: Images, tmp_path: Path) -> None:
    source, path = pristine_bundle / "model.onnx", tmp_path / "half.onnx"
    made = halve(source, path, images)
    assert (made.kept, made.sums, made.words) == ((), (), "16-bit floats")
    model = onnx.load(path)
    assert {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)} == {
        TensorProto.FLOAT
    }
    weights = [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1]
    assert weights
    assert set(weights) == {TensorProto.FLOAT16}
    assert path.stat().st_size < 0.55 * source.stat().st_size
    expected = answers(source, images)
    assert 0 < off(answers(path, images), expected) < TOLERANCE["fp16"]
    assert 0 < off(strictly(path, images[:1]), expected[:1]) < TOLERANCE["fp16"]


def test_a_tensor_keeps_its_name_for_heat_maps(pristine_bundle: Path, images: Images, tmp_path: Path) -> None:
    source, path = pristine_bundle / "model.onnx", tmp_path / "half.onnx"
    halve(source, path, images)
    explained = next(each.explanation for each in open_bundle(pristine_bundle).manifest.variants if each.explanation)
    assert explained is not None
    found, expected = (
        load_engine("onnxruntime", [file], "fp32", 1, explained.tensors).run_all(images[:2]) for file in (path, source)
    )
    for half, whole in zip(found[1:], expected[1:], strict=True):
        assert off(half.astype(np.float32), whole) < TOLERANCE["fp16"]


def test_a_graph_of_signed_8_bits_keeps_its_integers(pristine_bundle: Path, images: Images, tmp_path: Path) -> None:
    prepared, ranges, pixels = tmp_path / "prepared.onnx", tmp_path / "ranges.json", tmp_path / "pixels.npy"
    prepare(pristine_bundle / "model.onnx", prepared)
    write_ranges(ranges, gather(prepared, list(images), threads=1))
    np.save(pixels, np.zeros((1, 1, 1), np.uint8))
    preprocessing = open_bundle(pristine_bundle).manifest.preprocessing
    path = tmp_path / "int8.onnx"
    make(Request("tensorrt", "gpu", str(prepared), str(ranges), Plan(), str(pixels), preprocessing, str(path)))
    halve(path, tmp_path / "half.onnx", images)
    before, after = onnx.load(path), onnx.load(tmp_path / "half.onnx")
    stored = {
        tensor.name: to_array(tensor) for tensor in before.graph.initializer if tensor.data_type == TensorProto.INT8
    }
    assert stored
    for tensor in after.graph.initializer:
        if tensor.name in stored:
            assert np.array_equal(to_array(tensor), stored[tensor.name])
    kinds = [node.op_type for node in after.graph.node]
    assert kinds.count("QuantizeLinear") == [node.op_type for node in before.graph.node].count("QuantizeLinear")
    # Their grids are rounded to 11 bits, which moves a value by a step of 8 bits at most here and there.
    assert off(answers(tmp_path / "half.onnx", images), answers(path, images)) < TOLERANCE["int8-fp16"]


def test_layers_whose_values_do_not_fit_stay_in_32_bits(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    batch = draw.standard_normal((8, 4, 8, 8), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "up"], ["large"]),
        helper.make_node("Conv", ["large", "down"], ["usual"]),
        helper.make_node("Conv", ["usual", "last"], ["logits"]),
    ]
    weights = {
        "up": 3e4 * draw.standard_normal((4, 4, 1, 1)),
        "down": 1e-4 * draw.standard_normal((4, 4, 1, 1)),
        "last": draw.standard_normal((2, 4, 8, 8)),
    }
    source = small(nodes, weights, tmp_path / "small.onnx")
    made = halve(source, tmp_path / "half.onnx", batch)
    assert made.kept == ("large", "usual"), "that which makes the values, and that which reads them"
    assert "2 of 3 operations in 32 bits" in made.words
    expected = answers(source, batch)
    assert np.abs(expected).max() < LARGEST
    assert off(strictly(tmp_path / "half.onnx", batch), expected) < 0.01
    # An image that shows nothing keeps nothing: then they are infinite.
    assert halve(source, tmp_path / "blind.onnx", 0 * batch).kept == ()
    assert not np.isfinite(strictly(tmp_path / "blind.onnx", batch)).all()
    with pytest.raises(MachineError, match="NaN or infinite"):
        halve(source, tmp_path / "none.onnx", batch * np.float32(np.inf))


def test_weights_that_do_not_fit_stay_in_32_bits(tmp_path: Path) -> None:
    weights = {"large": np.full((2, 4, 8, 8), 1e5), "small": np.full((1, 4, 1, 1), 1e-4)}
    nodes = [
        helper.make_node("Mul", ["image", "small"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "large"], ["logits"]),
    ]
    made = halve(
        small(nodes, weights, tmp_path / "small.onnx"), tmp_path / "half.onnx", np.ones((2, 4, 8, 8), np.float32)
    )
    assert made.kept == ("logits",)
    found = answers(tmp_path / "half.onnx", np.ones((2, 4, 8, 8), np.float32))
    assert found == pytest.approx(2560, rel=0.01)


def test_what_sums_squares_stays_in_32_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["image", "scale"], ["normal"], axis=-1),
        helper.make_node("Conv", ["normal", "last"], ["logits"]),
    ]
    draw = np.random.default_rng(0)
    weights = {"scale": np.ones(8), "last": draw.standard_normal((2, 4, 8, 8))}
    source = small(nodes, weights, tmp_path / "small.onnx")
    batch = 300 * draw.standard_normal((8, 4, 8, 8), dtype=np.float32)
    made = halve(source, tmp_path / "half.onnx", batch)
    assert (made.kept, made.sums) == ((), ("normal",))
    assert off(answers(tmp_path / "half.onnx", batch), answers(source, batch)) < 0.01
