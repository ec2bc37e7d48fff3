"""How small a network is to become, and which channels go for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import torch
from torch import nn

from ...runtime.errors import InputError, first_line
from .channels import Channels, Group
from .counting import count_macs, count_parameters
from .importance import scores_of
from .refusal import cannot_prune
from .selection import select

Kind: TypeAlias = Literal["macs", "params", "latency-ms"]
# What a network measures, of what the target is of.
Measure: TypeAlias = Callable[[nn.Module], float]
# Name of a group of channels -> which of its units go.
Gone: TypeAlias = dict[str, list[int]]

# So far below the target is near enough.
_NEAR = 0.02
_HALVINGS = 10
_DECISIONS = 3


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be left.

    Attributes:
        kind: ``macs`` and ``params``: the share of the network's own, 0..1. ``latency-ms``: milliseconds of one
            inference, batch 1, of the fastest form on this machine.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value < (1 if self.kind != "latency-ms" else float("inf")):
            limits = "above 0" if self.kind == "latency-ms" else "between 0 and 1, the share that is left"
            raise InputError(f"--{self.kind} {self.value:g}: give a number {limits}")

    def wanted(self, dense: float) -> float:
        """What is to be measured at most.

        Args:
            dense: what is measured of the network as it is.
        """
        return self.value if self.kind == "latency-ms" else self.value * dense

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


def measure_of(target: Target, shape: Sequence[int], latency: Measure | None = None) -> Measure:
    """What a target is of, as a share of it or in milliseconds.

    Args:
        shape: (C, H, W) of an image.
        latency: of a network, in milliseconds; for targets of that kind.
    """
    if target.kind == "macs":
        return lambda network: count_macs(network, shape)
    if target.kind == "params":
        return count_parameters
    assert latency is not None
    return latency


def solve(
    network: nn.Module,
    shape: Sequence[int],
    scores: Mapping[str, torch.Tensor],
    wanted: float,
    measure: Measure,
    keep: Collection[str] = (),
    *,
    asked: str,
    unit: float = 1.0,
) -> Gone:
    """The fewest channels whose going brings the network to what is wanted.

    The share of channels is halved in on, then between the two nearest shares single groups are; where the last of them
    goes too far, it is decided on, and the share of the others is sought again.

    Args:
        scores: of :func:`medcompress.compress.pruning.importance.scores_of`.
        wanted: at most this is to be measured.
        asked: the target in words, and ``unit``, what is measured where it is 1: for the message.

    Raises:
        InputError: it cannot be reached; the message says how near it can be.
        MedcompressError: torch-pruning cannot prune the network; the message says which layers.
    """
    groups = Channels(copy.deepcopy(network), shape, keep).groups
    # Nearby shares often come to the same channels.
    before: dict[str, float] = {}

    def found(gone: Gone) -> float:
        chosen = repr(sorted((name, units) for name, units in gone.items() if units))
        if chosen not in before:
            tried = copy.deepcopy(network)
            Channels(tried, shape, keep).take(gone)
            before[chosen] = measure(tried)
        return before[chosen]

    least = select(groups, scores, 1.0)
    _refuse_broken(network, shape, least, keep)
    nearest = found(least)
    if nearest > wanted:
        raise unreachable(asked, nearest / unit)
    best, left = least, nearest
    # Groups whose steps are too coarse, such as the stream of a transformer: decided on, the others are chosen anew.
    decided: dict[str, list[int]] = {}
    for _ in range(_DECISIONS):
        low, high, above, below = 0.0, 1.0, decided, least
        for _ in range(_HALVINGS):
            if left >= wanted * (1 - _NEAR):
                return best
            middle = (low + high) / 2
            gone = select(groups, scores, middle) | decided
            value = found(gone)
            if value > wanted:
                low, above = middle, gone
            else:
                high, below = middle, gone
                best, left = max((best, left), (gone, value), key=lambda pair: pair[1])
        gone, coarse = _between(groups, above, below, lambda gone: found(gone) <= wanted)
        best, left = max((best, left), (gone, found(gone)), key=lambda pair: pair[1])
        if not coarse:
            break
        decided = decided | {coarse: below[coarse]}
    return best


def least_left(
    network: nn.Module, shape: Sequence[int], measure: Measure, keep: Collection[str] = (), *, rounds: int
) -> float:
    """What is measured of the network pruned as far as so many rounds can; the network itself is left as it is."""
    network = copy.deepcopy(network)
    for _ in range(rounds):
        channels = Channels(network, shape, keep)
        channels.take(select(channels.groups, scores_of(channels.groups, "magnitude", network), 1.0))
    return measure(network)


def unreachable(asked: str, least: float) -> InputError:
    """The error for a target below what can be left.

    Args:
        asked: the target in words.
        least: in its unit.
    """
    return InputError(f"--{asked} cannot be reached: {_up(least):g} is the least that can be left")


def _up(value: float) -> float:
    """The next number of two digits: what can be asked for."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / digit) * digit


def _refuse_broken(network: nn.Module, shape: Sequence[int], gone: Gone, keep: Collection[str]) -> None:
    """Say which groups torch-pruning took for what they are not, where the network does not run without them."""

    def fault(some: Gone) -> str:
        tried = copy.deepcopy(network)
        Channels(tried, shape, keep).take(some)
        try:
            count_macs(tried, shape)
        except Exception as error:
            return first_line(error)
        return ""

    if why := fault(gone):
        raise cannot_prune(why, [name for name in gone if fault({name: gone[name]})] or list(gone))


def _between(groups: Sequence[Group], above: Gone, below: Gone, enough: Callable[[Gone], bool]) -> tuple[Gone, str]:
    """Of the groups that differ, as few as are enough pruned as far as below, and the name of the last of them.

    Those through the fewest layers come first: their steps are the finest.
    """
    groups = sorted(groups, key=lambda group: len(group.scope))
    names = [group.name for group in groups if group.name in below and above.get(group.name) != below[group.name]]
    few, many = 0, len(names)

    def mixed(count: int) -> dict[str, list[int]]:
        return {**above, **{name: below[name] for name in names[:count]}}

    while many - few > 1:
        middle = (few + many) // 2
        if enough(mixed(middle)):
            many = middle
        else:
            few = middle
    return mixed(many), names[many - 1] if names else ""


def rounds_to(target: float, start: float, count: int) -> list[float]:
    """What is left after each of so many rounds, each taking the same share of what the one before left."""
    return [start * (target / start) ** (number / count) for number in range(1, count + 1)]
