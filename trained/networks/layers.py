"""A network's layers in the order the image passes them: what is frozen, and what learns how fast."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import takewhile
from typing import Any, cast

from timm.models import group_parameters
from torch import nn

from .heads import Head, last_layer

Group = tuple[str, list[nn.Parameter]]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def head_of(network: nn.Module) -> nn.Module:
    """What decides from the pooled features: trained when the backbone is frozen, and new in every transfer.

    timm: its classifier, or the head of the spec in its place. torchvision: the part that ends in the classifier,
    with the layers before it: a file of bare features holds none of them.
    """
    if hasattr(network, "get_classifier"):
        heads = [module for module in network.modules() if isinstance(module, Head)]
        found: Any = heads[0] if heads else cast("Any", network).get_classifier()
        return nn.ModuleList(found) if isinstance(found, tuple) else found
    return network.get_submodule(last_layer(network)[0].partition(".")[0])


def backbone_names(network: nn.Module) -> list[str]:
    """Names, in the ``state_dict``, of all that does not belong to the head."""
    inside = {id(module) for module in head_of(network).modules()}
    return [name for name in network.state_dict() if id(network.get_submodule(name.rpartition(".")[0])) not in inside]


def layer_groups(network: nn.Module) -> list[Group]:
    """The parameters in groups from input to output, each with a name; every one once, the head's last.

    A group is one block (a residual block, a transformer block, a dense layer) or one layer outside blocks. timm
    knows the order of its networks; in torchvision and ours it is the order of their parts.
    """
    head = head_of(network)
    of_head = {id(parameter) for parameter in head.parameters()}
    parameters = dict(network.named_parameters())
    groups: list[Group] = []
    depth = 0
    for members in _ordered(network):
        kept = [name for name in members if id(parameters[name]) not in of_head]
        if kept:
            name = _name(kept, parameters, depth)
            depth = name.count(".") + 1
            groups.append((name, [parameters[name] for name in kept]))
    return [*groups, ("head", list(head.parameters()))]


def _ordered(network: nn.Module) -> list[list[str]]:
    try:
        matcher = cast("Any", network).group_matcher(coarse=False)
        return list(group_parameters(network, matcher).values())
    except (AttributeError, KeyError):  # torchvision, ours, and the few of timm that do not know their own order
        return _block_groups(network)


def _block_groups(network: nn.Module) -> list[list[str]]:
    groups: list[list[str]] = []
    for prefix, block in _blocks(network, top=True):
        names = [f"{prefix}.{name}" for name, _ in block.named_parameters()]
        if groups and isinstance(block, _NORMS):
            groups[-1] += names
        elif names:
            groups.append(names)
    grouped = {name for group in groups for name in group}
    for name, _ in network.named_parameters():  # position embeddings and the like, which are no module
        if name not in grouped:
            owner = name.rpartition(".")[0]
            next(group for group in groups if group[0].startswith(owner)).append(name)
    return groups


def _blocks(module: nn.Module, prefix: str = "", top: bool = False) -> Iterator[tuple[str, nn.Module]]:
    learning = [child for child in module.children() if any(True for _ in child.parameters())]
    # torchvision's transformers keep all their blocks in one part.
    few = top and len(learning) <= 3
    for name, child in module.named_children():
        if type(child) in _CONTAINERS or (few and any(True for _ in child.children())):
            yield from _blocks(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _name(members: list[str], all_names: Collection[str], depth: int) -> str:
    """What the names of a group's parameters share, or its first layer's name, about as deep as the group before."""
    first = members[0].rpartition(".")[0] or members[0]
    parts = zip(*(name.split(".") for name in members), strict=False)
    shared = ".".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))
    if len(members) == 1:
        return first
    if shared and sum(name.startswith(f"{shared}.") for name in all_names) == len(members):
        return shared
    return ".".join(first.split(".")[: depth or None])
