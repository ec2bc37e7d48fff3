"""A network that looks at fewer pixels than it is given.

The image is still rendered as the preprocessing says, so that every form of a model takes the same input; a smaller one
resamples it itself, by the bilinear rule that ONNX, OpenVINO and torch share.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def shrink_input(network: nn.Module, size: tuple[int, int]) -> None:
    """Resample every input (N, C, H, W) to this (height, width) before the network's own layers, from now on.

    Without antialiasing: within half the height and width nothing is skipped.
    """

    def shrink(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        images: torch.Tensor = inputs[0]
        return (functional.interpolate(images, size, mode="bilinear", align_corners=False), *inputs[1:])

    network.register_forward_pre_hook(shrink)
