"""Values that activations of the kind x * gate(x) turn to nothing, and that no level need be spent on."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .graph import Graph, attributes
from .ranges import Ranges, TensorRange

# Below it, what x * gate(x) gives is between -0.003 and 0.
_CLOSED = {"Sigmoid": -8.0, "HardSwish": -3.0, "Gelu": -4.0}


def tightened(model: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """The ranges without what lies below a closed gate, of tensors that nothing but gates read.

    Args:
        model: the float graph.
        ranges: of it.
    """
    graph = Graph(model)
    tensors = dict(ranges.tensors)
    for name, found in ranges.tensors.items():
        closed = closed_for_all(graph, name)
        if closed is not None:
            tensors[name] = _from(found, closed)
    return msgspec.structs.replace(ranges, tensors=tensors)


def is_gate(graph: Graph, node: onnx.NodeProto, name: str) -> bool:
    """Whether a node is a sigmoid of a tensor, and does nothing but multiply that tensor."""
    if node.op_type not in {"Sigmoid", "HardSigmoid"}:
        return False
    readers = graph.consumers[node.output[0]]
    return len(readers) == 1 and readers[0].op_type == "Mul" and name in readers[0].input


def closed_at(node: onnx.NodeProto) -> float:
    """The input below which a gate lets nothing through."""
    if node.op_type != "HardSigmoid":
        return _CLOSED[node.op_type]
    given = attributes(node)
    return -given.get("beta", 0.5) / given.get("alpha", 0.2)


def closed_for_all(graph: Graph, name: str) -> npt.NDArray[np.float32] | None:
    """The value below which nothing that reads a tensor tells its values apart: one, or one a channel.

    None where there is no such value.
    """
    closed = []
    products: set[str] = set()
    for reader in graph.consumers[name]:
        factors = np.ones(1, np.float32)
        gate = reader
        after = graph.consumers[reader.output[0]]
        if reader.op_type == "Mul" and reader.input[1] in graph.constants and len(after) == 1:
            factors = numpy_helper.to_array(graph.constants[reader.input[1]]).ravel()
            gate = after[0]
        if is_gate(graph, gate, name) and (factors > 0).all():
            products.add(graph.consumers[gate.output[0]][0].output[0])
        elif reader.op_type not in {"HardSwish", "Gelu"}:
            continue
        closed.append(closed_at(gate) / factors)
    readers = {reader.output[0] for reader in graph.consumers[name]}
    if not closed or len(closed) + len(readers & products) != len(graph.consumers[name]):
        return None
    return np.min(np.broadcast_arrays(*closed), axis=0)


def _from(found: TensorRange, closed: npt.NDArray[np.float32]) -> TensorRange:
    low = np.maximum(found.channel_low, closed)
    least = max(found.low, float(low.min()))
    return msgspec.structs.replace(found, low=min(least, found.high), channel_low=tuple(low.tolist()))
