"""Each group pruned alone: what carries nothing loses nothing, what carries all loses much."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from medcompress.compress.pruning.beginning import Beginning
from medcompress.compress.pruning.channels import Channels
from medcompress.compress.pruning.counting import count_macs, count_parameters
from medcompress.compress.pruning.group_losses import GroupLosses, Sensitivity
from medcompress.compress.pruning.importance import scores_of
from medcompress.compress.pruning.selection import select
from medcompress.compress.pruning.sensitivity import measure_sensitivity
from medcompress.compress.pruning.sensitivity_plot import write_plot
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import InputError
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from medcompress.trained.data.datasets import ImageDataset, normalization_table, normalize
from medcompress.trained.data.splits import Split, split_of
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.sizes import changed_sizes
from medcompress.trained.spec import ModelSpec

IDLE = "layer4.0.conv1"


@pytest.fixture(scope="module")
def stored(checkpoint: Path) -> Checkpoint:
    """A network one of whose groups is not heard of: the weights that read it are zero."""
    found = load_checkpoint(checkpoint)
    weights = dict(found.weights)
    weights["layer4.0.conv2.weight"] = torch.zeros_like(weights["layer4.0.conv2.weight"])
    return replace(found, weights=weights)


@pytest.fixture(scope="module")
def split(stored: Checkpoint) -> Split:
    return split_of(stored.data, stored.spec.decision.classes)


@pytest.fixture(scope="module")
def found(stored: Checkpoint, split: Split) -> Sensitivity:
    return measure_sensitivity(stored, split.val, (0.25, 0.5, 0.75))


def test_a_group_nothing_reads_loses_nothing(found: Sensitivity) -> None:
    losses = next(group for group in found.groups if group.name == IDLE).losses
    assert [loss.gone for loss in losses] == sorted({loss.gone for loss in losses})
    for loss in losses:
        assert loss.auroc is not None
        assert abs(loss.auroc.loss) == loss.flips == 0
        assert loss.probability_change < 1e-6
        assert loss.macs > 0 and loss.parameters > 0, "and yet it costs"


def test_a_group_that_carries_everything_loses_much(stored: Checkpoint, split: Split) -> None:
    """The truth is made what the whole network ranks by, so that its AUROC is 1; all it hears comes by the stream."""
    samples = split.train
    network, spec = rebuild(stored), stored.spec
    pixels, _ = ImageDataset(samples, spec.preprocessing)[range(len(samples))]
    with torch.inference_mode():
        logits = network(normalize(pixels, normalization_table(spec.preprocessing)))
    ranks = (logits[:, 1] - logits[:, 0]).argsort().argsort().tolist()
    relabelled = [
        msgspec.structs.replace(sample, target=(1, 0) if rank < len(samples) // 2 else (0, 1))
        for sample, rank in zip(samples, ranks, strict=True)
    ]
    found = measure_sensitivity(stored, relabelled, (0.75,))
    assert found.auroc == 1
    lost = {group.name: group.losses[0].auroc for group in found.groups}
    layers = {group.name: group.layers for group in found.groups}
    assert all(area is not None for area in lost.values())
    losses = {name: area.loss for name, area in lost.items() if area is not None}
    stream = next(name for name, changed in layers.items() if "fc" in changed)
    assert losses[stream] > 0.1
    assert losses[IDLE] == 0


def test_what_is_saved_is_what_pruning_saves(stored: Checkpoint, found: Sensitivity) -> None:
    network, shape = rebuild(stored), stored.spec.preprocessing.shape
    assert (found.macs, found.parameters) == (count_macs(network, shape), count_parameters(network))
    groups = Channels(copy.deepcopy(network), shape).groups
    scores = scores_of(groups, "magnitude", network)
    assert {group.name for group in found.groups} == {group.name for group in groups}
    for group in found.groups[:3]:
        loss = group.losses[1]
        cut = copy.deepcopy(network)
        Channels(cut, shape).take(select(groups, scores, loss.share, only=group.name))
        assert loss.macs == pytest.approx(1 - count_macs(cut, shape) / found.macs)
        assert loss.parameters == pytest.approx(1 - count_parameters(cut) / found.parameters)
        assert group.layers == tuple(changed_sizes(network, cut))


def test_names_are_those_that_keep_takes(stored: Checkpoint, split: Split, found: Sensitivity) -> None:
    names = [group.name for group in found.groups]
    kept = names[2]
    left = measure_sensitivity(stored, split.val, (0.5,), images=4, keep=(kept,))
    assert [group.name for group in left.groups] == [name for name in names if name != kept]
    with pytest.raises(InputError, match="no layer is called nowhere"):
        measure_sensitivity(stored, split.val, keep=("nowhere",))


def test_fewer_images_on_demand(stored: Checkpoint, split: Split) -> None:
    found = measure_sensitivity(stored, split.val, (0.5,), images=3)
    assert found.images == 3
    lone = measure_sensitivity(stored, split.val[:1], (0.5,))
    assert lone.auroc is None and lone.groups[0].losses[0].auroc is None


def test_several_classes_and_findings(stored: Checkpoint, split: Split) -> None:
    for kind in ("multiclass", "multilabel"):
        spec = msgspec.structs.replace(stored.spec, decision=Decision(kind, stored.spec.decision.classes))
        found = measure_sensitivity(replace(stored, spec=spec), split.val, (0.5,))
        assert found.auroc is not None
        assert all(loss.auroc is not None for group in found.groups for loss in group.losses)


def test_pictures_are_the_same_for_the_same_figures(found: Sensitivity, tmp_path: Path) -> None:
    for suffix, opening in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")):
        first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
        write_plot(first, found, "$x_1$ <resnet>")
        write_plot(second, found, "$x_1$ <resnet>")
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes().startswith(opening)
    unknown = [_unjudged(group) for group in found.groups]
    write_plot(tmp_path / "none.svg", msgspec.structs.replace(found, groups=tuple(unknown)), "no class to judge")
    with pytest.raises(InputError, match="end its name with"):
        write_plot(tmp_path / "plot.jpg", found, "")
    assert not list(tmp_path.glob("*.tmp")) and not (tmp_path / "plot.jpg").exists()


def _unjudged(group: GroupLosses) -> GroupLosses:
    losses = tuple(msgspec.structs.replace(loss, auroc=None) for loss in group.losses)
    return msgspec.structs.replace(group, losses=losses)


@pytest.mark.parametrize(
    "name", ["timm/resnet10t", "timm/densenet121", "timm/vit_tiny_patch16_224", "torchvision/mobilenet_v3_small"]
)
def test_a_beginning_run_once_changes_no_bit(stored: Checkpoint, name: str) -> None:
    """Sums, concatenations, in-place layers, squeeze and excitation, layers called twice: whatever lies between."""
    preprocessing = msgspec.structs.replace(stored.spec.preprocessing, size=(64, 64))
    torch.manual_seed(0)
    network = build(ModelSpec(name, preprocessing, stored.spec.decision)).eval()
    images = torch.rand(5, *preprocessing.shape)
    beginning = Beginning(network, lambda: iter(images.split(3)))
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    chosen = [*layers[:: max(1, len(layers) // 8)], layers[-1], layers[len(layers) // 2]]  # in the end back again
    for layer in chosen:
        changed = copy.deepcopy(network)
        changed.get_submodule(layer).weight.data.mul_(0.5)  # type: ignore[operator]
        with torch.inference_mode():
            plain = torch.cat([changed(batch) for batch in images.split(3)])
        assert torch.equal(beginning.outputs(changed, (layer,)), plain), layer
        with torch.inference_mode():
            assert torch.equal(changed(images[:3]), plain[:3]), "it is left as it was"
    assert 0 < beginning.place((layers[len(layers) // 2],)) < beginning.place((layers[-1],))


def test_a_beginning_too_large_to_keep(stored: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcompress.compress.pruning.beginning.MOST_BYTES", 10)
    network, shape = rebuild(stored), stored.spec.preprocessing.shape
    images = torch.rand(4, *shape)
    with torch.inference_mode():
        plain = network(images)
    assert torch.equal(Beginning(network, lambda: iter([images])).outputs(network, ("layer3",)), plain)
