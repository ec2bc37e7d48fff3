"""What a network loses when one group of channels is pruned alone: where its knowledge sits, and what that costs.

A group that loses much when only a part of it goes is one to leave out of pruning, or to prune last. Li et al., Pruning
Filters for Efficient ConvNets, ICLR 2017, section 3.2, https://arxiv.org/abs/1608.08710.

The figures are of the cut network as it is: nothing is learned back, and the statistics of BatchNorm layers are those
of before; taking them anew, from training images, is where recovery begins. So a loss seen here is what there is to
recover, and no forecast of what recovery leaves.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from ...benchmarks.data.samples import Sample
from ...benchmarks.progress import track
from ...benchmarks.statistics.bootstrap import Floats
from ...benchmarks.statistics.delong import AurocLoss, auroc_loss
from ...benchmarks.statistics.judged import judged, known_images
from ...benchmarks.statistics.metrics import require_scikit_learn
from ...trained.checkpoint import Checkpoint, rebuild
from ...trained.data.datasets import ImageDataset, normalization_table, normalize
from ...trained.learning.distillation import distance
from ...trained.networks.sizes import changed_sizes
from ..calibration import choose
from .beginning import Beginning
from .channels import Channels, Group
from .counting import count_macs, count_parameters
from .group_losses import GroupLosses, Loss, Sensitivity
from .importance import scores_of
from .selection import select

SHARES = (0.25, 0.5, 0.75)
# By default a network with many groups is asked about fewer images, so that hours do not pass: about so many answers
# in all, but of at least and at most so many images.
ANSWERS, LEAST_IMAGES, MOST_IMAGES = 24_000, 150, 600
_BATCH = 50


def measure_sensitivity(
    checkpoint: Checkpoint,
    validation: Sequence[Sample],
    shares: Sequence[float] = SHARES,
    images: int | None = None,
    keep: Collection[str] = (),
) -> Sensitivity:
    """Prune every group of channels alone, and see what is lost on validation images.

    Args:
        validation: labelled images of which some are taken; never test images, for what is learned here is pruned by.
        shares: of a group's units that go, the least important by magnitude; rising, between 0 and 1.
        images: at most so many; None decides by the number of groups.
        keep: names of layers, with ``*`` and ``?``, whose channels all stay.

    Raises:
        InputError: a name of ``keep`` that no layer has.
        DataError: images that cannot be read, or of which nothing is known.
        MedcompressError: torch-pruning cannot follow or cut the network.
        MachineError: a package is missing.
    """
    require_scikit_learn()
    network = rebuild(checkpoint)
    knife = _Knife(network, checkpoint.spec.preprocessing.shape, keep)
    count = images or min(MOST_IMAGES, max(LEAST_IMAGES, ANSWERS // (len(knife.groups) * len(shares))))
    judge = _Judge(checkpoint, network, choose(validation, 0, count)[:count])
    # Those that begin alike after one another.
    groups = sorted(knife.groups, key=lambda group: judge.place((group.name,)))
    found = []
    with ThreadPoolExecutor(1) as ahead:
        # Cutting is Python's work and answering torch's: the next group is cut while one answers.
        cutting = ahead.submit(knife.cut, groups[0], shares)
        for group, following in track(zip(groups, [*groups[1:], None], strict=True), "Pruning each alone", len(groups)):
            variants = cutting.result()
            if following is not None:
                cutting = ahead.submit(knife.cut, following, shares)
            losses = tuple(judge.loss(share, variant) for share, variant in zip(shares, variants, strict=True))
            found.append(GroupLosses(group.name, len(group.units), group.heads, variants[-1].layers, losses))
    found.sort(key=lambda group: judge.place(group.layers or (group.name,)))
    return Sensitivity(judge.images, judge.patients, judge.auroc, knife.macs, knife.parameters, tuple(found))


@dataclass(frozen=True)
class _Variant:
    """A network with one group pruned: the layers that changed, units gone, and the shares that are saved.

    ``network`` is None where no unit went.
    """

    network: nn.Module | None
    layers: tuple[str, ...]
    gone: int
    saved: tuple[float, float]


class _Knife:
    """A network whose groups are cut one by one, each from a fresh copy."""

    def __init__(self, network: nn.Module, shape: Sequence[int], keep: Collection[str]) -> None:
        # Its own: the other is run, with modules replaced, while this one is copied.
        self._network = copy.deepcopy(network)
        self._shape, self._keep = shape, keep
        groups = Channels(copy.deepcopy(network), shape, keep).groups
        self._scores = scores_of(groups, "magnitude", network)
        self.groups = [group for group in groups if group.name in self._scores]
        self.macs, self.parameters = count_macs(network, shape), count_parameters(network)

    def cut(self, group: Group, shares: Sequence[float]) -> list[_Variant]:
        """A variant for each share; the same one again where steps of the kept number are too coarse."""
        found = [_Variant(None, (), 0, (0.0, 0.0))]
        for share in shares:
            gone = select(self.groups, self._scores, share, only=group.name).get(group.name, [])
            if len(gone) == found[-1].gone:
                found.append(found[-1])
                continue
            network = copy.deepcopy(self._network)
            Channels(network, self._shape, self._keep).take({group.name: gone})
            saved = 1 - count_macs(network, self._shape) / self.macs, 1 - count_parameters(network) / self.parameters
            found.append(_Variant(network, tuple(changed_sizes(self._network, network)), len(gone), saved))
        return found[1:]


class _Judge:
    """Labelled images, the whole network's answers to them, and how far a variant's are from those."""

    def __init__(self, checkpoint: Checkpoint, network: nn.Module, samples: Sequence[Sample]) -> None:
        preprocessing, self._decision = checkpoint.spec.preprocessing, checkpoint.spec.decision
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dataset = ImageDataset(samples, preprocessing, name="validation images")
        self._pixels, targets = dataset[range(len(samples))]
        self._table = normalization_table(preprocessing).to(self._device)
        network = copy.deepcopy(network).to(self._device)
        self._beginning = Beginning(network, self._batches)
        self.place = self._beginning.place
        self._logits = self._beginning.outputs(network, ()).numpy()
        chances = self._decision.probabilities(self._logits)
        self._reference = judged(self._decision, targets.numpy(), chances, [sample.patient for sample in samples])
        self._known = known_images(self._decision, targets.numpy())
        self._answers = self._decision.answers(chances)
        self.images, self.patients = len(self._reference), len(set(self._reference.patients))
        alike = self._auroc(chances)
        self.auroc = None if alike is None else alike.reference

    def _auroc(self, chances: Floats) -> AurocLoss | None:
        reference = self._reference
        return auroc_loss(
            reference.target, reference.probabilities, chances[self._known], reference.judgeable, reference.patients
        )

    def loss(self, share: float, variant: _Variant) -> Loss:
        """Of a variant."""
        decision, logits = self._decision, self._logits
        if variant.network is not None:
            logits = self._beginning.outputs(variant.network.to(self._device), variant.layers).numpy()
        chances = decision.probabilities(logits)
        return Loss(
            share,
            variant.gone,
            *variant.saved,
            self._auroc(chances),
            distance(logits, self._logits, decision),
            int((decision.answers(chances) != self._answers).any(axis=1).sum()),
        )

    def _batches(self) -> Iterator[torch.Tensor]:
        for pixels in self._pixels.split(_BATCH):
            yield normalize(pixels.to(self._device), self._table)
