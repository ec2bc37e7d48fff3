"""Small ONNX models, and a bundle of one with a variant for TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from medcompress.runtime.bundle import Manifest, Variant
from medcompress.runtime.decision import Decision
from medcompress.runtime.golden import Golden, make_picture
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.sealing import seal


def write_means(
    path: Path, *, kind: int = TensorProto.FLOAT, last: str = "Relu", batch: str | int = "batch", size: int = 4
) -> Path:
    """Averages, a product and what comes ``last``: (N, 3, size, size) to (N, 2)."""
    float_kind = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    weights = np.asarray([[1, 2, 1], [-2, 1, 3]], float_kind)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"], name="pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "weights"], ["products"], name="classifier", transB=1),
            helper.make_node(last, ["products"], ["logits"], name="last"),
        ],
        "means",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info("logits", kind, [batch, 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return _written(path, graph)


def write_quantized(path: Path, *, size: int = 32) -> Path:
    """Two convolutions between Q/DQ nodes as TensorRT wants them: signed 8 bits, zero points 0, one grid an output of
    the weights. (N, 3, size, size) to (N, 2)."""
    random = np.random.default_rng(0)
    nodes, stored = [], {"zero": np.zeros((), np.int8)}

    def quantized(name: str, scale: float) -> str:
        stored[f"{name}_scale"] = np.asarray(scale, np.float32)
        grid = [f"{name}_scale", "zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *grid], [f"{name}_q"], name=f"{name}_quantize"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [f"{name}_dq"]))
        return f"{name}_dq"

    def weights(name: str, shape: tuple[int, ...]) -> str:
        values = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        scales = np.abs(values).reshape(shape[0], -1).max(1) / 127
        grid = scales.reshape(-1, *(1 for _ in shape[1:]))
        stored[f"{name}_q"] = np.clip(np.rint(values / grid), -127, 127).astype(np.int8)
        stored[f"{name}_scale"] = scales.astype(np.float32)
        stored[f"{name}_zero"] = np.zeros(shape[0], np.int8)
        inputs = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_dq"], axis=0))
        return f"{name}_dq"

    last = "image"
    for name, shape, scale in (("first", (32, 3, 3, 3), 0.05), ("second", (64, 32, 3, 3), 0.05)):
        inputs = [quantized(last, scale), weights(name, shape)]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_sum"], name=name, pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"{name}_sum"], [f"{name}_out"]))
        last = f"{name}_out"
    nodes.append(helper.make_node("GlobalAveragePool", [quantized(last, 0.05)], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    stored["classes"] = random.normal(0, 1, (2, 64)).astype(np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "classes"], ["logits"], name="classifier", transB=1))
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return _written(path, graph)


def images(count: int, seed: int = 0, size: int = 4) -> np.ndarray:
    """Noise, (count, 3, size, size)."""
    return np.random.default_rng(seed).normal(1, 1, (count, 3, size, size)).astype(np.float32)


def on_the_cpu(model: Path, batch: np.ndarray) -> np.ndarray:
    """What ONNX Runtime answers."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return np.asarray(ort.InferenceSession(str(model), options).run(["logits"], {"image": batch})[0])


def write_gpu_bundle(folder: Path) -> Path:
    """A bundle whose chosen variant is TensorRT's, in FP32, and whose reference is ONNX Runtime's."""
    folder.mkdir(parents=True)
    prepare, picture = Preprocessing((16, 16)), make_picture()
    rendered = prepare.render(picture)
    model = write_means(folder / "model.onnx", size=16, last="Identity")
    logits = on_the_cpu(model, prepare.normalize(rendered)[None])
    golden = Golden(rendered[None], dict.fromkeys(("tensorrt-fp32", "onnxruntime-fp32"), logits), picture, rendered)
    (folder / "golden.npz").write_bytes(golden.to_bytes())
    manifest = Manifest(
        schema=3,
        created="2026-01-01T00:00:00+00:00",
        verdict="pass",
        reason="a test",
        chosen="tensorrt-fp32",
        reference="onnxruntime-fp32",
        threads=1,
        decision=Decision("binary", ("CLEAR", "OPACITY"), "OPACITY"),
        preprocessing=prepare,
        variants=(
            Variant("tensorrt-fp32", "tensorrt", "fp32", ("model.onnx",), ("nvidia",)),
            Variant("onnxruntime-fp32", "onnxruntime", "fp32", ("model.onnx",)),
        ),
        spec={},
        lineage={},
    )
    seal(folder, manifest)
    return folder


def _written(path: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
