"""Where a network looked: Grad-CAM heat maps, from its last layer that still has a grid.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017
(https://arxiv.org/abs/1610.02391), as the ``grad-cam`` library computes it. A heat map shows what spoke for a class,
coarsely; it is no segmentation, and no proof that the answer is right.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...benchmarks.progress import track
from ...runtime.decision import Decision
from ...runtime.errors import InputError, missing_package
from ..data.datasets import in_order, normalization_table, normalize
from ..spec import ModelSpec

BATCH = 16
# Tokens before those of the image's patches: the class, a teacher, registers.
MOST_PREFIX_TOKENS = 16

_Heat = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TargetLayer:
    """The layer whose feature maps are weighed.

    Attributes:
        name: within the network.
        module: its output is one tensor.
        layout: of that output: ``nchw``, ``nhwc``, or ``tokens`` (N, prefix + height * width, C).
        grid: (height, width) of the feature maps.
        prefix: tokens that belong to no patch, which come first.
    """

    name: str
    module: nn.Module
    layout: Literal["nchw", "nhwc", "tokens"]
    grid: tuple[int, int]
    prefix: int = 0

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """The layer's output as feature maps (N, C, height, width)."""
        if self.layout == "nchw":
            return output
        if self.layout == "tokens":
            output = output[:, self.prefix :].unflatten(1, self.grid)
        return output.permute(0, 3, 1, 2)


def require_grad_cam() -> None:
    """Raise a MachineError where the ``grad-cam`` library is not installed."""
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        raise missing_package("grad-cam", "train")


def explain(
    network: nn.Module,
    spec: ModelSpec,
    pixels: npt.NDArray[np.uint8],
    classes: Sequence[int] | None = None,
    layer: TargetLayer | None = None,
) -> _Heat:
    """Heat maps (N, H, W), 0..1, of what in each image spoke for a class; all 0 where nothing did.

    Each map is scaled by itself: 1 is the image's own strongest place. Computed where the network lies, which is
    put into evaluation mode; its weights, gradients and hooks are as before.

    Args:
        network: (N, C, H, W) to raw outputs (N, classes).
        spec: normalizes the pixels.
        pixels: rendered by ``spec.preprocessing``, (N, H, W) or (N, H, W, 3).
        classes: of each image, the index of the class to explain; None takes the answer.
        layer: None looks for it, see :func:`target_layer`.

    Raises:
        InputError: the network has no layer with a grid.
        MachineError: the ``grad-cam`` library is not installed.
    """
    require_grad_cam()
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network.eval()
    layer = layer or target_layer(network, spec)
    device = next(network.parameters()).device
    table = normalization_table(spec.preprocessing).to(device)
    heat = np.zeros((len(pixels), *spec.preprocessing.size), np.float32)
    with torch.inference_mode(False), torch.enable_grad(), _frozen(network):
        cam = GradCAM(network, [layer.module], layer.maps)
        # What follows in place (a ReLU) must not change the feature maps: the rest of the network gets a copy. As a
        # hook that comes after the library's.
        copying = layer.module.register_forward_hook(lambda module, inputs, output: output.clone())
        try:
            for batch in track(in_order(len(pixels), BATCH), "Heat maps"):
                inputs = normalize(torch.from_numpy(pixels[batch]).to(device), table)
                if classes is None:
                    with torch.no_grad():
                        explained = answered(spec.decision, network(inputs).float().cpu().numpy())
                else:
                    explained = np.asarray(classes)[batch]
                targets: list[Any] = [ClassifierOutputTarget(int(index)) for index in explained]
                # With the weights frozen, the gradient flows from the input.
                heat[batch] = cam(inputs.requires_grad_(), targets)
        finally:
            copying.remove()
            cam.activations_and_grads.release()
    return heat


