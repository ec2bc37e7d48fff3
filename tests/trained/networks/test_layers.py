"""Every parameter stands in one group, from the input to the output, the head's last."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.networks.architectures import build, default_size, resolve
from medcompress.trained.networks.layers import backbone_names, head_of, layer_groups
from medcompress.trained.spec import HeadKind, ModelSpec

ISSUE = [
    "resnet50",
    "densenet121",
    "efficientnet_b4",
    "efficientnetv2_s",
    "efficientnetv2_m",
    "efficientnetv2_l",
    "vgg19",
    "inception_v3",
    "convnextv2_tiny",
    "convnextv2_base",
    "regnety_040",
    "regnety_080",
    "vit_base",
]
SMALL = [
    "mobilenetv3_small_100",
    "regnety_002",
    "convnextv2_atto",
    "vit_tiny_patch16_224",
    "efficientnet_b0",
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v3_small",
    "small_cnn",
]
OTHERS = [
    "caformer_s18",
    "resnetv2_18",
    "swin_tiny_patch4_window7_224",
    "torchvision/vgg11",
    "torchvision/densenet121",
    "torchvision/inception_v3",
    "torchvision/resnet18",
    "torchvision/convnext_tiny",
    "torchvision/vit_b_16",
    "torchvision/swin_t",
    "torchvision/maxvit_t",
    "torchvision/mnasnet0_5",
]


def _network(name: str, head: HeadKind) -> nn.Module:
    side = default_size(name)
    spec = ModelSpec(resolve(name), Preprocessing((side, side)), Decision("multiclass", ("a", "b", "c")), head)
    with torch.device("meta"):
        return build(spec)


@pytest.mark.parametrize("head", ["linear", "mlp-bn"])
@pytest.mark.parametrize("name", ISSUE + SMALL + OTHERS)
def test_groups_cover_every_parameter_once_with_the_head_last(name: str, head: HeadKind):
    network = _network(name, head)
    groups = layer_groups(network)
    listed = [id(parameter) for _, group in groups for parameter in group]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    assert len(groups) >= 3 and all(group for _, group in groups)
    names = [group for group, _ in groups]
    assert len(set(names)) == len(names) and names[-1] == "head"
    assert [id(parameter) for parameter in groups[-1][1]] == [
        id(parameter) for parameter in head_of(network).parameters()
    ]
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert any(parameter is first.weight for parameter in groups[0][1])
    assert groups[-1][1][-1].shape[0] == 3  # of the output layer


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_tiny_patch16_224", "small_cnn"])
def test_groups_are_in_the_order_the_image_passes_them(name: str):
    network = _network(name, "linear").to_empty(device="cpu")
    side = default_size(name)
    owner = {id(parameter): number for number, (_, group) in enumerate(layer_groups(network)) for parameter in group}
    order: list[int] = []

    def note(module: nn.Module, *_: object) -> None:
        order.extend(owner[id(parameter)] for parameter in module.parameters(recurse=False))

    for module in network.modules():
        module.register_forward_hook(note)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, side, side))
    seen = list(dict.fromkeys(order))
    assert seen == sorted(seen)


def test_head_and_backbone_share_no_name():
    network = _network("mobilenet_v3_small", "mlp")
    names = backbone_names(network)
    assert all(name.startswith("features.") for name in names)
    assert {name for name in network.state_dict() if name not in names} == {
        f"classifier.{name}" for name in head_of(network).state_dict()
    }
    convnext = backbone_names(_network("convnextv2_atto", "linear"))
    assert "head.norm.weight" in convnext and "head.fc.weight" not in convnext
