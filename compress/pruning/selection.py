"""Which units go at a given share: the least important, compared among groups of the same make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from .channels import Group

# What a kept number of channels is a multiple of, by how many there are: engines compute in blocks of 8 and 16, and in
# narrow layers steps of 8 are too coarse.
_STEPS = ((32, 8), (16, 4), (8, 2), (0, 1))


def select(
    groups: Sequence[Group], scores: Mapping[str, torch.Tensor], share: float, only: str = ""
) -> dict[str, list[int]]:
    """Name of every group that loses units -> which.

    Args:
        scores: name of a group -> importance of its units, each divided by the group's mean; groups without are left.
        share: of the units of every scope that goes, 0..1; a group keeps at least one step of :data:`_STEPS`.
        only: name of the one group that is pruned; empty prunes all.
    """
    scopes: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        if group.name in scores and only in ("", group.name):
            scopes[group.scope].append(group)
    gone: dict[str, list[int]] = {}
    for members in scopes.values():
        every = torch.cat([scores[group.name] for group in members])
        # By rank and not by a limit: of units that matter the same no more go than are to.
        least = every.argsort(stable=True)[: round(share * len(every))]
        stays = torch.ones(len(every), dtype=torch.bool)
        stays[least] = False
        for group, own in zip(members, stays.split([len(group.units) for group in members]), strict=True):
            kept = len(own) if own.all() else _rounded(int(own.sum()), group)
            if kept < len(own):
                order = scores[group.name].argsort(descending=True, stable=True)
                gone[group.name] = order[kept:].tolist()
    return gone


def _rounded(kept: int, group: Group) -> int:
    """To the nearest step; a group keeps at least one, and never more than it has."""
    count = len(group.units)
    step = 1 if group.heads else next(step for least, step in _STEPS if count >= least)
    return min(count, max(step, round(kept / step) * step))
