"""A small network with what INT8 meets: a stem, a depthwise convolution, squeeze and excitation, a residual, a head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.numpy_helper import from_array

from medcompress.compress.int8.ranges import BINS, Ranges, TensorRange

Nodes = list[onnx.NodeProto]
Run = Callable[..., npt.NDArray[np.float32]]


def network(nodes: Nodes, weights: dict[str, npt.NDArray[Any]], opset: int = 18) -> onnx.ModelProto:
    """From ``image`` (N, 3, 16, 16) to ``logits``."""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 16, 16])
    logits = onnx.ValueInfoProto(name="logits")
    constants = [from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "network", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model)
    return model


def answers(model: bytes | Path, batch: npt.NDArray[np.float32], outputs: list[str] | None = None) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(outputs, {"image": batch}))


def ranges_of(model: onnx.ModelProto, batch: npt.NDArray[np.float32]) -> Ranges:
    """The widest of every tensor, by running it; the histograms stay empty."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    outputs = {value.name for value in seen.graph.output}
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    found = dict(zip(names, answers(seen.SerializeToString(), batch, names), strict=True)) | {"image": batch}
    tensors = {}
    for name, values in found.items():
        if values.dtype != np.float32:
            continue
        others = (0, 2, 3) if values.ndim == 4 else tuple(range(values.ndim - 1))
        low, high = float(values.min()), float(values.max())
        channels = (tuple(map(float, values.min(others))), tuple(map(float, values.max(others))))
        tensors[name] = TensorRange(low, high, max(-low, high, 1e-6), (0,) * BINS, *channels)
    return Ranges(len(batch), 0.0, tensors)


@pytest.fixture
def build() -> Callable[..., onnx.ModelProto]:
    return network


@pytest.fixture
def measured() -> Callable[..., Ranges]:
    return ranges_of


@pytest.fixture
def run() -> Run:
    return lambda model, batch: answers(model, batch)[0]


@pytest.fixture
def batch() -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((8, 3, 16, 16)).astype(np.float32)


def layers() -> tuple[Nodes, dict[str, npt.NDArray[Any]]]:
    """Its nodes and weights; the depthwise convolution's input channels differ by up to 1,000 times."""
    random = np.random.default_rng(3)

    def draw(*shape: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    spread = np.logspace(0, -3, 8).astype(np.float32)
    weights = {
        "stem.w": draw(8, 3, 3, 3) * spread[:, None, None, None],
        "stem.b": draw(8, 3) @ draw(3, 1).reshape(3) * spread,
        "deep.w": draw(8, 1, 3, 3) / spread[:, None, None, None],
        "deep.b": draw(8, 8)[0],
        "squeeze.w": draw(4, 8, 1, 1),
        "squeeze.b": draw(4, 4)[0],
        "excite.w": draw(8, 4, 1, 1),
        "excite.b": draw(8, 8)[0],
        "wide.w": draw(8, 8, 1, 1),
        "wide.b": draw(8, 8)[0],
        "head.w": draw(2, 8),
        "head.b": draw(2, 2)[0],
        "axes": np.array([2, 3]),
        "flat": np.array([-1, 8]),
    }

    def conv(name: str, source: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [name], **attributes)

    nodes = [
        conv("stem", "image", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["stem.relu"]),
        conv("deep", "stem.relu", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["deep"], ["deep.relu"]),
        helper.make_node("ReduceMean", ["deep.relu", "axes"], ["pool"], keepdims=1),
        conv("squeeze", "pool"),
        helper.make_node("Relu", ["squeeze"], ["squeeze.relu"]),
        conv("excite", "squeeze.relu"),
        helper.make_node("Sigmoid", ["excite"], ["gate"]),
        helper.make_node("Mul", ["deep.relu", "gate"], ["gated"]),
        conv("wide", "gated"),
        helper.make_node("Add", ["wide", "deep.relu"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["sum.relu"]),
        helper.make_node("ReduceMean", ["sum.relu", "axes"], ["features"], keepdims=1),
        helper.make_node("Reshape", ["features", "flat"], ["vector"]),
        helper.make_node("Gemm", ["vector", "head.w", "head.b"], ["logits"], transB=1),
    ]
    return nodes, weights


@pytest.fixture
def parts() -> tuple[Nodes, dict[str, npt.NDArray[Any]]]:
    return layers()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "prepared.onnx"
    onnx.save(network(*layers()), path)
    return path


@pytest.fixture
def ranges(prepared: Path, batch: npt.NDArray[np.float32]) -> Ranges:
    return ranges_of(onnx.load(prepared), batch)
