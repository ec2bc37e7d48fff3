"""The graph ONNX Runtime gets has the form its CPU needs, and runs in its integer kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.numpy_helper import from_array, to_array

from medcompress.compress.int8.emit_onnxruntime import check_form, emit, write
from medcompress.compress.int8.form import activations, quantized_layers
from medcompress.compress.int8.plan import Kind, Plan
from medcompress.compress.int8.ranges import Ranges
from medcompress.runtime.errors import MachineError
from medcompress.runtime.saturating import adds_exactly

KINDS: tuple[Kind, ...] = ("vnni", "avx2", "arm")


def replace(path: Path, name: str, values: np.ndarray) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(from_array(values, name))
    onnx.save(model, path)


def constant(path: Path, name: str) -> np.ndarray:
    return next(to_array(tensor) for tensor in onnx.load(path).graph.initializer if tensor.name == name).copy()


@pytest.mark.parametrize("kind", KINDS)
def test_each_cpu_gets_its_types(prepared: Path, ranges: Ranges, tmp_path: Path, kind: Kind) -> None:
    (path,) = write(emit(prepared, ranges, Plan(), kind), tmp_path / "form.onnx", kind)
    model = onnx.load(path)
    layers = quantized_layers(model)
    assert [layer.name for layer in layers] == ["stem", "deep", "wide", "logits"]
    limit = {"vnni": 127, "avx2": 64, "arm": 127}[kind]
    assert max(np.abs(layer.weight.levels.astype(int)).max() for layer in layers) == limit  # pyright: ignore
    assert {each.zero_point.dtype for each in activations(model).values()} == {
        np.dtype(np.int8 if kind == "arm" else np.uint8)
    }
    assert "logits" not in activations(model), "the answer stays float"
    with pytest.raises(MachineError, match=r"form\.onnx: the tensor .* is quantized to u?int8, and"):
        check_form(path, "vnni" if kind == "arm" else "arm")


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_the_float_graph_does(prepared: Path, ranges: Ranges, run: Any, batch: Any, kind: Kind) -> None:
    plan = Plan(float_layers=("stem", "deep"))  # channels that differ 1,000 times on one grid
    exact, found = run(prepared, batch), run(emit(prepared, ranges, plan, kind).SerializeToString(), batch)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_every_layer_is_fused_into_an_integer_kernel(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    (path,) = write(emit(prepared, ranges, Plan(), "vnni"), tmp_path / "form.onnx", "vnni")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert found["QLinearAdd"] == 1
    assert found["Conv"] + found["FusedConv"] == 2, "squeeze and excitation"


def test_a_product_of_matrices_answers_in_floats(
    build: Any, measured: Any, run: Any, batch: Any, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((16, 8)).astype(np.float32), "b": np.ones(8, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["product"]),
        helper.make_node("Transpose", ["product"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["turned", "product"], ["attention"]),
        helper.make_node("Add", ["attention", "b"], ["logits"]),
    ]
    model = build(nodes, weights)
    onnx.save(model, tmp_path / "prepared.onnx")
    # What this CPU runs faithfully: without VNNI it cuts the sums of full-range weights off.
    kind = "vnni" if adds_exactly() else "avx2"
    made = emit(tmp_path / "prepared.onnx", measured(model, batch), Plan(), kind)
    assert [layer.name for layer in quantized_layers(made)] == ["product"]
    assert list(activations(made)) == ["image"]
    exact = run(model.SerializeToString(), batch)
    assert np.abs(run(made.SerializeToString(), batch) - exact).max() < 0.05 * np.abs(exact).max()


def test_a_bias_beside_tiny_weights_does_not_overflow(
    build: Any, measured: Any, run: Any, batch: Any, tmp_path: Path
) -> None:
    weight = np.ones((2, 3, 1, 1), np.float32)
    weight[1] = 1e-12
    weights = {"w": weight, "b": np.array([0.5, 3.0], np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["logits"]),
    ]
    model = build(nodes, weights)
    onnx.save(model, tmp_path / "prepared.onnx")
    made = emit(tmp_path / "prepared.onnx", measured(model, batch), Plan(), "vnni")
    assert np.allclose(run(made.SerializeToString(), batch)[:, 1], 3.0, atol=1e-3)


@pytest.mark.parametrize("bias", ["computed", "one for all"])
def test_a_layer_without_an_integer_kernel_stays_float(
    build: Any, measured: Any, batch: Any, tmp_path: Path, bias: str
) -> None:
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "v": np.ones((4, 4), np.float32)}
    weights |= {"b": np.ones(4, np.float32), "single": np.ones(1, np.float32), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["pool"], keepdims=0),
        helper.make_node("Relu", ["pool"], ["computed"]),
        helper.make_node("Gemm", ["pool", "v", "computed" if bias == "computed" else "single"], ["logits"]),
    ]
    model = build(nodes, weights)
    onnx.save(model, tmp_path / "prepared.onnx")
    made = emit(tmp_path / "prepared.onnx", measured(model, batch), Plan(), "vnni")
    assert [layer.name for layer in quantized_layers(made)] == ["c"]


def test_damaged_graphs_are_refused(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / "form.onnx"

    def refused(match: str, damage: Callable[[], None], kind: Kind = "vnni") -> None:
        write(emit(prepared, ranges, Plan(), "vnni"), path, "vnni")
        damage()
        with pytest.raises(MachineError, match=match):
            check_form(path, kind)

    refused("7 bits", lambda: None, "avx2")
    refused("zero point that is not 0", lambda: replace(path, "head.w_zero_point", np.ones(2, np.int8)))
    scale = constant(path, "wide.w_scale")
    refused("not one scale an output", lambda: replace(path, "wide.w_scale", scale[:1]))
    refused("not a positive number", lambda: replace(path, "wide.w_scale", scale * 0))
    refused("grid of its products", lambda: replace(path, "wide_bias_scale", scale))
    refused("quantized to int8", lambda: replace(path, "image_zero_point", np.zeros((), np.int8)))

    def one_end(op_type: str, name: str) -> None:
        model = onnx.load(path)
        for node in model.graph.node:
            if node.op_type == op_type and node.input[0] == name:
                node.input[1] = "image_scale"
        onnx.save(model, path)

    refused("another grid", lambda: one_end("DequantizeLinear", "gated_quantized"))

    def unquantized() -> None:
        model = onnx.load(path)
        for node in model.graph.node:
            if node.output[0] == "wide":
                node.input[0] = "gated"
        onnx.save(model, path)

    refused("the layer wide has an INT8 weight, and its input is not quantized", unquantized)
    with pytest.raises(MachineError, match=r"prepared\.onnx: no weight was quantized"):
        check_form(prepared, "vnni")
    write(emit(prepared, ranges, Plan(), "vnni"), path, "vnni")
    with pytest.raises(MachineError, match="the layer wide is to stay float"):
        check_form(path, "vnni", float_layers=("wide",))


def test_nothing_is_printed(prepared: Path, ranges: Ranges, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(emit(prepared, ranges, Plan(), "vnni"), tmp_path / "form.onnx", "vnni")
    assert capfd.readouterr() == ("", "")
