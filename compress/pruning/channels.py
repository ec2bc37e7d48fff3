"""Which channels of a network only go together: what torch-pruning's dependency graph is asked.

A channel taken from one layer has to be taken from all that read it, and from all that are added to it. Fang et al.,
DepGraph: Towards Any Structural Pruning, CVPR 2023, https://arxiv.org/abs/2301.12900. torch-pruning is asked for the
graph, the groups and the cutting; what is chosen, and how many, is decided here.
"""

from __future__ import annotations

import fnmatch
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch_pruning
from torch import nn

from ...runtime.errors import InputError, MedcompressError, first_line
from ...trained.networks.heads import last_layer
from .attentions import known_attentions, layers_of_unknown, values_of_heads
from .refusal import cannot_prune

_ROOTS = (nn.Conv2d, nn.Linear)
# Seconds for one group, of which the slowest that ends takes 1: in some networks torch-pruning goes round for ever.
_PATIENCE = 20.0
# Gives every channel of a group its importance (channels,), None for a group that has none.
Scorer = Callable[[Any], torch.Tensor | None]


class _Endless(Exception):
    """No group was found in time."""


@dataclass(frozen=True)
class Group:
    """Channels that go together through several layers.

    Attributes:
        name: of the layer that makes them.
        scope: groups of one scope have the same layers around them, so that their channels can be compared.
        units: of which any number but all can go: the channels of each, as the layer counts them. A channel; the same
            channel of each group of a grouped convolution; a head.
        heads: they are heads of an attention.
    """

    name: str
    scope: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    heads: bool
    _whole: Any

    def importance(self, scorer: Scorer) -> torch.Tensor | None:
        """(units,) of each unit, the mean over its channels.

        Raises:
            MedcompressError: the group has channels that are not there.
        """
        try:
            found = scorer(self._whole)
        except IndexError as error:
            raise cannot_prune(first_line(error), [self.name]) from error
        if found is None:
            return None
        return torch.stack([found[list(unit)].mean() for unit in self.units]).detach().cpu()


