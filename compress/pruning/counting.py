"""How much work a network is, and how large."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulates of one image (C, H, W) in convolutions, linear layers and attention, as torch counts them.

    No number is computed: a copy without weights is run.
    """
    with torch.device("meta"):
        image = torch.zeros(1, *shape)
    abstract = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        abstract(image)
    return counter.get_total_flops() // 2


def count_parameters(network: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
