"""The graph OpenVINO gets has the form its CPU needs, is stored in 8 bits, and executed in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import helper
from onnx.numpy_helper import from_array, to_array

from medcompress.compress.int8.emit_openvino import check_form, emit, write
from medcompress.compress.int8.form import activations, quantized_layers
from medcompress.compress.int8.plan import Kind, Plan
from medcompress.compress.int8.ranges import Ranges
from medcompress.runtime.errors import MachineError


def compiled(model: Any) -> ov.CompiledModel:
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return ov.Core().compile_model(ov.Core().read_model(model), "CPU", config)


def answer(model: Any, batch: np.ndarray) -> np.ndarray:
    return np.array(compiled(model)([batch])[0])


@pytest.mark.parametrize(("kind", "limit"), [("vnni", 127), ("avx2", 64)])
def test_each_cpu_gets_its_weights(prepared: Path, ranges: Ranges, tmp_path: Path, kind: Kind, limit: int) -> None:
    model = emit(prepared, ranges, Plan(), kind)
    layers = quantized_layers(model)
    assert [layer.name for layer in layers] == ["stem", "deep", "wide", "logits"]
    assert max(np.abs(layer.weight.levels.astype(int)).max() for layer in layers) == limit  # pyright: ignore
    assert all(layer.bias is None for layer in layers), "biases stay float"
    files = write(model, tmp_path / "form.xml", kind)
    assert [file.name for file in files] == ["form.xml", "form.bin"]
    if kind == "vnni":
        with pytest.raises(MachineError, match=r"form\.xml: .*7 bits"):
            check_form(files[0], "avx2")


def test_only_a_depthwise_convolution_has_a_grid_for_each_channel(prepared: Path, ranges: Ranges) -> None:
    sizes = {
        layer.name: layer.activation.scale.size for layer in quantized_layers(emit(prepared, ranges, Plan(), "vnni"))
    }
    assert sizes == {"stem": 1, "deep": 8, "wide": 1, "logits": 1}


def test_it_answers_as_the_float_graph_does_and_as_its_pairs_do(
    prepared: Path, ranges: Ranges, tmp_path: Path, batch: np.ndarray
) -> None:
    """Of channels that differ 1,000 times: what one grid a tensor loses."""
    model = emit(prepared, ranges, Plan(), "vnni")
    path, _ = write(model, tmp_path / "form.xml", "vnni")
    exact, found = answer(prepared, batch), answer(path, batch)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    onnx.save(model, tmp_path / "pairs.onnx")
    assert np.array_equal(found, answer(tmp_path / "pairs.onnx", batch))


def test_every_layer_is_executed_in_eight_bits(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    path, _ = write(emit(prepared, ranges, Plan(float_layers=("wide",)), "vnni"), tmp_path / "form.xml", "vnni")
    found: Counter[str] = Counter()
    for op in compiled(path).get_runtime_model().get_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str) in {"Convolution", "FullyConnected", "MatMul"}:
            found["int8" if info["runtimePrecision"].astype(str) in {"u8", "i8"} else "float"] += 1
    assert found == {"int8": 3, "float": 3}, "stem, deep, logits; the two of squeeze and excitation, and the one kept"


def test_weights_are_stored_in_eight_bits(build: Any, measured: Any, batch: np.ndarray, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 768)).astype(np.float32)
    weights = {"w": weight, "flat": np.array([-1, 768])}
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["vector"]),
        helper.make_node("Gemm", ["vector", "w"], ["logits"], transB=1),
    ]
    model = build(nodes, weights)
    onnx.save(model, tmp_path / "prepared.onnx")
    _, stored = write(
        emit(tmp_path / "prepared.onnx", measured(model, batch), Plan(), "vnni"), tmp_path / "f.xml", "vnni"
    )
    assert stored.stat().st_size < 1.05 * weight.nbytes / 4


@pytest.mark.parametrize("reader", ["Conv", "ReduceMean"])
def test_parts_of_a_concatenation_share_its_grid_where_layers_alone_read_it(
    build: Any, measured: Any, batch: np.ndarray, tmp_path: Path, reader: str
) -> None:
    weights = {name: np.ones((3, 3, 1, 1), np.float32) * size for name, size in (("a", 1), ("b", 5))}
    weights |= {"last": np.ones((2, 6, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["one"]),
        helper.make_node("Conv", ["image", "b"], ["two"]),
        helper.make_node("Concat", ["one", "two"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "last"], ["logits"])
        if reader == "Conv"
        else helper.make_node("ReduceMean", ["both"], ["logits"]),
    ]
    model = build(nodes, weights)
    onnx.save(model, tmp_path / "prepared.onnx")
    found = activations(emit(tmp_path / "prepared.onnx", measured(model, batch), Plan(), "vnni"))
    if reader == "Conv":
        assert found["one"].scale == found["two"].scale == found["both"].scale
    else:
        assert set(found) == {"image"}


def test_damaged_forms_are_refused(prepared: Path, ranges: Ranges, tmp_path: Path) -> None:
    def written(change: Any = None, **kept: Any) -> Path:
        model = emit(prepared, ranges, Plan(), "vnni")
        if change is not None:
            change(model)
        path = tmp_path / "damaged.xml"
        ov.save_model(ov.Core().read_model(model.SerializeToString()), path, compress_to_fp16=False)
        return path

    def alter(name: str, turn: Any) -> Any:
        def change(model: onnx.ModelProto) -> None:
            for tensor in model.graph.initializer:
                if tensor.name == name:
                    tensor.CopyFrom(from_array(turn(to_array(tensor)), name))

        return change

    def unquantized(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.output[0] == "wide":
                node.input[0] = "gated"

    check_form(written(), "vnni", layers=4)
    with pytest.raises(MachineError, match="4 layers are quantized, and 5 were to be"):
        check_form(written(), "vnni", layers=5)
    with pytest.raises(MachineError, match="its input is not quantized"):
        check_form(written(unquantized), "vnni")
    with pytest.raises(MachineError, match="does not quantize to unsigned 8 bits"):
        check_form(written(alter("gated_zero_point", lambda old: old.astype(np.int8))), "vnni")
    with pytest.raises(MachineError, match="not one weight scale an output"):
        check_form(written(alter("wide.w_scale", lambda old: np.float32(old[0]))), "vnni")
    float_only = tmp_path / "float.xml"
    ov.save_model(ov.Core().read_model(prepared), float_only, compress_to_fp16=False)
    with pytest.raises(MachineError, match=r"float\.xml: no weight was quantized"):
        check_form(float_only, "vnni")


def test_what_openvino_cannot_take_is_told_in_one_line(
    prepared: Path, ranges: Ranges, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = emit(prepared, ranges, Plan(), "vnni")
    model.graph.node[-1].op_type = "Fancy"
    with pytest.raises(MachineError, match=r"form\.xml: .*") as told:
        write(model, tmp_path / "form.xml", "vnni")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "form.xml").exists()
    assert capfd.readouterr() == ("", "")
