"""The graph that weighs feature maps: the tail's gradient, traced, as an ONNX file.

Grad-CAM: the weight of a channel is the mean over the grid of the gradient of the class's output (Selvaraju et al.,
ICCV 2017, equations 1 and 2, https://arxiv.org/abs/1610.02391). Behind global pooling and one linear layer that is the
class activation map itself (Zhou et al., CVPR 2016), up to the number of the grid's places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from ...trained.results.explanation import TargetLayer
from ..export import write_onnx
from .cut import Cut, Tail

aten = torch.ops.aten


def make_graph(cut: Cut, layer: TargetLayer) -> nn.Module:
    """From what crosses the cut, each (1, ...), and the class (1, classes), one of them 1, to the map (height, width).

    The map is neither rectified nor scaled yet.
    """
    answer, moved = _answer(cut, layer)
    count = len(cut.crossing)

    def heat(*inputs: torch.Tensor) -> torch.Tensor:
        given, chosen = inputs[:count], inputs[count]
        features = given[0]
        with torch.enable_grad():
            moving = torch.zeros_like(moved) if cut.linear else features.detach().clone()
            moving.requires_grad_()
            score = (answer(moving, *given[1:]) * chosen).sum()
            (gradient,) = torch.autograd.grad(score, moving)
        maps = layer.maps(features)
        # By a shift of all places alike, its gradient is the sum over them.
        weights = gradient.flatten() / maps[0, 0].numel() if cut.linear else layer.maps(gradient).mean((0, 2, 3))
        return (weights[:, None, None] * maps[0]).sum(0)

    table = {**core_aten_decompositions(), aten.convolution_backward.default: _through_convolution}
    traced = make_fx(heat, decomposition_table=table)(*_examples(cut))
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _answer(cut: Cut, layer: TargetLayer) -> tuple[fx.GraphModule, torch.Tensor]:
    """The tail as a module (features or their shift, what else crosses) -> logits; and the shift's shape."""
    graph = fx.Graph()
    moving = graph.placeholder("moving")
    given = {node: graph.placeholder(f"given_{place}") for place, node in enumerate(cut.crossing[1:])}
    tail = Tail(cut, graph, dict(given))
    shape = cut.features.meta["val"].shape
    if not cut.linear:
        tail.given[cut.features] = moving
    for node in cut.linear:
        args: Any = node.args
        shift = tail.call(aten.linear.default, moving, tail.build(args[1]))
        if layer.prefix:
            tail.constants["patches"] = (torch.arange(shape[1]) >= layer.prefix).float()[None, :, None]
            shift = tail.call(aten.mul.Tensor, graph.create_node("get_attr", "patches"), shift)
        tail.given[node] = tail.call(aten.add.Tensor, given[node], shift)
    graph.output(tail.build(cut.logits))
    module = nn.Module()
    for name, constant in tail.constants.items():
        module.register_buffer(name, constant)
    return fx.GraphModule(module, graph), torch.zeros(1, *[1] * (len(shape) - 2), shape[-1])


def _through_convolution(
    gradient: torch.Tensor,
    given: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[torch.Tensor | None, ...]:
    """A convolution's gradient to its input is a transposed convolution, which ONNX has."""
    if transposed or wanted[1] or wanted[2]:
        return NotImplemented
    left = [
        given.shape[2 + i] - ((gradient.shape[2 + i] - 1) * s - 2 * p + d * (weight.shape[2 + i] - 1) + 1)
        for i, (s, p, d) in enumerate(zip(stride, padding, dilation, strict=True))
    ]
    back = aten.convolution.default(gradient, weight, None, stride, padding, dilation, True, left, groups)
    return back, None, None


def write_graph(cut: Cut, layer: TargetLayer, path: Path) -> None:
    """The same as an ONNX file: inputs ``given_0``... and ``class``, output ``map``.

    Raises:
        MedcompressError: torch cannot export it.
    """
    graph, names = make_graph(cut, layer), [f"given_{place}" for place in range(len(cut.crossing))]
    write_onnx(graph, _examples(cut), path, [*names, "class"], ["map"])


def _examples(cut: Cut) -> tuple[torch.Tensor, ...]:
    given = [torch.rand(node.meta["val"].shape) for node in cut.crossing]
    return (*given, torch.eye(cut.logits.meta["val"].shape[1])[:1])
