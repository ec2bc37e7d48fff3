"""The graph TensorRT gets is of signed 8 bits around 0 alone, and of operators its parser takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.numpy_helper import from_array, to_array

from medcompress.compress.int8.emit_tensorrt import check_form, check_operators, emit, write
from medcompress.compress.int8.form import activations, quantized_layers
from medcompress.compress.int8.plan import Plan
from medcompress.compress.int8.ranges import Ranges
from medcompress.runtime.errors import MachineError


def test_everything_quantized_is_signed_and_around_zero(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    (path,) = write(
        emit(
            prepared,
            ranges,
            Plan(),
        ),
        tmp_path / "form.onnx",
    )
    model = onnx.load(path)
    for name, (_, scale, zero_point, _) in activations(model).items():
        assert zero_point.dtype == np.int8, name
        assert not zero_point.any()
        found = ranges.tensors[name]
        assert scale == np.float32(max(-found.low, found.high) / 127)
    layers = quantized_layers(model)
    assert [layer.name for layer in layers] == ["stem", "deep", "wide", "logits"]
    for layer in layers:
        assert layer.bias is None
        assert not layer.weight.zero_point.any()
        assert layer.weight.scale.shape == (layer.weight.levels.shape[0],)  # pyright: ignore
    assert not {tensor.data_type for tensor in model.graph.initializer} & {
        onnx.TensorProto.INT32,
        onnx.TensorProto.UINT8,
    }


def test_the_residual_that_a_convolution_adds_is_quantized_and_its_own_output_is_not(
    prepared: Path, ranges: Ranges
) -> None:
    model = emit(prepared, ranges, Plan())
    add = next(node for node in model.graph.node if node.output[0] == "sum")
    assert list(add.input) == ["wide", "deep.relu_restored"]
    kept = emit(prepared, ranges, Plan(float_layers=("wide",)))
    add = next(node for node in kept.graph.node if node.output[0] == "sum")
    assert list(add.input) == ["wide", "deep.relu"]


def test_it_answers_as_the_float_graph_does(prepared: Path, ranges: Ranges, run: Any, batch: np.ndarray) -> None:
    """In ONNX Runtime, which computes the pairs as they are written; TensorRT runs on GPUs alone."""
    exact = run(prepared, batch)
    plan = Plan(float_layers=("stem", "deep"))  # channels that differ 1,000 times on one grid
    found = run(emit(prepared, ranges, plan).SerializeToString(), batch)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("op_type", "domain", "told"),
    [
        ("Det", "", r"operator Det \(odd\)"),
        ("Gelu", "com.microsoft", r"operator com\.microsoft\.Gelu \(odd\)"),
        ("QLinearConv", "", "QLinearConv"),
    ],
)
def test_operators_the_parser_lacks_are_named(
    prepared: Path, ranges: Ranges, op_type: str, domain: str, told: str
) -> None:
    model = onnx.load(prepared)
    model.graph.node.append(helper.make_node(op_type, ["sum"], ["odd"], domain=domain))
    onnx.save(model, prepared)
    with pytest.raises(MachineError, match=told):
        emit(prepared, ranges, Plan())


def test_opsets_the_parser_lacks_are_told(prepared: Path) -> None:
    model = onnx.load(prepared)
    for opset in (8, 26):
        model.opset_import[0].version = opset
        with pytest.raises(MachineError, match=rf"opsets 9 to 25, and this graph is of {opset}"):
            check_operators(model)
    model.opset_import[0].version = 20
    check_operators(model)


def test_axes_and_outputs_the_parser_lacks_are_told(prepared: Path) -> None:
    model = onnx.load(prepared)
    computed = next(node for node in model.graph.node if node.output[0] == "pool")
    computed.input[1] = "elsewhere"
    with pytest.raises(MachineError, match=r"ReduceMean \(pool\) only with constant axes"):
        check_operators(model)
    computed.input[1] = "axes"
    model.graph.node.append(helper.make_node("LayerNormalization", ["vector", "head.b"], ["n", "mean"]))
    with pytest.raises(MachineError, match="only with one output"):
        check_operators(model)


def test_damaged_graphs_are_refused(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / "form.onnx"

    def refused(match: str, name: str, turn: Any) -> None:
        model = emit(prepared, ranges, Plan())
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(from_array(turn(to_array(tensor)), name))
        onnx.save(model, path)
        with pytest.raises(MachineError, match=rf"form\.onnx: .*{match}"):
            check_form(path)

    refused("tensor gated is not quantized to signed", "gated_zero_point", lambda old: old.astype(np.uint8))
    refused("tensor gated is not quantized to signed", "gated_zero_point", lambda old: old + np.int8(3))
    refused("weight of the layer logits has a zero point", "head.w_zero_point", lambda old: old + np.int8(1))
    refused("weight of the layer wide is not within 8 bits", "wide.w_quantized", lambda old: old.astype(np.uint8))
    refused("gated has a scale", "gated_scale", lambda old: old * np.nan)
    model = emit(prepared, ranges, Plan())
    with pytest.raises(MachineError, match="wide is to stay float"):
        write(model, path, float_layers=("wide",))


def test_a_bias_of_integers_is_refused(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    """TensorRT's parser fails on it; it is how ONNX Runtime's graphs are."""
    from medcompress.compress.int8 import emit_onnxruntime

    model = emit_onnxruntime.emit(prepared, ranges, Plan(), "arm")
    for tensor in model.graph.initializer:
        if tensor.name.endswith("zero_point") and to_array(tensor).dtype == np.int8:
            tensor.CopyFrom(from_array(np.zeros_like(to_array(tensor)), tensor.name))
    onnx.save(model, tmp_path / "form.onnx")
    with pytest.raises(MachineError, match="bias of the layer stem is quantized"):
        check_form(tmp_path / "form.onnx")
