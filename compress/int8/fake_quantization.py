"""A network whose layers compute with the rounding of INT8, and still have gradients.

The fake quantization stands where the emissions put theirs: at the weights of convolutions and fully connected
layers, signed and symmetric for each output channel, and at their inputs, unsigned with a zero point. Rounding has
the gradient of the identity within the range, and none outside it (Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018, https://arxiv.org/abs/1712.05877).

torch.ao.quantization, which had such modules, is to be deleted from torch; the operators used here stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import fx, nn

_LAYERS = (torch.ops.aten.conv2d, torch.ops.aten.linear, torch.ops.aten.matmul)
# A range of no width has no step.
_LEAST = 1e-8


class Rounding(nn.Module):
    """Fake quantization of one tensor; while :attr:`observing` it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.observing = False


class InputRounding(Rounding):
    """Rounds a layer's input to 256 levels, one of them 0: in training between the extremes of the batch, which move
    with the weights; in evaluation between those that :func:`observe` found.

    Args:
        channels: of axis 1, each with a range of its own; 0 for one range of the whole tensor.
    """

    def __init__(self, channels: int = 0) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(channels or ()))
        self.register_buffer("high", torch.zeros(channels or ()))
        self.low: torch.Tensor
        self.high: torch.Tensor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values, of their shape."""
        low, high = self._extremes(values) if self.training or self.observing else (self.low, self.high)
        if self.observing:
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
            return values
        scale = ((high - low) / 255).clamp(min=_LEAST)
        zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
        if scale.ndim:
            return torch.fake_quantize_per_channel_affine(values, scale, zero, 1, 0, 255)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)

    @torch.no_grad()
    def _extremes(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the greatest value, of all or of each channel, with 0 between them."""
        if self.low.ndim:
            low, high = values.amin((0, 2, 3)), values.amax((0, 2, 3))
        else:
            low, high = torch.aminmax(values)
        return low.clamp(max=0), high.clamp(min=0)

    def forget(self) -> None:
        """Let the next observation begin anew."""
        self.low, self.high = torch.zeros_like(self.low), torch.zeros_like(self.high)


class WeightRounding(Rounding):
    """Rounds a weight to -127..127 steps, the step of each output channel by its largest value.

    A normalization that follows multiplies a channel's values and its step alike, so what is rounded is the weight
    that the normalization is folded into.

    Args:
        axis: counts the outputs.
    """

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight, of its shape."""
        if self.observing:
            return weight
        others = [axis for axis in range(weight.ndim) if axis != self.axis]
        scale = (weight.detach().abs().amax(others) / 127).clamp(min=_LEAST)
        zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, self.axis, -127, 127)


@torch.no_grad()
def observe(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Take the ranges of all inputs anew: those of the float network over these images.

    Args:
        network: of :func:`with_rounding`.
        batches: (N, C, H, W) each.
    """
    roundings = [module for module in network.modules() if isinstance(module, Rounding)]
    for rounding in roundings:
        rounding.observing = True
        if isinstance(rounding, InputRounding):
            rounding.forget()
    for images in batches:
        network(images)
    for rounding in roundings:
        rounding.observing = False


def with_rounding(module: nn.Module, images: torch.Tensor, *, per_channel_depthwise: bool) -> fx.GraphModule:
    """The network with fake quantization, over the same parameters: to train it is to train ``module``.

    It is ``module`` as it is in evaluation: no dropout, and the statistics of normalizations fixed. Convolutions of
    one pixel (squeeze and excitation) and layers that multiply two activations stay float.

    Args:
        module: in evaluation mode.
        images: (N, C, H, W), N at least 2, where the module lies.
        per_channel_depthwise: a range for each channel at the inputs of depthwise convolutions, as OpenVINO can.

    Raises:
        Exception: of torch.export: a network that it cannot trace; one that was exported to ONNX it can.
    """
    traced = torch.export.export(
        module, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},)
    ).module()
    # Made anew: what export gives back cannot be put into training mode, and checks the sizes of its input.
    graph = cast("fx.GraphModule", traced).graph
    for node in [node for node in graph.nodes if node.target == "_guards_fn"]:
        graph.erase_node(node)
    network = fx.GraphModule(traced, graph)
    of_images = _following(network.graph)
    done: dict[tuple[fx.Node, int], fx.Node] = {}

    def rounded(node: fx.Node, rounding: Rounding, key: int) -> fx.Node:
        # A tensor that several layers take is rounded once.
        if (node, key) not in done:
            name = f"rounding_{len(done)}"
            network.add_submodule(name, rounding)
            with network.graph.inserting_after(node):
                done[node, key] = network.graph.call_module(name, (node,))
        return done[node, key]

    for node in list(network.graph.nodes):
        if not _is_layer(node) or node.args[1] in of_images or _is_pixel(node):
            continue
        values, weight = cast("tuple[fx.Node, fx.Node]", node.args[:2])
        channels = weight.meta["val"].shape[0] if per_channel_depthwise and _is_depthwise(node) else 0
        axis = weight.meta["val"].ndim - 1 if node.target.overloadpacket is torch.ops.aten.matmul else 0
        node.args = (
            rounded(values, InputRounding(channels), channels),
            rounded(weight, WeightRounding(axis), axis),
            *node.args[2:],
        )
    network.recompile()
    return network


def _following(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on the images."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _is_layer(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "overloadpacket", None) in _LAYERS


def _is_pixel(node: fx.Node) -> bool:
    """Whether it is a convolution of a single pixel."""
    shape = _shape(node, 0)
    return cast("Any", node.target).overloadpacket is torch.ops.aten.conv2d and shape[2:] == (1, 1)


def _is_depthwise(node: fx.Node) -> bool:
    if cast("Any", node.target).overloadpacket is not torch.ops.aten.conv2d:
        return False
    return _shape(node, 1)[1] == 1 and _shape(node, 0)[1] > 1


def _shape(node: fx.Node, place: int) -> tuple[Any, ...]:
    """Of an argument."""
    return tuple(cast("fx.Node", node.args[place]).meta["val"].shape)