def answered(decision: Decision, logits: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Index of the class each row of raw outputs (N, classes) answers; of several findings, the likeliest."""
    probabilities = decision.probabilities(logits)
    if decision.kind == "multilabel":
        return probabilities.argmax(axis=1)
    return decision.answers(probabilities).argmax(axis=1)


def target_layer(network: nn.Module, spec: ModelSpec) -> TargetLayer:
    """The last layer that has a grid, and on the whole of whose grid the answer depends.

    For a CNN the last stage or convolution before the pooling. For a transformer that answers from its class token
    the norm before the last attention: after it, no patch's token reaches the answer. One image of noise is sent
    through; the network is put into evaluation mode.

    Raises:
        InputError: there is no such layer.
    """
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode(False), torch.enable_grad(), _frozen(network):
        noise = torch.rand(1, *spec.preprocessing.shape, generator=torch.Generator().manual_seed(0)).to(device)
        found = _Candidates(spec.preprocessing.size)
        handles = [
            module.register_forward_hook(found.hook(name)) for name, module in network.named_modules() if name
        ]  # fmt: skip
        try:
            outputs = network(noise.requires_grad_())
        finally:
            for handle in handles:
                handle.remove()
        # Unequal weights: of two outputs that mirror each other the gradients would cancel.
        score = (outputs * torch.arange(1, outputs.shape[1] + 1, device=device)).sum()
        candidates = [
            (layer, tensor)
            for layer, tensor in found.layers
            if found.calls[layer.name] == 1 and id(tensor) not in found.pooled and tensor.requires_grad
        ]
        tensors = [noise, *(tensor for _, tensor in candidates)]
        of_noise, *gradients = torch.autograd.grad(score, tensors, allow_unused=True)
    for (layer, _), gradient in reversed(list(zip(candidates, gradients, strict=True))):
        if gradient is not None and bool((layer.maps(gradient) != 0).any()):
            return layer
    if of_noise is None or not of_noise.any():
        raise InputError(
            f"{spec.architecture}: answers the same whatever the image, as an untrained head of zeros does, so there "
            "is nothing to explain; train it first"
        )
    raise InputError(
        f"{spec.architecture}: has no layer with a grid (height x width) before its answer, so there is nothing a "
        "heat map could show; use a convolutional network or a vision transformer"
    )


class _Candidates:
    """Every module's output that has a grid, in the order they were computed."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.layers: list[tuple[TargetLayer, torch.Tensor]] = []
        self.calls: dict[str, int] = {}
        self.pooled: dict[int, torch.Tensor] = {}  # by id; held, so that no id is used again
        self.grid = size
        self.channels = 0

    def hook(self, name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            given = inputs[0] if inputs else None
            if not isinstance(output, torch.Tensor) or (output is given and not getattr(module, "inplace", False)):
                return  # a tuple, or a module that passes its input on
            layer = self._layer(name, module, output)
            if layer is None:
                return
            # A module without weights that makes the grid coarser is a pooling: what it pools shows more.
            if isinstance(given, torch.Tensor) and next(module.parameters(), None) is None:
                before = self._layer(name, module, given)
                if id(given) in self.pooled or (before is not None and before.grid != layer.grid):
                    self.pooled[id(output)] = output
            if layer.layout != "tokens":
                self.grid = layer.grid
                self.channels = output.shape[1 if layer.layout == "nchw" else 3]
            self.layers.append((layer, output))

        return seen

    def _layer(self, name: str, module: nn.Module, output: torch.Tensor) -> TargetLayer | None:
        shape = output.shape
        if shape[0] != 1:
            return None
        if output.ndim == 4 and self._is_grid(shape[2], shape[3]):
            return TargetLayer(name, module, "nchw", (shape[2], shape[3]))
        if output.ndim == 4 and self._is_grid(shape[1], shape[2]):
            return TargetLayer(name, module, "nhwc", (shape[1], shape[2]))
        # Tokens: those of the patches that were cut before, as wide as they, and not a projection within attention.
        prefix = shape[1] - self.grid[0] * self.grid[1] if output.ndim == 3 else -1
        if 0 <= prefix <= MOST_PREFIX_TOKENS and shape[2] == self.channels and not isinstance(module, nn.Linear):
            return TargetLayer(name, module, "tokens", self.grid, prefix)
        return None

    def _is_grid(self, height: int, width: int) -> bool:
        """Whether these are the image's sides, made coarser alike: heads, channels and tokens are not."""
        alike = abs(height - self.size[0] * width / self.size[1]) <= 1
        return height > 1 and width > 1 and alike and height <= self.grid[0] and width <= self.grid[1]


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradient is computed for the weights; what they had is put back."""
    kept = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    for parameter, _, _ in kept:
        parameter.requires_grad_(False)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, requires_grad, gradient in kept:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
