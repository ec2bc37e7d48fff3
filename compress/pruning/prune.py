"""One round of pruning: from a checkpoint to one with fewer channels, not yet recovered."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection

import msgspec
import torch

from ...runtime.errors import MedcompressError
from ...trained.checkpoint import Checkpoint, rebuild
from ...trained.networks.sizes import changed_sizes
from ...trained.spec import PruningRound
from .channels import Channels
from .counting import count_macs, count_parameters
from .importance import Importance, Losses, scores_of
from .target import Measure, solve


def prune(
    checkpoint: Checkpoint,
    wanted: float,
    measure: Measure,
    *,
    asked: str,
    unit: float = 1.0,
    importance: Importance = "magnitude",
    losses: Losses = (),
    keep: Collection[str] = (),
) -> Checkpoint:
    """The checkpoint with the fewest channels gone that bring it to what is wanted; its spec says which layers changed.

    Args:
        wanted: at most so much is to be measured by ``measure``.
        asked: the target in words, for the record.
        unit: what is measured where the target is 1: of the dense network for a share, 1 for milliseconds.
        losses: of training batches, for the importance ``taylor``.
        keep: names of layers, with ``*`` and ``?``, whose channels all stay.

    Raises:
        InputError: the target cannot be reached, or no layer has a name of ``keep``.
        MedcompressError: the network cannot be pruned, or could not be rebuilt as pruned.
    """
    shape = checkpoint.spec.preprocessing.shape
    dense = rebuild(checkpoint)
    network = copy.deepcopy(dense)
    channels = Channels(network, shape, keep)
    scores = scores_of(channels.groups, importance, network, losses)
    gone = solve(dense, shape, scores, wanted, measure, keep, asked=asked, unit=unit)
    channels.take(gone)
    done = PruningRound(
        asked,
        importance,
        (count_macs(dense, shape), count_macs(network, shape)),
        (count_parameters(dense), count_parameters(network)),
        changed_sizes(dense, network),
    )
    spec = msgspec.structs.replace(checkpoint.spec, pruning=(*checkpoint.spec.pruning, done))
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    pruned = dataclasses.replace(checkpoint, spec=spec, weights=weights, metrics={}, history=[], epoch=0)
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(rebuild(pruned)(image), network.eval()(image))
    if not same:
        raise MedcompressError(
            "the pruned network, built anew from its record, answers otherwise; leave layers out with --keep NAME, and "
            "please report the architecture"
        )
    return pruned
