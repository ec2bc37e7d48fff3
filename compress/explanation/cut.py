"""A network cut behind the layer whose feature maps are weighed: what crosses the cut, and what follows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from ...trained.results.explanation import TargetLayer
from .slicing import full_slice, sliced

aten = torch.ops.aten


@dataclass
class Cut:
    """Of a network that answers one image.

    Attributes:
        program: of the whole network.
        features: the output of the target layer.
        logits: the network's.
        crossing: the tensors that what follows is computed of, ``features`` first.
        linear: of them, those that are linear in ``features``: by their nodes of the program, which are all that
            read it. Empty where other things do.
    """

    program: torch.export.ExportedProgram
    features: fx.Node
    logits: fx.Node
    crossing: tuple[fx.Node, ...]
    linear: tuple[fx.Node, ...] = ()

    @property
    def constants(self) -> dict[str, torch.Tensor]:
        """Weights and buffers, by the name of their node."""
        signature = self.program.graph_signature
        stored = {**self.program.state_dict, **self.program.constants}
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        return {node: stored[name].detach() for node, name in named.items()}

    def values(self, image: torch.Tensor) -> list[npt.NDArray[np.float32]]:
        """What crosses it, of one image (1, C, H, W), in the order of ``crossing``."""
        found: dict[fx.Node, torch.Tensor] = {}
        crossing = set(self.crossing)

        class Watching(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                made = super().run_node(n)
                if n in crossing:
                    found[n] = made.clone()
                return made

        constants = self.constants
        given = [constants.get(node.name, image) for node in self.program.graph.nodes if node.op == "placeholder"]
        with torch.no_grad():
            Watching(self.program.graph_module).run(*given)
        return [found[node].numpy() for node in self.crossing]


def cut(network: nn.Module, layer: TargetLayer, image: torch.Tensor) -> Cut:
    """Cut a network behind a layer.

    Args:
        network: in evaluation mode.
        layer: of it.
        image: (1, C, H, W).
    """
    program = _traced(network, layer, image)
    results: Any = program.graph.output_node().args[0]
    logits, kept = results
    features = kept.args[0]  # what the hook's clone was made of
    of_image = _reached([node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs])
    after = _reached([features]) & _leading_to(logits)
    readers = [node for node in features.users if node in after]
    # A product with a weight is linear in the features: the rest need not compute it again, nor go back through it.
    linear = layer.layout != "nchw" and all(
        node.target is aten.linear.default and node.args[0] is features for node in readers
    )
    follows = after - {features} - set(readers if linear else ())
    crossing = dict.fromkeys([features, *(readers if linear else ())])
    for node in program.graph.nodes:
        if node in follows:
            crossing |= dict.fromkeys(each for each in node.all_input_nodes if each in of_image - follows)
    return Cut(program, features, logits, tuple(crossing), tuple(readers) if linear else ())


@dataclass
class Tail:
    """What follows a cut, as a graph of its own; what answers from one token alone is computed for that token.

    Attributes:
        given: nodes of the cut's program -> their nodes here, which are known.
    """

    cut: Cut
    graph: fx.Graph
    given: dict[fx.Node, fx.Node]
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    _made: dict[tuple[Any, ...], fx.Node] = field(default_factory=dict)

    def build(self, node: Any) -> fx.Node:
        """The node here that computes what a node of the program does."""
        if node in self.given:
            return self.given[node]
        key = (node,)
        if key not in self._made:
            self._made[key] = self._build(node)
        return self._made[key]

    def sliced(self, node: Any, dim: int, index: int) -> fx.Node:
        """A node here that computes one place of a node of the program, its dimension kept."""
        key = (node, dim, index)
        if key not in self._made:
            self._made[key] = sliced(self, node, dim, index)
        return self._made[key]

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A new node."""
        return self.graph.call_function(target, args, kwargs)

    def _build(self, node: fx.Node) -> fx.Node:
        if node.op == "placeholder":
            name = f"constant_{len(self.constants)}"
            self.constants[name] = self.cut.constants[node.name]
            return self.graph.create_node("get_attr", name)
        args: Any = node.args
        if node.target is aten.select.int:
            tensor, dim, index = args
            dim, index = _positive(tensor, dim, index)
            return self.call(aten.select.int, self.sliced(tensor, dim, index), dim, 0)
        if full_slice(node):
            return self.build(args[0])
        if node.target is aten.scaled_dot_product_attention.default:
            return self.attention(node, None)
        return self.graph.node_copy(node, self.build)

    def attention(self, node: fx.Node, index: int | None) -> fx.Node:
        """Attention as products and a softmax, whose gradients have operators in ONNX; of one query, or of all."""
        args: Any = node.args
        query, key, value, *rest = args
        options: dict[str, Any] = dict(zip(("attn_mask", "dropout_p", "is_causal"), rest, strict=False)) | node.kwargs
        mask = options.get("attn_mask")
        if options.get("is_causal") or options.get("enable_gqa"):
            whole = self.graph.node_copy(node, self.build)
            return whole if index is None else self.call(aten.slice.Tensor, whole, -2, index, index + 1)
        scale = options.get("scale") or query.meta["val"].shape[-1] ** -0.5
        row = len(query.meta["val"].shape) - 2
        asked = self.build(query) if index is None else self.sliced(query, row, index)
        scores = self.call(aten.matmul.default, asked, self.call(aten.transpose.int, self.build(key), -1, -2))
        scores = self.call(aten.mul.Tensor, scores, scale)
        if mask is not None:
            of_row = index is not None and mask.meta["val"].shape[-2] > 1
            added = self.build(mask)
            added = self.call(aten.slice.Tensor, added, -2, index, (index or 0) + 1) if of_row else added
            if mask.meta["val"].dtype == torch.bool:
                scores = self.call(aten.masked_fill.Scalar, scores, self.call(aten.logical_not.default, added), -1e30)
            else:
                scores = self.call(aten.add.Tensor, scores, added)
        return self.call(aten.matmul.default, self.call(aten.softmax.int, scores, -1), self.build(value))


def _traced(network: nn.Module, layer: TargetLayer, image: torch.Tensor) -> torch.export.ExportedProgram:
    """A program of (logits, features)."""
    kept: list[torch.Tensor] = []

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            kept.clear()
            logits = self.network(image)
            return logits, kept[0]

    # A copy: what follows may write over the tensor.
    handle = layer.module.register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    try:
        with torch.no_grad():
            return torch.export.export(Both().eval(), (image,), strict=False).run_decompositions({})
    finally:
        handle.remove()
        kept.clear()


def _reached(starts: list[fx.Node]) -> set[fx.Node]:
    open_, found = list(starts), set(starts)
    while open_:
        for user in open_.pop().users:
            if user not in found:
                found.add(user)
                open_.append(user)
    return found


def _leading_to(end: fx.Node) -> set[fx.Node]:
    open_, found = [end], {end}
    while open_:
        for given in open_.pop().all_input_nodes:
            if given not in found:
                found.add(given)
                open_.append(given)
    return found


def _positive(tensor: Any, dim: Any, index: Any) -> tuple[int, int]:
    shape = tensor.meta["val"].shape
    dim = dim % len(shape)
    return dim, index % shape[dim]
