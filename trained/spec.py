"""Everything but the weights: what it takes to rebuild a trained network and to feed it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..runtime.decision import Decision
from ..runtime.preprocessing import Preprocessing

# Of which layers each is made: medcompress.trained.networks.heads.
HeadKind: TypeAlias = Literal["linear", "mlp", "mlp-bn"]

# Of one layer: the name of an attribute (``out_channels``, ``num_heads``) or of a tensor (``weight``) -> its size.
LayerSizes: TypeAlias = dict[str, int | tuple[int, ...]]


class PruningRound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One round of channels taken from a network.

    Attributes:
        asked: the target, as given: ``macs 0.25``.
        importance: by which the channels were chosen.
        macs, parameters: before it and after it; multiply-accumulates of one image.
        layers: name of every layer it changed -> its sizes since.
    """

    asked: str
    importance: str
    macs: tuple[int, int]
    parameters: tuple[int, int]
    layers: dict[str, LayerSizes]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enough to rebuild the module from a plain ``state_dict``, on any machine.

    Attributes:
        architecture: library and its name of the network: ``timm/resnet18``, ``torchvision/densenet121``,
            ``medcompress/small_cnn``.
        preprocessing: from an image to the network's input.
        decision: from the network's outputs to the answer; names the classes.
        head: what gives the outputs. ``linear``: the library's own classifier layer. ``mlp``: features -> 512 ->
            classes with dropout. ``mlp-bn``: features -> 512 -> 256 -> classes with BatchNorm and dropout.
        pruning: what was taken from the library's network, round after round.
        shrunk: (height, width) the input is resampled to within the network; None takes it as it is.
    """

    architecture: str
    preprocessing: Preprocessing
    decision: Decision
    head: HeadKind = "linear"
    pruning: tuple[PruningRound, ...] = ()
    shrunk: tuple[int, int] | None = None
