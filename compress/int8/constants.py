"""A graph's constants, changed for one of their readers alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .graph import Graph


class Constants:
    """Of a graph that is being changed.

    Attributes:
        uses: how many inputs of nodes read each tensor.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.uses = Counter(name for node in graph.model.graph.node for name in node.input)

    def array(self, name: str) -> npt.NDArray[Any]:
        """The values of a constant."""
        return numpy_helper.to_array(self._graph.constants[name])

    def change(self, node: onnx.NodeProto, place: int, array: npt.NDArray[Any]) -> None:
        """Let a node read other values; what else reads the same constant reads what it did."""
        name = node.input[place]
        if self.uses[name] == 1:
            self._graph.constants[name].CopyFrom(numpy_helper.from_array(array, name))
            return
        self.uses[name] -= 1
        node.input[place] = self.new(f"{name}_of_{node.output[0]}", array)

    def new(self, name: str, array: npt.NDArray[Any]) -> str:
        """A constant for one reader; the name it got."""
        name = self.free(name)
        tensor = self._graph.model.graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(array, name))
        self._graph.constants[name] = tensor
        self.uses[name] = 1
        return name

    def free(self, name: str) -> str:
        """A name like this one that no tensor of the graph has."""
        while name in self._graph.constants or name in self._graph.producers:
            name += "_"
        return name
