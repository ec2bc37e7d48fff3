"""A head takes the place of any network's last layer, and a checkpoint with it comes back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError, InputError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.inspection import describe
from medcompress.trained.networks.architectures import build, check_forward
from medcompress.trained.networks.heads import Head
from medcompress.trained.spec import HeadKind, ModelSpec


def spec_of(architecture: str, head: HeadKind = "linear", size: int = 64) -> ModelSpec:
    return ModelSpec(architecture, Preprocessing((size, size)), Decision("multiclass", ("a", "b", "c")), head)


def test_the_layers_of_the_heads():
    kinds = [[type(layer).__name__ for layer in Head(kind, 8, 3)] for kind in ("mlp", "mlp-bn")]  # type: ignore[arg-type]
    assert kinds[0] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert kinds[1] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2 + ["Linear"]
    widths = [layer.out_features for layer in Head("mlp-bn", 8, 3) if isinstance(layer, nn.Linear)]
    assert widths == [512, 256, 3]
    assert [layer.p for layer in Head("mlp-bn", 8, 3) if isinstance(layer, nn.Dropout)] == [0.5, 0.3]


@pytest.mark.parametrize(
    ("name", "place", "size"),
    [
        ("timm/test_resnet", "fc", 64),
        ("timm/test_convnext", "head.fc", 64),
        ("timm/test_vit", "head", 64),
        ("timm/mobilenetv3_small_100", "classifier", 64),
        ("timm/regnety_002", "head.fc", 64),
        ("timm/resnetv2_18", "head", 64),
        ("torchvision/mobilenet_v3_small", "classifier.3", 64),
        ("torchvision/squeezenet1_1", "classifier", 64),
        ("torchvision/inception_v3", "fc", 96),
        ("torchvision/densenet121", "classifier", 64),
        ("medcompress/small_cnn", "head", 28),
    ],
)
def test_every_network_takes_a_head_in_the_place_of_its_last_layer(name: str, place: str, size: int):
    spec = spec_of(name, "mlp-bn", size)
    network = build(spec)
    assert [path for path, module in network.named_modules() if isinstance(module, Head)] == [place]
    check_forward(network, spec)
    outputs = network.train()(torch.randn(2, 3, size, size))
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in network.get_submodule(place).parameters())


def test_linear_is_the_librarys_own_layer():
    timm_resnet = build(spec_of("timm/test_resnet"))
    assert {"fc.weight", "fc.bias"} <= timm_resnet.state_dict().keys()
    assert not any(isinstance(module, Head) for module in timm_resnet.modules())


def test_several_classifiers_are_refused():
    with pytest.raises(InputError, match="does not end in one classifier"):
        build(spec_of("timm/efficientformer_l1", "mlp"))


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/squeezenet1_1", "medcompress/small_cnn"])
@pytest.mark.parametrize("head", ["linear", "mlp", "mlp-bn"])
def test_checkpoints_come_back_bit_for_bit(tmp_path: Path, name: str, head: HeadKind):
    torch.manual_seed(1)
    spec = spec_of(name, head, 40)
    network = build(spec)
    network(torch.randn(4, 3, 40, 40))  # moves the statistics of BatchNorm
    path = tmp_path / "best.pth"
    save_checkpoint(path, Checkpoint(spec, network.state_dict(), DataSource("/data"), "0" * 64))
    images = torch.randn(2, 3, 40, 40)
    assert torch.equal(rebuild(load_checkpoint(path))(images), network.eval()(images))
    assert describe(path)["head"] == head


def test_a_head_this_version_does_not_know_is_refused(tmp_path: Path):
    spec = spec_of("medcompress/small_cnn")
    path = tmp_path / "best.pth"
    save_checkpoint(path, Checkpoint(spec, build(spec).state_dict(), DataSource("/data"), "0" * 64))
    payload = torch.load(path, weights_only=True)
    payload["spec"]["head"] = "kan"
    torch.save(payload, path)
    with pytest.raises(CheckpointError, match="kan"):
        load_checkpoint(path)
