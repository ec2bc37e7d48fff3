"""What a network loses when one group of its channels is pruned alone, as data."""

from __future__ import annotations

import msgspec

from ...benchmarks.statistics.delong import AurocLoss


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one group with a part of its units gone, all else as it was; against the network as it is.

    Attributes:
        share: of the units that was to go, 0..1.
        gone: units that went; a whole number of them is left that engines compute well.
        macs, parameters: the share of the whole network's that is saved, 0..1.
        auroc: of the positive class, or the mean over the classes, paired; None where no class has images with and
            without.
        probability_change: mean absolute, 0..1.
        flips: images whose answer changed.
    """

    share: float
    gone: int
    macs: float
    parameters: float
    auroc: AurocLoss | None
    probability_change: float
    flips: int


class GroupLosses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group of channels.

    Attributes:
        name: as ``--keep`` takes it.
        units: channels, or heads of an attention, of which any number but all can go.
        heads: they are heads.
        layers: that become narrower when units go: those that make them, carry them on, and read them.
        losses: one a share, in their order.
    """

    name: str
    units: int
    heads: bool
    layers: tuple[str, ...]
    losses: tuple[Loss, ...]


class Sensitivity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a network.

    Attributes:
        images, patients: validation images it was asked about, and whose they are.
        auroc: of the network as it is, on them.
        macs: multiply-accumulates of one image.
        parameters: numbers that are learned.
        groups: in the order in which the network comes to them.
    """

    images: int
    patients: int
    auroc: float | None
    macs: int
    parameters: int
    groups: tuple[GroupLosses, ...]
