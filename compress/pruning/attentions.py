"""Attentions: which can lose heads one by one, and what must stay of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from timm.layers.attention import Attention
from torch import nn


def known_attentions(network: nn.Module) -> Iterator[Any]:
    """Those whose heads can go one by one."""
    yield from (each for each in network.modules() if _is_known(each))


def _is_known(module: nn.Module) -> bool:
    known = type(module) is Attention and isinstance(getattr(module, "qkv", None), nn.Linear)
    return known and cast("Any", module).gate is None and isinstance(cast("Any", module).norm, nn.Identity)


def layers_of_unknown(network: nn.Module) -> Iterator[nn.Module]:
    """The layers within other attentions, whose widths depend on the number of heads."""
    for module in network.modules():
        if hasattr(module, "num_heads") and not _is_known(module):
            yield from (each for each in module.children() if isinstance(each, nn.Linear | nn.Conv2d))


def values_of_heads(network: nn.Module) -> Iterator[nn.Parameter]:
    """Of attentions: what has one value a head, such as tables of relative positions."""
    for module in network.modules():
        if hasattr(module, "num_heads"):
            yield from (each for each in module.parameters(recurse=False) if module.num_heads in each.shape)
