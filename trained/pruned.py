"""What pruning left of a network, in a few figures."""

from __future__ import annotations

from typing import Any

from .spec import PruningRound


def in_short(done: PruningRound) -> dict[str, Any]:
    """A round without its layers: what was asked, and what is left; ``layers`` is how many of them changed."""
    return {
        "asked": done.asked,
        "importance": done.importance,
        "macs": _left(*done.macs),
        "parameters": _left(*done.parameters),
        "layers": len(done.layers),
    }


def _left(before: int, after: int) -> dict[str, Any]:
    return {"before": before, "after": after, "percent": round(100 * after / before, 2) if before else None}
