"""A graph run layer by layer, its values held only as long as something still reads them.

So two forms of one network can be run side by side, and what one layer does to them looked at before the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from .graph import Graph

# A tensor over all images, in parts of PART images.
Parts: TypeAlias = list[npt.NDArray[Any]]

# Images in one run: what lies within a segment is held for these alone, what lies between segments for all.
PART = 8


class Walk:
    """Over one graph and some images, forward only, as far as it is asked to go.

    Quantizing and dequantizing is computed as it is written, in floats: no engine's integer kernels, no saturation.
    Between two calls it holds what later nodes read, of all images.
    """

    def __init__(self, model: onnx.ModelProto, images: npt.NDArray[np.float32]) -> None:
        """Stand at the start.

        Args:
            model: of one input; its constants are initializers.
            images: as the network takes them (N, C, H, W).
        """
        self.graph = Graph(model)
        starts = range(0, len(images), PART)
        self._values: dict[str, Parts] = {model.graph.input[0].name: [images[i : i + PART] for i in starts]}
        self._readers = Counter(name for node in model.graph.node for name in node.input)
        self._done: set[int] = set()

    def reach(self, name: str) -> Parts:
        """The values of a tensor; they are those of every earlier call as long as something reads them.

        Raises:
            KeyError: the graph has no such tensor, or it was passed.
        """
        if name not in self._values:
            nodes = [node for node in leading_to(self.graph, [name], self._values) if id(node) not in self._done]
            made = {output for node in nodes for output in node.output}
            if name not in made:
                raise KeyError(f"{name} was passed, or is no tensor of the graph")
            self._done.update(map(id, nodes))
            for node in nodes:
                self._readers.subtract(node.input)
            wanted = [name, *sorted(each for each in made - {name, ""} if self._readers[each] > 0)]
            self._values |= run(self.graph, nodes, self._values, wanted)
            for read in {each for node in nodes for each in node.input}:
                if self._readers[read] == 0:
                    self._values.pop(read, None)
        return self._values[name]

    def replace(self, name: str, parts: Parts) -> None:
        """Let what comes after read other values of a tensor just reached."""
        self._values[name] = parts


def leading_to(graph: Graph, names: Iterable[str], known: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that make some tensors of others that are known, in the graph's order."""
    known = set(known)
    open_, found = [name for name in names if name not in known], set()
    while open_:
        node = graph.producers.get(open_.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            open_ += [name for name in node.input if name not in known]
    return [node for node in graph.model.graph.node if id(node) in found]


def run(
    graph: Graph, nodes: Sequence[onnx.NodeProto], known: dict[str, Parts], wanted: Sequence[str]
) -> dict[str, Parts]:
    """Run some nodes of a graph alone.

    Raises:
        KeyError: they need a tensor that is neither known nor constant.
    """
    made = {output for node in nodes for output in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    fed = [name for name in read if name not in graph.constants]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "segment",
            [_described(name, known[name][0]) for name in fed],
            [onnx.ValueInfoProto(name=name) for name in wanted],
            [graph.constants[name] for name in read if name in graph.constants],
        ),
        opset_imports=graph.model.opset_import,
        ir_version=graph.model.ir_version,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    parts = len(known[fed[0]]) if fed else 1
    outputs: list[Any] = [session.run(list(wanted), {name: known[name][part] for name in fed}) for part in range(parts)]
    if not fed:  # made of constants alone: the same for every part
        outputs *= max(len(each) for each in known.values())
    return {name: [output[place] for output in outputs] for place, name in enumerate(wanted)}


def is_quantized(quantized: Graph, layer: onnx.NodeProto) -> bool:
    """Whether a layer of a quantized form reads its weight through a DequantizeLinear."""
    made_by = quantized.producers.get(layer.input[1])
    return made_by is not None and made_by.op_type == "DequantizeLinear"


def _described(name: str, values: npt.NDArray[Any]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [None] * values.ndim)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Else a DequantizeLinear and its MatMul become one integer product, which saturates on some CPUs.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options
