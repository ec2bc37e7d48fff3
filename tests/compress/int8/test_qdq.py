"""Q/DQ pairs stand where they were asked for, on grids that hold what they must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from medcompress.compress.int8.graph import Graph
from medcompress.compress.int8.plan import Plan
from medcompress.compress.int8.qdq import (
    FULL,
    REDUCED,
    Insertion,
    layers_to_quantize,
    rectified_sums,
    signed,
    symmetric,
    unsigned,
)
from medcompress.compress.int8.ranges import Ranges
from medcompress.runtime.errors import MachineError

Build = Callable[..., onnx.ModelProto]


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-0.3, 2.0), (-5.0, 0.0), (0.0, 0.0), (-1e-30, 1e-30)])
@pytest.mark.parametrize("make", [unsigned, signed, symmetric])
def test_a_grid_holds_zero_and_the_ends_of_its_range(make: Callable[..., Any], low: float, high: float) -> None:
    scale, zero_point = make(low, high)
    assert scale > 0
    ends = np.iinfo(zero_point.dtype)
    assert ends.min <= zero_point <= ends.max
    for value in (low, 0.0, high):
        level = np.clip(np.rint(value / scale) + float(zero_point), ends.min, ends.max)
        assert abs((level - zero_point) * scale - value) <= scale * 0.5001
    assert (0 - 0) * scale == 0


def test_unsigned_and_signed_levels_are_the_same_values() -> None:
    (scale, zero_point), (other, shifted) = unsigned(-0.3, 2.0), signed(-0.3, 2.0)
    assert scale == other
    assert int(zero_point) - 128 == int(shifted)


def test_seven_bits_never_leave_sixteen() -> None:
    assert 2 * 255 * REDUCED < 2**15 <= 2 * 255 * FULL


def test_one_pair_serves_all_that_read_a_tensor(build: Build, measured: Any, batch: Any) -> None:
    weights = {"a": np.ones((3, 3, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["one"]),
        helper.make_node("Conv", ["image", "a"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["logits"]),
    ]
    model = build(nodes, weights)
    graph = Graph(model)
    insertion = Insertion(graph, measured(model, batch), Plan(), unsigned)
    for layer in graph.layers:
        insertion.activation(layer, 0)
        insertion.activation(layer, 0)
        insertion.weight(layer, FULL)
    made = insertion.model()
    onnx.checker.check_model(made)
    # One pair of the image, one dequantization of the shared weight.
    assert Counter(node.op_type for node in made.graph.node) == {
        "QuantizeLinear": 1,
        "DequantizeLinear": 2,
        "Conv": 2,
        "Add": 1,
    }
    assert "a" not in {tensor.name for tensor in made.graph.initializer}, "the float weight is gone"


def test_a_channel_of_zeros_has_a_scale(build: Build, measured: Any, batch: Any, run: Any) -> None:
    weight = np.zeros((4, 3, 1, 1), np.float32)
    weight[0] = 1
    model = build([helper.make_node("Conv", ["image", "w"], ["logits"])], {"w": weight})
    graph = Graph(model)
    insertion = Insertion(graph, measured(model, batch), Plan(), unsigned)
    insertion.activation(graph.layers[0], 0)
    scale = insertion.weight(graph.layers[0], FULL)
    assert (scale > 0).all()
    answers = run(insertion.model().SerializeToString(), batch)
    assert np.isfinite(answers).all()
    assert not answers[:, 1:].any()


def test_the_output_of_the_graph_keeps_its_name_and_its_floats(build: Build, measured: Any, batch: Any) -> None:
    nodes = [helper.make_node("Conv", ["image", "w"], ["logits"])]
    model = build(nodes, {"w": np.ones((3, 3, 1, 1), np.float32)})
    insertion = Insertion(Graph(model), measured(model, batch), Plan(), unsigned)
    insertion.output("logits")
    assert [node.op_type for node in insertion.model().graph.node] == ["Conv"]


def test_layers_the_plan_keeps_and_those_of_one_pixel_stay_float(prepared: Path) -> None:
    graph = Graph(onnx.load(prepared))
    chosen = layers_to_quantize(graph, Plan(float_layers=("deep",)))
    assert [layer.output[0] for layer in chosen] == ["stem", "wide", "logits"]
    with pytest.raises(MachineError, match="keeps the layer dep float"):
        layers_to_quantize(graph, Plan(float_layers=("dep",)))
    every = tuple(layer.output[0] for layer in graph.layers)
    with pytest.raises(MachineError, match="no layer to quantize"):
        layers_to_quantize(graph, Plan(float_layers=every))


@pytest.mark.parametrize("name", ["wide.w", "wide.b"])
def test_weights_that_are_not_finite_are_named(prepared: Path, name: str) -> None:
    model = onnx.load(prepared)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.reshape(-1)[3] = np.nan
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    with pytest.raises(MachineError, match=rf"the layer wide has .* not finite \({name}\)"):
        layers_to_quantize(Graph(model), Plan())


def test_a_range_of_another_graph_is_told(prepared: Path) -> None:
    graph = Graph(onnx.load(prepared))
    insertion = Insertion(graph, Ranges(1, 0.0, {}), Plan(), unsigned)
    with pytest.raises(MachineError, match="no range of the tensor image"):
        insertion.activation(graph.layers[0], 0)


def test_names_that_are_taken_are_not_taken_again(build: Build, measured: Any, batch: Any) -> None:
    nodes = [
        helper.make_node("Relu", ["image"], ["image_restored"]),
        helper.make_node("Conv", ["image", "w"], ["image_quantized"]),
        helper.make_node("Add", ["image_restored", "image_quantized"], ["logits"]),
    ]
    model = build(nodes, {"w": np.ones((3, 3, 1, 1), np.float32)})
    graph = Graph(model)
    insertion = Insertion(graph, measured(model, batch), Plan(), unsigned)
    insertion.activation(graph.layers[0], 0)
    onnx.checker.check_model(insertion.model())


def test_sums_that_a_rectifier_follows(prepared: Path) -> None:
    assert [node.output[0] for node in rectified_sums(Graph(onnx.load(prepared)))] == ["sum"]
