"""The statistics of a network's BatchNorm layers, taken anew after its weights were changed by other than training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, images: Iterable[torch.Tensor]) -> int:
    """Take mean and variance of every BatchNorm layer anew, in place: the average over the batches.

    Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3, https://arxiv.org/abs/2105.07576. torch's
    ``update_bn`` would do it with dropout and stochastic depth at work. Nothing else changes.

    Args:
        images: normalized batches (N, C, H, W) of one size, where the network lies; without any nothing changes.

    Returns:
        How many layers.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return 0
    training = {module: module.training for module in network.modules()}
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.momentum = None  # torch's word for the average of all
        layer.train()
    try:
        for number, batch in enumerate(images):
            if number == 0:
                for layer in layers:
                    layer.reset_running_stats()
            network(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, was in training.items():
            module.training = was
    return len(layers)
