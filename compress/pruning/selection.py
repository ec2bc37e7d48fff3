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
        count = round(share * len(every))
        if not count:
            continue
        limit = every.sort().values[count - 1]
        for group in members:
            own = scores[group.name]
            kept = _rounded(int((own > limit).sum()), group)
            if kept < len(own):
                gone[group.name] = own.argsort(descending=True, stable=True)[kept:].tolist()
    return gone


def _rounded(kept: int, group: Group) -> int:
    """To the nearest step; a group keeps at least one, and what it has where that is no multiple."""
    count = len(group.units)
    step = 1 if group.heads else next(step for least, step in _STEPS if count >= least)
    return min(count, max(step, round(kept / step) * step))
