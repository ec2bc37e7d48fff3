"""The layout in memory a network is trained in."""

from __future__ import annotations

import torch
from torch import nn

# Channels oneDNN takes together: 8 with AVX2, 16 with AVX-512.
_BLOCK = 16


def layout_of(network: nn.Module) -> torch.memory_format:
    """Channels last, in which convolutions are fastest; or torch's own where that is not safe.

    For the gradient of a 1x1 convolution with a stride over fewer channels than it takes together, oneDNN 3.12 (of
    torch 2.14) writes past its buffer in that layout: the gradient is wrong, or the process hangs or ends
    (https://github.com/uxlfoundation/oneDNN/issues/6035). A pruned residual network has such shortcuts.
    """
    unsafe = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < _BLOCK
        for layer in network.modules()
    )
    return torch.contiguous_format if unsafe else torch.channels_last
