"""Grad-CAM: equal to the analytic map, at the right place, for every family of networks, leaving nothing behind."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import InputError, MachineError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.data.datasets import normalization_table, normalize
from medcompress.trained.networks.architectures import build, resolve
from medcompress.trained.phantom import draw_phantom
from medcompress.trained.results.explanation import explain, target_layer
from medcompress.trained.spec import ModelSpec

pytest.importorskip("pytorch_grad_cam")

THREE = Decision("multiclass", ("a", "b", "c"))


def spec_of(name: str, size: tuple[int, int], decision: Decision = THREE) -> ModelSpec:
    return ModelSpec(name, Preprocessing(size), decision)


def noise(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)


class Small(nn.Module):
    """Convolutions, an in-place ReLU, a global average, a linear head."""

    def __init__(self, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class Flat(nn.Module):
    """No grid anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class InPlace(Small):
    """What comes after the target layer changes its output in place, as torchvision's DenseNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.features = self.features[:-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.features(x), inplace=True).mean(dim=(2, 3)))


def scaled(maps: torch.Tensor) -> torch.Tensor:
    lowest, highest = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - lowest) / (highest - lowest)


def test_with_an_average_and_a_linear_head_it_is_the_class_activation_map() -> None:
    """Zhou et al. 2016 (arXiv:1512.04150): for such networks Grad-CAM is proportional to it."""
    torch.manual_seed(0)
    network = Small().eval()
    spec = spec_of("small", (32, 48))
    pixels = noise(4, (32, 48))
    heat = explain(network, spec, pixels, [0, 1, 2, 0])
    inputs = torch.from_numpy(np.stack([spec.preprocessing.normalize(image) for image in pixels]))
    with torch.no_grad():
        features = network.features(inputs)
        maps = torch.einsum("nk,nkhw->nhw", network.head.weight[[0, 1, 2, 0]], features).relu()
        large = functional.interpolate(scaled(maps)[:, None], (32, 48), mode="bilinear")[:, 0]
    assert heat.shape == (4, 32, 48)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, scaled(large).numpy(), atol=1e-4)


def test_what_follows_in_place_does_not_change_the_maps() -> None:
    torch.manual_seed(0)
    network = InPlace().eval()
    spec = spec_of("small", (32, 32))
    pixels = noise(2, (32, 32))
    heat = explain(network, spec, pixels, [0, 1])
    inputs = torch.from_numpy(np.stack([spec.preprocessing.normalize(image) for image in pixels]))
    features = network.features(inputs).detach().requires_grad_()
    logits = network.head(features.relu().mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(logits[0, 0] + logits[1, 1], features)
    maps = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu().detach()
    large = functional.interpolate(scaled(maps)[:, None], (32, 32), mode="bilinear")[:, 0]
    np.testing.assert_allclose(heat, scaled(large).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "layer", "grid"),
    [
        ("resnet10t", (64, 96), "layer4", (2, 3)),
        ("torchvision/resnet18", (64, 64), "layer4", (2, 2)),
        ("torchvision/densenet121", (64, 64), "features", (2, 2)),
        ("efficientnet_b0", (64, 64), "bn2", (2, 2)),
        ("torchvision/vgg11", (32, 32), "features.19", (2, 2)),
        ("torchvision/inception_v3", (128, 128), "Mixed_7c", (2, 2)),
        ("convnextv2_atto", (64, 64), "stages", (2, 2)),
        ("regnety_002", (64, 64), "s4", (2, 2)),
        ("torchvision/mobilenet_v3_small", (64, 64), "features", (2, 2)),
        ("torchvision/squeezenet1_1", (64, 64), "classifier.2", (3, 3)),
        ("vit_tiny_patch16_224", (64, 96), "blocks.11.norm1", (4, 6)),
        ("deit_tiny_distilled_patch16_224", (64, 64), "blocks.11.norm1", (4, 4)),
        ("swin_s3_tiny_224", (112, 112), "norm", (4, 4)),
    ],
)
def test_every_family_has_its_layer(name: str, size: tuple[int, int], layer: str, grid: tuple[int, int]) -> None:
    spec = spec_of(resolve(name), size)
    torch.manual_seed(0)
    network = build(spec)
    found = target_layer(network, spec)
    assert (found.name, found.grid) == (layer, grid)
    heat = explain(network, spec, noise(3, size), [0, 1, 2], found)
    assert heat.shape == (3, *size)
    assert 0 <= heat.min() < heat.max() <= 1 + 1e-6


def test_the_tokens_of_no_patch_are_left_out() -> None:
    """Of a head that reads the class token, the heat lies on the patches, in the image's own rows and columns."""
    spec = spec_of("timm/vit_tiny_patch16_224", (64, 96))
    torch.manual_seed(0)
    found = target_layer(build(spec), spec)
    tokens = torch.arange(1 + 4 * 6)[None, :, None].expand(1, 25, 5)
    maps = found.maps(tokens)
    assert maps.shape == (1, 5, 4, 6)
    assert maps[0, 0].flatten().tolist() == list(range(1, 25))


