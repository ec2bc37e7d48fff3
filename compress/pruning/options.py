"""What pruning is asked for."""

from __future__ import annotations

import hashlib
import math

import msgspec

from .importance import Importance
from .target import Target

# Of the channels' work one round leaves at least this share: a network learns back what it loses little by little.
_A_ROUND = 0.25
# Of recovery, unless told: at least so many epochs, and at least so many images seen, with repetition.
_EPOCHS, _SEEN = 6, 25_000
# Rounds before the last are recovered for such a part of the epochs.
_BEFORE = 1 / 3


def usual_epochs(images: int) -> int:
    """Of recovery on so many training images: of few more, for what counts is how often weights change."""
    return max(_EPOCHS, math.ceil(_SEEN / images))


class Pruning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one network.

    Attributes:
        target: what is to be left.
        importance: by which channels are chosen.
        rounds: of pruning and recovering; 0 takes as many as leave a quarter each.
        epochs: of recovery after the last round; the rounds before have a third of them. 0 trains nothing: only the
            statistics of normalizations are taken anew. None: see :func:`usual_epochs`.
        keep: names of layers, with ``*`` and ``?``, whose channels all stay.
        shrunk: (height, width) the input is resampled to within the network.
        seed: of the recovery.
    """

    target: Target
    importance: Importance = "magnitude"
    rounds: int = 0
    epochs: int | None = None
    keep: tuple[str, ...] = ()
    shrunk: tuple[int, int] | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the network it gives: ``macs25``, ``params10``, ``5ms``, ``macs10-96px``."""
        target = self.target
        found = f"{target.value:g}ms" if target.kind == "latency-ms" else f"{target.kind}{100 * target.value:g}"
        return f"{found}-{self.shrunk[1]}px" if self.shrunk else found

    @property
    def digest(self) -> str:
        """Of everything: another one is another network."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:8]

    def epochs_of(self, rounds: int, images: int) -> list[int]:
        """Of recovery after each round.

        Args:
            images: for training.
        """
        last = usual_epochs(images) if self.epochs is None else self.epochs
        return [math.ceil(last * _BEFORE)] * (rounds - 1) + [last]

    def rounds_for(self, share: float) -> int:
        """How many rounds.

        Args:
            share: of the work that is to be left.
        """
        return self.rounds or max(1, math.ceil(math.log(share) / math.log(_A_ROUND) - 1e-9))
