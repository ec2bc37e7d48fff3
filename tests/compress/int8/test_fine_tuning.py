"""Training with the quantization in place, on networks made so that plain INT8 hurts them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torchvision
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import SqueezeExcitation

from medcompress.benchmarks.data.samples import Sample
from medcompress.compress.int8 import fine_tuning
from medcompress.compress.int8.fake_quantization import InputRounding, Rounding, WeightRounding, observe, with_rounding
from medcompress.compress.int8.fine_tuning import fine_tune
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import MedcompressError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, rebuild
from medcompress.trained.data import datasets
from medcompress.trained.data.splits import DataSource, Split, split_of
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec


@pytest.fixture(scope="module")
def split(phantoms: Path) -> Split:
    return split_of(DataSource(str(phantoms)))


@pytest.fixture(scope="module")
def unequal(split: Split) -> Checkpoint:
    """A network that in FP32 answers as an ordinary one, and whose channels are of very unequal range.

    What a normalization multiplies two channels with, the next convolution divides them by.
    """
    spec = ModelSpec(
        "medcompress/small_cnn", Preprocessing((32, 32)), Decision("binary", split.classes, split.classes[1])
    )
    torch.manual_seed(0)
    network = build(spec)
    for _ in range(20):
        network(torch.randn(32, 3, 32, 32))  # statistics of the normalizations that are not 0 and 1
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    with torch.no_grad():
        for norm, following in zip(layers[1:-1:2], layers[2::2], strict=True):
            norm.weight[:2] *= 60
            norm.bias[:2] *= 60
            following.weight[:, :2] /= 60
        network.head.weight *= 5
    return Checkpoint(spec, network.state_dict(), DataSource(str(split.folder)), split.fingerprint)


def observed(network: nn.Module, images: torch.Tensor) -> fx.GraphModule:
    """The network with rounding, its ranges those of the images."""
    rounding = with_rounding(network, images[:2], per_channel_depthwise=True).eval()
    observe(rounding, [images])
    return rounding


def error(checkpoint: Checkpoint, reference: Checkpoint, split: Split) -> float:
    """Of the outputs with rounding, from the FP32 network's: root mean square.

    The ranges are those of the training images, as in a bundle, and the images others, that nothing was learned from.
    """
    spec = reference.spec
    table = datasets.normalization_table(spec.preprocessing)

    def images_of(samples: Sequence[Sample]) -> torch.Tensor:
        pixels, _ = datasets.ImageDataset(samples, spec.preprocessing)[list(range(len(samples)))]
        return datasets.normalize(pixels, table)

    unseen = images_of((*split.val, *split.test))
    with torch.no_grad():
        found = observed(rebuild(checkpoint), images_of(split.train))(unseen) - rebuild(reference)(unseen)
    return float(found.square().mean().sqrt())


def test_the_outputs_come_nearer_to_the_float_network(unequal: Checkpoint, split: Split, tmp_path: Path) -> None:
    tuned = fine_tune(unequal, split, tmp_path, epochs=8)
    assert error(tuned, unequal, split) < 0.9 * error(unequal, unequal, split)
    statistics = [name for name in unequal.weights if "running" in name]
    assert statistics
    assert all(torch.equal(tuned.weights[name], unequal.weights[name]) for name in statistics)
    assert tuned.weights.keys() == unequal.weights.keys()
    assert (tuned.spec, tuned.split) == (unequal.spec, unequal.split)


def test_labels_are_not_learned_from(unequal: Checkpoint, split: Split, tmp_path: Path) -> None:
    wrong = [msgspec.structs.replace(sample, target=sample.target[::-1]) for sample in split.train]
    right, other = (
        fine_tune(unequal, part, tmp_path, epochs=4) for part in (split, dataclasses.replace(split, train=tuple(wrong)))
    )
    assert all(torch.equal(right.weights[name], other.weights[name]) for name in right.weights)


def test_time_ends_it(unequal: Checkpoint, split: Split, tmp_path: Path) -> None:
    # In a second or two it may have gained nothing; without its end this would take a day.
    with contextlib.suppress(MedcompressError):
        fine_tune(unequal, split, tmp_path, epochs=100_000, seconds=1)


def test_what_cannot_come_nearer_is_refused(unequal: Checkpoint, split: Split, tmp_path: Path) -> None:
    silent = {name: value * 0 if name.startswith("head") else value for name, value in unequal.weights.items()}
    with pytest.raises(MedcompressError, match="no nearer"):
        fine_tune(dataclasses.replace(unequal, weights=silent), split, tmp_path, epochs=1)


def test_values_that_are_no_numbers_are_refused(unequal: Checkpoint, split: Split, tmp_path: Path) -> None:
    vast = {name: value * 1e30 if value.is_floating_point() else value for name, value in unequal.weights.items()}
    with pytest.raises(MedcompressError, match=r"diverged .*NaN") as caught:
        fine_tune(dataclasses.replace(unequal, weights=vast), split, tmp_path, epochs=1)
    assert "\n" not in str(caught.value)


def test_an_interrupt_leaves_nothing_behind(
    unequal: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(pixels: torch.Tensor, module: nn.Module) -> torch.Tensor:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "MEMORY_BYTES", 0)  # the images go to the disk
    monkeypatch.setattr(fine_tuning, "augment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(unequal, split, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_weight_is_rounded_as_the_folded_one(unequal: Checkpoint) -> None:
    layers = [module for module in rebuild(unequal).modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    convolution, norm = layers[2], layers[3]
    folded = fuse_conv_bn_eval(convolution, norm).weight
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).reshape(-1, 1, 1, 1)
    rounded = WeightRounding(0)(convolution.weight)
    torch.testing.assert_close(rounded * factor, WeightRounding(0)(folded), rtol=1e-4, atol=1e-6)
    steps = rounded / (convolution.weight.abs().amax((1, 2, 3), keepdim=True) / 127)
    assert (steps - steps.round()).abs().max() < 1e-3
    assert steps.abs().max() <= 127.001


def test_an_input_is_rounded_to_256_levels_with_zero_among_them() -> None:
    values = torch.tensor([[[[-1.0, 0.0, 2.0]], [[-10.0, 0.001, 500.0]]]]).repeat(1, 1, 40, 1)
    for channels in (0, 2):
        rounding = InputRounding(channels).eval()
        rounding.observing = True
        assert torch.equal(rounding(values), values)
        rounding.observing = False
        found = rounding(values)
        assert found[0, 0, 0, 1] == 0
        step = 3 / 255 if channels else 510 / 255
        assert (found - values)[0, 0].abs().max() <= step / 2 + 1e-6
        assert torch.equal(rounding(found), found)


def test_gradients_pass_the_rounding_within_the_range_only() -> None:
    rounding = InputRounding().eval()
    rounding.observing = True
    rounding(torch.tensor([-1.0, 1.0]))
    rounding.observing = False
    values = torch.tensor([-2.0, 0.3, 2.0], requires_grad=True)
    rounding(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 0]


def test_every_layer_of_a_transformer_is_rounded_and_its_products_of_activations_are_not() -> None:
    # Its attention takes the weights out of their modules.
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=3).eval()
    images = torch.randn(4, 3, 32, 32)
    torch.nn.init.normal_(network.heads.head.weight)  # it begins as zeros
    rounding = observed(network, images)
    found = [module for module in rounding.modules() if isinstance(module, WeightRounding)]
    # The patches, in each of two blocks q, k and v together, their projection and two of the MLP, and the head.
    assert len(found) == 1 + 2 * 4 + 1
    with torch.no_grad():
        assert 0 < (rounding(images) - network(images)).abs().max() < 0.1 * network(images).abs().max()
    rounding(images).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_depthwise_inputs_and_single_pixels() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 3, groups=8), SqueezeExcitation(8, 4), nn.Conv2d(8, 4, 1)
    ).eval()
    images = torch.randn(2, 3, 16, 16)
    for per_channel in (True, False):
        rounding = with_rounding(network, images, per_channel_depthwise=per_channel)
        weights = [module for module in rounding.modules() if isinstance(module, WeightRounding)]
        inputs = [module for module in rounding.modules() if isinstance(module, InputRounding)]
        assert len(weights) == 3  # not the two of the gate
        assert sorted(len(module.low.shape) for module in inputs) == ([0, 0, 1] if per_channel else [0, 0, 0])


def test_it_is_the_float_network_while_observing(unequal: Checkpoint) -> None:
    network = rebuild(unequal)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
    rounding = with_rounding(network, images[:2], per_channel_depthwise=True).train()
    for module in rounding.modules():
        if isinstance(module, Rounding):
            module.observing = True
    with torch.no_grad():
        torch.testing.assert_close(rounding(images), network(images))