def test_torchvisions_transformer_once_it_is_trained() -> None:
    spec = spec_of("torchvision/vit_b_16", (32, 32))
    torch.manual_seed(0)
    network = build(spec)
    with pytest.raises(InputError, match="answers the same whatever the image"):
        target_layer(network, spec)  # its head begins with zeros
    nn.init.normal_(network.heads.head.weight)  # type: ignore[union-attr]
    found = target_layer(network, spec)
    assert (found.name, found.prefix) == ("encoder.layers.encoder_layer_11.ln_1", 1)


def test_a_network_without_a_grid_is_refused() -> None:
    with pytest.raises(InputError, match="no layer with a grid"):
        explain(Flat(), spec_of("flat", (16, 16)), noise(1, (16, 16)))


def test_nothing_is_left_behind_and_twice_is_the_same() -> None:
    torch.manual_seed(0)
    network = Small().train()
    network.head.weight.requires_grad_(False)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    before = {name: (p.requires_grad, p.grad) for name, p in network.named_parameters()}
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    spec, pixels = spec_of("small", (32, 32)), noise(20, (32, 32))
    with torch.inference_mode():  # where the caller computes no gradients either
        first = explain(network, spec, pixels)
    np.testing.assert_array_equal(first, explain(network, spec, pixels))
    np.testing.assert_allclose(first[17:], explain(network, spec, pixels[17:]), atol=1e-5)
    assert all(before[name] == (p.requires_grad, p.grad) for name, p in network.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


def test_by_default_the_answer_is_explained() -> None:
    torch.manual_seed(0)
    network, pixels = Small().eval(), noise(6, (32, 32))
    for decision in (THREE, Decision("multilabel", ("a", "b", "c"), threshold=0.9)):
        spec = spec_of("small", (32, 32), decision)
        inputs = torch.from_numpy(np.stack([spec.preprocessing.normalize(image) for image in pixels]))
        likeliest = network(inputs).argmax(dim=1).tolist()
        np.testing.assert_array_equal(explain(network, spec, pixels), explain(network, spec, pixels, likeliest))
    wary = spec_of("small", (32, 32), Decision("binary", ("a", "b"), "b", threshold=0.001))
    two = Small(2).eval()
    np.testing.assert_array_equal(explain(two, wary, pixels), explain(two, wary, pixels, [1] * 6))


def test_the_heat_lies_near_the_opacity() -> None:
    """A network is trained to tell healthy phantoms from the same with a blob at a place that is known."""
    size, rng = 48, np.random.default_rng(1)
    rows, columns = np.mgrid[:size, :size]
    healthy = np.stack([draw_phantom(2 * (index // 4), index % 4, size=size) for index in range(100)])

    def draw(count: int, among: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every second image has a blob: pixels, labels, the blobs' centres."""
        pixels, labels = healthy[rng.choice(among, count)].copy(), np.arange(count) % 2
        centres = rng.uniform(10, 38, (count, 2))
        for index in np.flatnonzero(labels):
            distance = ((rows - centres[index, 0]) / 4) ** 2 + ((columns - centres[index, 1]) / 4) ** 2
            pixels[index] = np.clip(pixels[index] + 120 * np.exp(-distance), 0, 255).astype(np.uint8)
        return pixels, labels, centres

    spec = spec_of("small", (size, size), Decision("binary", ("clear", "opacity"), "opacity"))
    table = normalization_table(spec.preprocessing)
    torch.manual_seed(1)
    network = Small(2, 16).train()
    network.features.extend([nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=200)
    for _ in range(200):
        pixels, labels, _ = draw(32, range(80))
        loss = functional.cross_entropy(network(normalize(torch.from_numpy(pixels), table)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    pixels, labels, centres = draw(80, range(80, 100))  # of other patients
    with torch.no_grad():
        right = network.eval()(normalize(torch.from_numpy(pixels), table)).argmax(dim=1).numpy() == labels
    assert right.mean() >= 0.85, "the network did not learn it: its heat maps say nothing"
    heat, centres = explain(network, spec, pixels[1::2], [1] * 40), centres[1::2]
    peaks = np.array([np.unravel_index(one.argmax(), one.shape) for one in heat])
    off = np.linalg.norm(peaks - centres, axis=1)
    chance = np.linalg.norm(peaks[:, None] - centres[None], axis=2)
    assert np.median(off) < 0.65 * np.median(chance), "the warmest place is no nearer the blob than another image's"
    near = np.hypot(rows - centres[:, :1, None], columns - centres[:, 1:, None]) < 6
    shares = (heat * near).sum(axis=(1, 2)) / heat.sum(axis=(1, 2))
    assert shares.mean() > 1.8 * near.mean(), f"{shares.mean():.3f} of the heat on {near.mean():.3f} of the image"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"grad-cam is not installed.*medcompress\[train\]"):
        explain(Small(), spec_of("small", (32, 32)), noise(1, (32, 32)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_it_is_the_same() -> None:
    torch.manual_seed(0)
    network, spec, pixels = Small().eval(), spec_of("small", (32, 32)), noise(3, (32, 32))
    here = explain(network, spec, pixels, [0, 1, 2])
    np.testing.assert_allclose(here, explain(network.cuda(), spec, pixels, [0, 1, 2]), atol=1e-3)
