"""What a graph tells of its layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from medcompress.compress.int8.graph import Graph, prepare


def test_layers_are_told_apart(prepared: Path) -> None:
    graph = Graph(onnx.load(prepared))
    names = [layer.output[0] for layer in graph.layers]
    assert names == ["stem", "deep", "squeeze", "excite", "wide", "logits"]
    assert [name for name, layer in zip(names, graph.layers, strict=True) if graph.is_depthwise(layer)] == ["deep"]
    assert [name for name, layer in zip(names, graph.layers, strict=True) if graph.is_pooled(layer)] == [
        "squeeze",
        "excite",
    ]
    assert [graph.output_axis(layer) for layer in graph.layers] == [0] * 6


def test_only_matrices_of_floats_are_weights(build: Callable[..., onnx.ModelProto]) -> None:
    nodes = [
        helper.make_node("MatMul", ["image", "matrix"], ["by matrix"]),
        helper.make_node("MatMul", ["by matrix", "vector"], ["by vector"]),
        helper.make_node("MatMul", ["image", "by matrix"], ["of activations"]),
        helper.make_node("MatMul", ["matrix", "image"], ["matrix first"]),
        helper.make_node("Identity", ["matrix"], ["again"]),
        helper.make_node("MatMul", ["image", "again"], ["logits"]),
    ]
    graph = Graph(build(nodes, {"matrix": np.ones((16, 16), np.float32), "vector": np.ones(16, np.float32)}))
    assert [layer.output[0] for layer in graph.layers] == ["by matrix"]
    assert graph.output_axis(graph.layers[0]) == 1


def test_a_gate_that_is_not_of_its_own_input_is_no_activation(build: Callable[..., onnx.ModelProto]) -> None:
    """x * sigmoid(y) joins two paths: what follows is not one pixel because one of them is."""
    weights = {"w": np.ones((3, 3, 1, 1), np.float32), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["pool"]),
        helper.make_node("Sigmoid", ["pool"], ["gate"]),
        helper.make_node("Mul", ["image", "gate"], ["gated"]),
        helper.make_node("Conv", ["gated", "w"], ["logits"]),
    ]
    graph = Graph(build(nodes, weights))
    assert not graph.is_pooled(graph.layers[0])


def test_preparing_folds_normalization_and_what_is_constant(
    build: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    three = np.ones(3, np.float32)
    weights = {"w": np.ones((3, 3, 1, 1), np.float32), **dict.fromkeys(("s", "b", "m", "v"), three)}
    nodes = [
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Conv", ["image", "same"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["logits"]),
    ]
    onnx.save(build(nodes, weights), tmp_path / "model.onnx")
    prepare(tmp_path / "model.onnx", tmp_path / "prepared.onnx")
    model = onnx.load(tmp_path / "prepared.onnx")
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert len(Graph(model).layers) == 1
    assert [entry.domain for entry in model.opset_import] == [""]
