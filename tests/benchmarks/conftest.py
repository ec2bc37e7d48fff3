"""A model that looks at one quarter of the image, for tests of heat maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medcompress.benchmarks.candidate import Candidate

Quarter = Callable[..., Candidate]


@pytest.fixture
def looks_at(tmp_path: Path) -> Quarter:
    """Makes an ONNX model whose raw outputs are (-m, m), m the mean of one quarter: ``top``, ``left`` or not."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(name: str, top: bool, left: bool, size: tuple[int, int] = (56, 56), channels: int = 1) -> Candidate:
        height, width = size
        starts = [0 if top else height // 2, 0 if left else width // 2]
        constants = {
            "starts": np.array(starts),
            "ends": np.array([starts[0] + height // 2, starts[1] + width // 2]),
            "axes": np.array([2, 3]),
            "all": np.array([1, 2, 3]),
            "one": np.array([1]),
            "signs": np.array([[-1, 1]], np.float32),
        }
        nodes = [
            helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["quarter"]),
            helper.make_node("ReduceMean", ["quarter", "all"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
            helper.make_node("MatMul", ["column", "signs"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes,
            "quarter",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, height, width])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return Candidate(name, "onnxruntime", "fp32", (path,))

    return make