class Channels:
    """The groups of a network, and the knife.

    Args:
        network: of which the channels are taken, in place; on the CPU.
        shape: (C, H, W) of an image.
        keep: names of layers, with ``*`` and ``?``, whose channels all stay.

    Raises:
        InputError: a name of ``keep`` that no layer has.
        MedcompressError: torch-pruning cannot follow the network.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int], keep: Collection[str] = ()) -> None:
        self._until = math.inf
        self._names = {module: name for name, module in network.named_modules()}
        self._attentions = {each.qkv: each for each in known_attentions(network)}
        left = {last_layer(network)[1], *self._named(keep), *layers_of_unknown(network)}
        for parameter in network.parameters():
            parameter.requires_grad_(True)  # the graph is read off autograd's
        a_head = list(values_of_heads(network))
        for parameter in a_head:
            parameter.requires_grad_(False)  # not seen: torch-pruning takes a table of heads for one of channels
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._graph = torch_pruning.DependencyGraph().build_dependency(
                    network.eval(), example_inputs=torch.zeros(1, *shape)
                )
            except Exception as error:
                raise MedcompressError(
                    f"this network cannot be pruned: torch-pruning cannot follow it ({first_line(error)}); use "
                    "another architecture"
                ) from error
            for node in self._graph.module2node.values():
                for dep in node.dependencies:
                    dep.is_triggered_by = self._in_time(dep.is_triggered_by)
            self.groups = tuple(self._readable(left))
        for parameter in a_head:
            parameter.requires_grad_(True)
        if not self.groups:
            raise MedcompressError(
                "this network cannot be pruned: torch-pruning found no channels that can go; keep fewer layers, or use "
                "another architecture"
            )

    def take(self, gone: Mapping[str, Sequence[int]]) -> None:
        """Take units from groups, in place.

        Args:
            gone: name of the group -> numbers of the units.

        Raises:
            MedcompressError: torch-pruning cannot cut there.
        """
        for group in self.groups:
            units = gone.get(group.name, ())
            indices = sorted(index for unit in units for index in group.units[unit])
            if not indices:
                continue
            root = group._whole[0].dep
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    # Asked anew: what was cut before has changed the layers that share channels with this group.
                    cut = self._graph.get_pruning_group(root.target.module, root.handler, indices)
                    layers = [dep.target.module for dep, _ in cut if self._graph.is_out_channel_pruning_fn(dep.handler)]
                    heads = {self._attentions[layer] for layer in layers if layer in self._attentions}
                    norms = [
                        (dep.target.module, dep.target.module.weight, dep.target.module.bias, set(away))
                        for dep, away in cut
                        if isinstance(dep.target.module, nn.LayerNorm)
                    ]
                    cut.prune()
                except Exception as error:
                    raise cannot_prune(first_line(error), [group.name]) from error
            for norm, weight, bias, cut_away in norms:
                _in_order(norm, weight, bias, cut_away)
            for attention in heads:
                attention.num_heads -= len(units)
                attention.attn_dim = attention.num_heads * attention.head_dim

    def _named(self, patterns: Collection[str]) -> Iterator[nn.Module]:
        for pattern in patterns:
            found = [module for module, name in self._names.items() if fnmatch.fnmatchcase(name, pattern)]
            if not found:
                raise InputError(f"no layer is called {pattern}; medcompress sensitivity lists their names")
            for module in found:
                yield from module.modules()

    def _readable(self, left: Collection[nn.Module]) -> Iterator[Group]:
        """Every group none of whose makers is left out."""
        seen: set[Any] = set()
        wrong: dict[str, str] = {}
        for layer in [each for each in self._graph.module2node if isinstance(each, _ROOTS) and each not in left]:
            if layer in seen:
                continue
            handler = cast("Any", self._graph.get_pruner_of_module(layer)).prune_out_channels
            try:
                whole = self._whole(layer, handler, len(layer.weight))
                seen.update(dep.target.module for dep, _ in whole if self._graph.is_out_channel_pruning_fn(dep.handler))
                if self._stays(whole, left):
                    continue
                self._check(whole)
                group = self._group(whole)
            except Exception as error:
                wrong[self._names[layer]] = first_line(error)
                if isinstance(error, _Endless):
                    break
                continue
            yield group
        if wrong:
            raise cannot_prune(next(iter(wrong.values())), list(wrong))

    def _whole(self, layer: nn.Module, handler: Any, count: int) -> Any:
        """torch-pruning's group of all of a layer's channels."""
        self._until = time.monotonic() + _PATIENCE
        whole = self._graph.get_pruning_group(layer, handler, list(range(count)))
        self._until = math.inf
        return whole

    def _check(self, whole: Any) -> None:
        for dep, indices in whole:
            made, target = self._graph.is_out_channel_pruning_fn(dep.handler), dep.target
            there = (self._graph.get_out_channels if made else self._graph.get_in_channels)(target)
            if there is not None and max(indices, default=0) >= there:
                raise IndexError(
                    f"channel {max(indices)} of the {there} of {self._names.get(target.module, 'a tensor')}"
                )

    def _in_time(self, triggered: Callable[[Any], bool]) -> Callable[[Any], bool]:
        """A dependency's own question, which torch-pruning puts at every step, with an end to it."""

        def asked(handler: Any) -> bool:
            if time.monotonic() > self._until:
                raise _Endless("torch-pruning goes round in circles")
            return triggered(handler)

        return asked

    def _stays(self, whole: Any, left: Collection[nn.Module]) -> bool:
        makers = [dep.target.module for dep, _ in whole if self._graph.is_out_channel_pruning_fn(dep.handler)]
        # torch's own attention computes its heads from the width of the stream.
        return any(maker in left or isinstance(maker, nn.MultiheadAttention) for maker in makers)

    def _group(self, whole: Any) -> Group:
        layers = [dep.target.module for dep, _ in whole]
        name = self._names[layers[0]]
        if layers[0] in self._attentions:
            return self._heads(name, self._attentions[layers[0]])
        count = len(whole[0].idxs)
        if any(len(indices) < count for _, indices in whole):
            units = tuple(self._tied(whole[0].dep, count))
        else:
            together = max((_channel_groups(layer) for layer in layers), default=1)
            size = count // together
            units = tuple(tuple(range(unit, count, size)) for unit in range(size))
        return Group(name, self._scope(whole), units, False, whole)

    def _tied(self, root: Any, count: int) -> Iterator[tuple[int, ...]]:
        """Channels that another layer has fewer of: one of its may be several of the root's, as in GhostNet's."""
        left = set(range(count))
        while left:
            whole = self._graph.get_pruning_group(root.target.module, root.handler, [min(left)])
            unit = {index for dep, indices in whole if dep.target is root.target for index in indices}
            yield tuple(sorted(unit))
            left -= unit

    def _heads(self, name: str, attention: Any) -> Group:
        """By the layer behind the heads: its inputs lie head by head."""
        count, dimensions = attention.proj.in_features, attention.head_dim
        whole = self._whole(attention.proj, torch_pruning.prune_linear_in_channels, count)
        units = tuple(tuple(range(first, first + dimensions)) for first in range(0, count, dimensions))
        return Group(name, self._scope(whole), units, True, whole)

    def _scope(self, group: Any) -> tuple[str, ...]:
        """What lies around the channels, by kind: Fang et al., Isomorphic Pruning for Vision Models, ECCV 2024,
        https://arxiv.org/abs/2407.04616."""
        found = []
        for dep, _ in group:
            way = "out" if self._graph.is_out_channel_pruning_fn(dep.handler) else "in"
            found.append(f"{type(dep.source.module).__name__} {type(dep.target.module).__name__} {way}")
        return tuple(found)


def _in_order(norm: nn.LayerNorm, weight: nn.Parameter | None, bias: nn.Parameter | None, gone: set[int]) -> None:
    """Give a LayerNorm what is left of its values: torch-pruning 1.6 mixes up their order where few are left."""
    for name, before in (("weight", weight), ("bias", bias)):
        if before is not None:
            left = [index for index in range(before.shape[-1]) if index not in gone]
            setattr(norm, name, nn.Parameter(before.detach()[..., left], before.requires_grad))


def _channel_groups(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        return 1 if layer.groups == layer.out_channels else layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
