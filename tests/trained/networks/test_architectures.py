"""Names are found in timm and torchvision, and built with the spec's head and input."""

from __future__ import annotations

import msgspec
import pytest
import timm
import torch

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError, InputError, MachineError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.networks.architectures import (
    ALIASES,
    build,
    check_forward,
    default_size,
    imagenet_statistics,
    resolve,
)
from medcompress.trained.spec import LayerSizes, ModelSpec, PruningRound


def _spec(architecture: str, classes: int = 3, size: int = 64, channels: int = 3) -> ModelSpec:
    kept = Preprocessing((size, size), channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels)  # type: ignore[arg-type]
    return ModelSpec(architecture, kept, Decision("multiclass", tuple("abcdefgh"[:classes])))


def test_resolve():
    assert resolve("resnet18") == "timm/resnet18"
    assert resolve("torchvision/resnet18") == "torchvision/resnet18"
    assert resolve("timm/resnet18") == "timm/resnet18"
    assert resolve("shufflenet_v2_x0_5") == "torchvision/shufflenet_v2_x0_5"
    assert resolve("timm/efficientnetv2_s") == "timm/efficientnetv2_s"


@pytest.mark.parametrize(
    ("name", "full", "size"),
    [
        ("resnet50", "timm/resnet50", 224),
        ("densenet121", "timm/densenet121", 224),
        ("efficientnet_b4", "timm/efficientnet_b4", 320),
        ("efficientnetv2_s", "timm/tf_efficientnetv2_s", 300),
        ("efficientnetv2_m", "timm/tf_efficientnetv2_m", 384),
        ("efficientnetv2_l", "timm/tf_efficientnetv2_l", 384),
        ("vgg19", "timm/vgg19", 224),
        ("inception_v3", "timm/inception_v3", 299),
        ("convnextv2_tiny", "timm/convnextv2_tiny", 224),
        ("convnextv2_base", "timm/convnextv2_base", 224),
        ("regnety_4gf", "timm/regnety_040", 224),
        ("regnety_8gf", "timm/regnety_080", 224),
        ("vit_base", "timm/vit_base_patch16_224", 224),
        ("squeezenet1_1", "torchvision/squeezenet1_1", 224),
        ("torchvision/inception_v3", "torchvision/inception_v3", 299),
        ("torchvision/efficientnet_b4", "torchvision/efficientnet_b4", 380),
        ("small_cnn", "medcompress/small_cnn", 128),
    ],
)
def test_the_seeds_names_and_the_size_each_network_was_made_for(name: str, full: str, size: int):
    assert resolve(name) == resolve(full) == full
    assert default_size(name) == size


def test_every_alias_is_a_network_with_imagenet_weights():
    for full in ALIASES.values():
        library, _, name = full.partition("/")
        assert library == "medcompress" or timm.is_model_pretrained(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "did you mean .*resnet18"),
        ("keras/resnet50", "the library is timm or torchvision"),
        ("torchvision/test_resnet", "in neither"),
        ("", "in neither"),
        ("medcompress/large_cnn", "the library is timm or torchvision"),
        ("smal_cnn", "did you mean .*small_cnn"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str):
    with pytest.raises(InputError, match=message):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("timm/test_resnet", 64, 1),
        ("timm/test_vit", 64, 1),
        ("timm/test_efficientnet", 96, 3),
        ("timm/vit_tiny_patch16_224", 96, 3),
        ("timm/efficientnet_b0", 64, 3),
        ("timm/mobilenetv3_small_100", 64, 1),
        ("timm/regnety_002", 64, 3),
        ("timm/convnextv2_atto", 64, 3),
        ("timm/inception_v3", 96, 3),
        ("medcompress/small_cnn", 28, 1),
        ("medcompress/small_cnn", 28, 3),
        ("torchvision/shufflenet_v2_x0_5", 64, 3),
        ("torchvision/mobilenet_v3_small", 64, 3),
        ("torchvision/squeezenet1_1", 64, 3),
        ("torchvision/googlenet", 64, 3),
        ("torchvision/inception_v3", 96, 3),
        ("torchvision/densenet121", 64, 3),
    ],
)
def test_networks_take_the_spec_input_and_give_raw_outputs(name: str, size: int, channels: int):
    spec = _spec(name, size=size, channels=channels)
    network = build(spec)
    check_forward(network, spec)
    assert network.training
    outputs = network.eval()(torch.randn(2, channels, size, size))
    assert outputs.shape == (2, 3)
    assert not torch.allclose(outputs.sum(dim=1), torch.ones(2))


