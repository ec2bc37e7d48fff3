"""Each emitted graph has the form its engine and CPU need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from medcompress.compress import emit_onnxruntime
from medcompress.compress.emit_onnxruntime import check_form
from medcompress.compress.onnx_file import describe
from medcompress.runtime.errors import InputError, MachineError


def weights(path: Path) -> list[np.ndarray]:
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return [
        onnx.numpy_helper.to_array(constants[node.input[0]])
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and constants[node.input[0]].data_type == onnx.TensorProto.INT8
    ]


def test_vnni_weights_use_the_full_range_and_avx2_weights_seven_bits(pristine_bundle: Path) -> None:
    full = weights(pristine_bundle / "variants/onnxruntime-int8-vnni.onnx")
    reduced = weights(pristine_bundle / "variants/onnxruntime-int8-avx2.onnx")
    assert len(full) == len(reduced) > 10
    assert max(np.abs(values.astype(int)).max() for values in full) == 127
    assert max(np.abs(values.astype(int)).max() for values in reduced) == 64
    # No pair of products can leave 16 bits: what vpmaddubsw would saturate.
    assert 2 * 255 * 64 < 2**15


def test_weights_are_per_channel_and_activations_unsigned(pristine_bundle: Path) -> None:
    graph = onnx.load(pristine_bundle / "variants/onnxruntime-int8-vnni.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].data_type == onnx.TensorProto.UINT8
        if node.op_type == "DequantizeLinear" and constants.get(node.input[0], node) is not node:
            tensor = constants[node.input[0]]
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4:
                assert constants[node.input[1]].dims == [tensor.dims[0]]


def test_a_graph_of_the_wrong_form_is_refused(pristine_bundle: Path, tmp_path: Path) -> None:
    full = pristine_bundle / "variants/onnxruntime-int8-vnni.onnx"
    check_form(full, full_range=True)
    with pytest.raises(MachineError, match="7 bits"):
        check_form(full, full_range=False)
    with pytest.raises(MachineError, match="no weight was quantized"):
        check_form(pristine_bundle / "model.onnx", full_range=True)
    signed = onnx.load(full)
    for tensor in signed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8:
            tensor.data_type = onnx.TensorProto.INT8
    onnx.save(signed, tmp_path / "signed.onnx")
    with pytest.raises(MachineError, match="unsigned 8 bits"):
        check_form(tmp_path / "signed.onnx", full_range=True)


def test_products_of_activations_stay_float() -> None:
    def node(name: str, *inputs: str) -> onnx.NodeProto:
        return onnx.helper.make_node("MatMul", inputs, [f"{name}-out"], name=name)

    weight = onnx.numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), "w")
    nodes = [node("weighted", "x", "w"), node("attention", "q", "k")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], [weight]))
    assert emit_onnxruntime._products_of_activations(model) == ["attention"]


def test_the_reference_names_no_file_of_the_machine_that_made_it(pristine_bundle: Path) -> None:
    content = (pristine_bundle / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_an_onnx_file_is_described_without_a_session(pristine_bundle: Path, tmp_path: Path) -> None:
    found = describe(pristine_bundle / "model.onnx")
    assert found["inputs"] == {"image": ["batch", 3, 48, 48]}
    assert found["outputs"] == {"logits": ["batch", 2]}
    assert not found["quantized"]
    assert describe(pristine_bundle / "variants/onnxruntime-int8-avx2.onnx")["quantized"]
    for name, content in {"none.onnx": None, "empty.onnx": b"", "text.onnx": b"hello, this is no model"}.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            describe(path)
