"""Everything but the weights: what it takes to rebuild a trained network and to feed it."""

from __future__ import annotations

from typing import Any

import msgspec

from ..runtime.decision import Decision
from ..runtime.preprocessing import Preprocessing


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enough to rebuild the module from a plain ``state_dict``, on any machine.

    Attributes:
        architecture: library and its name of the network: ``timm/resnet18``, ``torchvision/densenet121``.
        preprocessing: from an image to the network's input.
        decision: from the network's outputs to the answer; names the classes.
        head: ``linear``: the library's own classifier layer.
        pruning: torch-pruning's history, as JSON: the channels taken from the network, in order.
    """

    architecture: str
    preprocessing: Preprocessing
    decision: Decision
    head: str = "linear"
    pruning: tuple[Any, ...] = ()
