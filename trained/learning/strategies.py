"""Which layers train in which epochs, and how fast: the stages of a transfer."""

from __future__ import annotations

from dataclasses import dataclass

from .options import TrainOptions

# The share of a two-stage training that is given to the head alone.
HEAD_SHARE = 0.25
# Of two-stage training: the head's learning rate in the second stage, as a share of the first.
SECOND_STAGE = 0.3


@dataclass(frozen=True)
class Stage:
    """Some epochs with the same layers in training.

    Attributes:
        first: the epoch it begins with, from 0.
        epochs: how many.
        rates: learning rate of each group of layers from input to head, as a share of the highest; 0 is frozen.
    """

    first: int
    epochs: int
    rates: tuple[float, ...]


def stages(options: TrainOptions, groups: int) -> tuple[Stage, ...]:
    """The stages of a training.

    ``full``: everything from the start, the backbone at ``backbone_lr`` of the head's rate.
    ``frozen``: the head alone.
    ``two-stage``: the head for a quarter of the epochs, then everything at a lower rate.
    ``gradual``: the head, then one more group of layers at a time from the head backwards, as many as ``unfreeze``
    says, in equal parts of the epochs (Howard and Ruder, ULMFiT, ACL 2018, section 3.3).

    Args:
        groups: how many groups of layers the network has, the head among them.
    """
    last = groups - 1
    if options.strategy == "frozen":
        return (Stage(0, options.epochs, (0.0,) * last + (1.0,)),)
    whole = (options.backbone_lr,) * last + (1.0,)
    if options.strategy == "full":
        return (Stage(0, options.epochs, whole),)
    if options.strategy == "two-stage":
        first = max(1, round(options.epochs * HEAD_SHARE))
        lower = tuple(SECOND_STAGE * rate for rate in whole)
        return (Stage(0, first, (0.0,) * last + (1.0,)), Stage(first, options.epochs - first, lower))
    trained = min(options.unfreeze, last) if options.unfreeze else last
    steps = min(trained + 1, options.epochs)
    found: list[Stage] = []
    for step in range(steps):
        begin, end = options.epochs * step // steps, options.epochs * (step + 1) // steps
        # Of more groups than epochs, several are set free at once.
        free = 1 + round(trained * step / max(1, steps - 1))
        rates = tuple(0.0 if index < groups - free else rate for index, rate in enumerate(whole))
        found.append(Stage(begin, end - begin, rates))
    return tuple(found)


def stage_of(found: tuple[Stage, ...], epoch: int) -> Stage:
    """The stage that an epoch, from 0, belongs to."""
    return next(stage for stage in reversed(found) if stage.first <= epoch)
