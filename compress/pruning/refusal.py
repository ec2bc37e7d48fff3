"""What cannot be pruned, told so that it can be left out."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime.errors import MedcompressError

# So many layers are named.
_TOLD = 8


def cannot_prune(why: str, layers: Sequence[str]) -> MedcompressError:
    """The error of a network some of whose layers have to be left out, and which."""
    more = f" and {len(layers) - _TOLD} more" if len(layers) > _TOLD else ""
    told = " ".join(f"--keep {name}" for name in layers[:_TOLD])
    return MedcompressError(
        f"torch-pruning cannot prune this network at {layers[0]} ({why}); leave out what it cannot: {told}{more} "
        "(* and ? stand for any part of a name)"
    )
