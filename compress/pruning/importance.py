"""How much a channel matters, in the weights or in what the training images make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch_pruning
from torch import nn

from .channels import Group

Importance: TypeAlias = Literal["magnitude", "taylor"]
# The loss of a batch in training mode's gradients, from the network.
Losses: TypeAlias = Iterable[Callable[[nn.Module], torch.Tensor]]


def scores_of(
    groups: Sequence[Group], kind: Importance, network: nn.Module, losses: Losses = ()
) -> dict[str, torch.Tensor]:
    """Name of every group that can be ranked -> importance of its units (units,), with mean 1.

    Zeros where nothing in the group matters.

    ``magnitude``: the sum of the squared weights that make, scale and read a channel, the mean over the layers (Li et
    al., Pruning Filters for Efficient ConvNets, ICLR 2017, over the whole group). ``taylor``: how much the loss would
    change without it, to first order (Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019,
    https://arxiv.org/abs/1906.10771).

    Args:
        losses: for ``taylor``: each gives the loss of one batch of training images.
    """
    scorer: Any
    plain: Any = None  # divided by the mean below, by none where there is nothing
    if kind == "taylor":
        network.zero_grad()
        for loss in losses:
            loss(network).backward()
        scorer = torch_pruning.importance.GroupTaylorImportance(normalizer=plain)
    else:
        scorer = torch_pruning.importance.GroupMagnitudeImportance(normalizer=plain)
    found = {}
    for group in groups:
        importance = group.importance(scorer)
        if importance is not None:
            found[group.name] = importance / importance.mean().clamp(min=torch.finfo(importance.dtype).tiny)
    network.zero_grad()
    return found