def test_torchvision_takes_colour_only():
    with pytest.raises(InputError, match="takes 3 channels only"):
        build(_spec("torchvision/resnet18", channels=1))


def test_sizes_the_network_cannot_take_are_refused():
    spec = _spec("torchvision/inception_v3", size=32)
    with pytest.raises(InputError, match="32 x 32 pixels"):
        check_forward(build(spec), spec)
    with pytest.raises(InputError, match="--size"):
        build(_spec("torchvision/vit_b_16", size=100))


def _pruned(layers: dict[str, LayerSizes]) -> ModelSpec:
    done = PruningRound("macs 0.5", "magnitude", (2, 1), (2, 1), layers)
    return msgspec.structs.replace(_spec("timm/test_resnet"), pruning=(done,))


def test_a_pruned_spec_is_built_as_small_as_it_says():
    dense = build(_spec("timm/test_resnet"))
    width = dense.get_submodule("layer1.0.conv1").in_channels
    conv: LayerSizes = {"weight": (5, width, 3, 3), "out_channels": 5}
    norm: LayerSizes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (5,))
    norm["num_features"] = 5
    after: LayerSizes = {"weight": (dense.get_submodule("layer1.0.conv2").out_channels, 5, 3, 3), "in_channels": 5}
    spec = _pruned({"layer1.0.conv1": conv, "layer1.0.bn1": norm, "layer1.0.conv2": after})
    network = build(spec)
    check_forward(network, spec)
    assert network.get_submodule("layer1.0.conv1").out_channels == 5
    assert sum(each.numel() for each in network.parameters()) < sum(each.numel() for each in dense.parameters())


def test_a_pruned_spec_of_another_version_is_refused():
    with pytest.raises(CheckpointError, match=r"has no layer stages\.0; install the timm"):
        build(_pruned({"stages.0": {"out_channels": 5}}))


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/resnet18"])
def test_imagenet_weights_need_the_internet(monkeypatch: pytest.MonkeyPatch, name: str):
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(MachineError, match="connect this machine to the internet"):
        build(_spec(name), "imagenet")


def test_torchvision_imagenet_weights_are_all_kept_but_the_head(monkeypatch: pytest.MonkeyPatch):
    import torchvision

    torch.manual_seed(5)
    source = torchvision.models.shufflenet_v2_x0_5(weights=None)
    real = torchvision.models.get_model

    def fake(name: str, weights: str | None = None, **options: object) -> torch.nn.Module:
        return source if weights else real(name, weights=None, **options)

    monkeypatch.setattr(torchvision.models, "get_model", fake)
    network = build(_spec("torchvision/shufflenet_v2_x0_5"), "imagenet")
    kept, own = source.state_dict(), network.state_dict()
    assert {key for key in own if not torch.equal(own[key], kept[key]) if own[key].shape == kept[key].shape} == set()
    assert own["fc.weight"].shape == (3, 1024)


def test_torchvision_transformers_take_imagenet_weights_at_another_size(monkeypatch: pytest.MonkeyPatch):
    import torchvision

    small = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 32}

    def fake(name: str, weights: str | None = None, **options: object) -> torch.nn.Module:
        return torchvision.models.VisionTransformer(**(small | {"image_size": 224} | options))  # type: ignore[arg-type]

    monkeypatch.setattr(torchvision.models, "get_model", fake)
    assert (
        build(_spec("torchvision/vit_b_16", size=96), "imagenet").state_dict()["encoder.pos_embedding"].shape[1] == 37
    )


def test_architecture_without_imagenet_weights():
    with pytest.raises(InputError, match="no ImageNet weights"):
        build(_spec("medcompress/small_cnn"), "imagenet")
    name = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(InputError, match="no ImageNet weights"):
        build(_spec(f"timm/{name}"), "imagenet")


def test_imagenet_statistics():
    assert imagenet_statistics("timm/resnet18")[0] == (0.485, 0.456, 0.406)
    assert imagenet_statistics("timm/vit_tiny_patch16_224")[0] == (0.5, 0.5, 0.5)
    assert imagenet_statistics("torchvision/densenet121")[1] == (0.229, 0.224, 0.225)
    assert imagenet_statistics("torchvision/inception_v3")[0] == (0.5, 0.5, 0.5)
