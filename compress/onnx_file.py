"""What an ONNX file holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError, missing_package


def describe(path: Path) -> dict[str, Any]:
    """Inputs, outputs, operations, weights and whether it is quantized; no session is made.

    Raises:
        InputError: unreadable, or not an ONNX model.
        MachineError: onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise missing_package("onnx", "compress") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path}: is not an ONNX model, or is truncated ({error})") from error
    if not model.graph.node:
        raise InputError(f"{path}: is not an ONNX model: it holds no graph")
    operations = Counter(node.op_type for node in model.graph.node)
    types = Counter(onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer)
    return {
        "kind": "ONNX model",
        "size_bytes": path.stat().st_size,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
        "operations": dict(operations.most_common()),
        "weights": dict(types),
        "quantized": "QuantizeLinear" in operations or "DequantizeLinear" in operations,
    }


def _shape(value: Any) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
