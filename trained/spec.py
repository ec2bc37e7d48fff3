"""Everything but the weights: what it takes to rebuild a trained network and to feed it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from ..runtime.decision import Decision
from ..runtime.preprocessing import Preprocessing

# Of which layers each is made: medcompress.trained.networks.heads.
HeadKind: TypeAlias = Literal["linear", "mlp", "mlp-bn"]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enough to rebuild the module from a plain ``state_dict``, on any machine.

    Attributes:
        architecture: library and its name of the network: ``timm/resnet18``, ``torchvision/densenet121``,
            ``medcompress/small_cnn``.
        preprocessing: from an image to the network's input.
        decision: from the network's outputs to the answer; names the classes.
        head: what gives the outputs. ``linear``: the library's own classifier layer. ``mlp``: features -> 512 ->
            classes with dropout. ``mlp-bn``: features -> 512 -> 256 -> classes with BatchNorm and dropout.
        pruning: torch-pruning's history, as JSON: the channels taken from the network, in order.
    """

    architecture: str
    preprocessing: Preprocessing
    decision: Decision
    head: HeadKind = "linear"
    pruning: tuple[Any, ...] = ()
