"""A state_dict held against a network's backbone: the names it goes by, and what fits."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from ...runtime.errors import CheckpointError, InputError
from ..spec import ModelSpec
from .architectures import resolve
from .layers import backbone_names

Weights: TypeAlias = dict[str, torch.Tensor]
# Share of the backbone's tensors that a stranger's file must hold.
ENOUGH = 0.9


def best_naming(network: nn.Module, tensors: Weights) -> Weights:
    """A stranger's tensors under the names that fit the backbone best, in shape first."""
    own = network.state_dict().keys()
    return max(_namings(network, tensors), key=lambda names: (len(matched(network, names)), len(own & names.keys())))


def _namings(network: nn.Module, tensors: Weights) -> Iterator[Weights]:
    """The tensors under the names they may have: without up to three wrappers, or inside each part of the network."""
    for _ in range(4):
        yield tensors
        for part, _module in network.named_children():
            yield {f"{part}.{name}": tensor for name, tensor in tensors.items()}
        wrappers = Counter(name.partition(".")[0] for name in tensors if "." in name).most_common(1)
        if not wrappers or wrappers[0][1] < len(tensors) / 2:
            return
        first = wrappers[0][0]
        tensors = {name.removeprefix(f"{first}."): tensor for name, tensor in tensors.items()}


def adapted(network: nn.Module, spec: ModelSpec, weights: Weights) -> Weights:
    """The weights with the first convolution and the position embeddings made for this network's input."""
    own, first = network.state_dict(), first_convolution(network)
    if first in weights and first in own and weights[first].ndim == own[first].ndim == 4:
        found, needed = weights[first].shape[1], own[first].shape[1]
        if (found, needed) == (3, 1):
            weights = weights | {first: weights[first].sum(dim=1, keepdim=True)}
        elif (found, needed) == (1, 3):
            weights = weights | {first: weights[first].repeat(1, 3, 1, 1) / 3}
    names = [name for name in backbone_names(network) if name in weights]
    if len(names) < ENOUGH * len(backbone_names(network)) or len(matched(network, weights)) == len(names):
        return weights
    library = sys.modules[type(network).__module__]
    try:
        if hasattr(library, "checkpoint_filter_fn"):  # timm
            return dict(library.checkpoint_filter_fn(dict(weights), network))
        if "encoder.pos_embedding" in weights:  # torchvision
            return dict(interpolate_embeddings(spec.preprocessing.size[0], network.patch_size, dict(weights)))  # type: ignore[arg-type]
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        pass  # Other shapes than the library's function knows are told by name where they are compared.
    return weights


def first_convolution(network: nn.Module) -> str:
    """Name of the weight of the first convolution; empty if there is none."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return f"{names[0]}.weight" if names else ""


def matched(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> Weights:
    """Of the weights those the backbone has, by name and shape."""
    own = network.state_dict()
    return {
        name: weights[name]
        for name in backbone_names(network)
        if name in weights and weights[name].shape == own[name].shape
    }


def refuse_less(network: nn.Module, wanted: str, path: Path, fitting: Weights, weights: Weights, enough: float) -> None:
    """Raise a CheckpointError where less than that share of the backbone's tensors fits.

    Args:
        wanted: the network's full name.
        path: of the file, for the message.
        fitting: what :func:`matched` found.
        weights: all the file holds, under the names of the network.
        enough: 0..1.
    """
    own = network.state_dict()
    names = counted(network)
    missing = [name for name in names if name not in fitting]
    if len(names) - len(missing) >= enough * len(names):
        return
    shown = [
        f"{name} ({'x'.join(map(str, weights[name].shape))} there, {'x'.join(map(str, own[name].shape))} needed)"
        if name in weights
        else name
        for name in missing[:3]
    ]
    raise CheckpointError(
        f"{path}: holds {len(names) - len(missing)} of the {len(names)} tensors of {wanted}'s backbone, "
        f"{enough:.0%} are needed; it lacks {', '.join(shown)}{' ...' if len(missing) > 3 else ''}; "
        f"give --arch the network it was made with{_namesake(wanted)}"
    )


def _namesake(architecture: str) -> str:
    """A hint at the other library's network of the same name; empty where there is none."""
    library, _, name = architecture.partition("/")
    other = f"{'torchvision' if library == 'timm' else 'timm'}/{name}"
    try:
        return f", such as {resolve(other)}"
    except InputError:
        return ""


def counted(network: nn.Module) -> list[str]:
    """Names of the backbone's tensors without BatchNorm's counters, which old files lack."""
    return [name for name in backbone_names(network) if not name.endswith("num_batches_tracked")]
