"""Initial weights: what is copied, what is refused, and that the input they expect is met exactly."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import timm
import torch
import torchvision

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError, InputError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.networks.architectures import build, resolve
from medcompress.trained.networks.layers import backbone_names, head_of
from medcompress.trained.networks.transfer import as_pruned, load_initial, pruned_start
from medcompress.trained.spec import HeadKind, LayerSizes, ModelSpec, PruningRound


def spec_of(
    architecture: str, classes: str = "abc", head: HeadKind = "linear", size: int = 64, channels: int = 3
) -> ModelSpec:
    kept = Preprocessing((size, size), channels=channels, mean=(0.4,) * channels, std=(0.2,) * channels)  # type: ignore[arg-type]
    return ModelSpec(resolve(architecture), kept, Decision("multiclass", tuple(classes)), head)


def saved(path: Path, spec: ModelSpec, seed: int = 1) -> Checkpoint:
    torch.manual_seed(seed)
    checkpoint = Checkpoint(spec, build(spec).state_dict(), DataSource("/data"), "0" * 64)
    save_checkpoint(path, checkpoint)
    return checkpoint


def features(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval().forward_features(images)  # type: ignore[operator]


def test_scratch_changes_nothing():
    spec = spec_of("timm/test_resnet")
    network = build(spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loaded = load_initial(network, spec, "scratch")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert (loaded.tensors, loaded.share, loaded.mean, loaded.std) == (0, 0, None, None)
    assert loaded.all_tensors > 20 and len(loaded.missing) == loaded.all_tensors


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/mobilenet_v3_small", "medcompress/small_cnn"])
def test_the_backbone_of_a_checkpoint_with_other_classes_head_and_size(tmp_path: Path, name: str):
    checkpoint = saved(tmp_path / "best.pth", spec_of(name, "ab", size=48))
    spec = spec_of(name, "abcde", "mlp-bn")
    torch.manual_seed(2)
    network = build(spec)
    head = {key: tensor.clone() for key, tensor in head_of(network).state_dict().items()}
    loaded = load_initial(network, spec, str(tmp_path / "best.pth"))
    own = network.state_dict()
    assert all(torch.equal(own[key], checkpoint.weights[key]) for key in backbone_names(network))
    assert all(torch.equal(tensor, head[key]) for key, tensor in head_of(network).state_dict().items())
    assert (loaded.share, loaded.missing, loaded.tensors) == (1.0, (), loaded.all_tensors)
    assert loaded.mean == (0.4,) * 3 and loaded.std == (0.2,) * 3
    assert "100.0%" in str(loaded) and "\n" not in str(loaded)


def test_grey_weights_in_a_colour_network_answer_the_same_on_grey_images(tmp_path: Path):
    source = spec_of("timm/test_resnet", channels=1)
    checkpoint = saved(tmp_path / "best.pth", source)
    grey = build(source)
    grey.load_state_dict(checkpoint.weights)
    spec = spec_of("timm/test_resnet")
    network = build(spec)
    loaded = load_initial(network, spec, str(tmp_path / "best.pth"))
    images = torch.randn(2, 1, 64, 64)
    assert loaded.mean == (0.4,) * 3
    torch.testing.assert_close(features(network, images.expand(-1, 3, -1, -1)), features(grey, images))


def test_colour_weights_in_a_grey_network_are_summed(tmp_path: Path):
    source = spec_of("timm/test_vit")
    source = msgspec.structs.replace(
        source, preprocessing=msgspec.structs.replace(source.preprocessing, mean=(0.2, 0.3, 0.4))
    )
    colour = build(source)
    colour.load_state_dict(saved(tmp_path / "best.pth", source).weights)
    spec = spec_of("timm/test_vit", channels=1)
    network = build(spec)
    loaded = load_initial(network, spec, str(tmp_path / "best.pth"))
    assert loaded.mean == pytest.approx((0.3,)) and loaded.std == pytest.approx((0.2,))
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(features(network, images), features(colour, images.expand(-1, 3, -1, -1)))


def test_position_embeddings_are_resampled_as_timm_does(tmp_path: Path):
    checkpoint = saved(tmp_path / "best.pth", spec_of("timm/test_vit", size=96))
    spec = spec_of("timm/test_vit", size=160)
    network = build(spec)
    loaded = load_initial(network, spec, str(tmp_path / "best.pth"))
    assert loaded.share == 1
    expected = timm.layers.resample_abs_pos_embed(checkpoint.weights["pos_embed"], [10, 10], num_prefix_tokens=1)
    torch.testing.assert_close(network.state_dict()["pos_embed"], expected)


def test_position_embeddings_are_resampled_as_torchvision_does(tmp_path: Path):
    spec = spec_of("torchvision/vit_b_16", size=64)
    with torch.device("meta"):
        network = build(spec)
    network = network.to_empty(device="cpu")
    weights = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items() if "heads" not in name}
    weights["encoder.pos_embedding"] = torch.ones(1, 1 + 36, 768)  # of 96 px
    torch.save(weights, tmp_path / "vit.pt")
    assert load_initial(network, spec, str(tmp_path / "vit.pt")).share == 1
    found = network.state_dict()["encoder.pos_embedding"]
    assert found.shape == (1, 17, 768) and torch.allclose(found, torch.ones(()))


def test_another_architecture_is_refused_by_name(tmp_path: Path):
    saved(tmp_path / "best.pth", spec_of("timm/test_resnet"))
    spec = spec_of("timm/test_vit")
    with pytest.raises(CheckpointError, match=r"is a timm/test_resnet, and .* timm/test_vit; give --arch"):
        load_initial(build(spec), spec, str(tmp_path / "best.pth"))


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[Path, ModelSpec]:
    """A checkpoint whose last layer but one has fewer channels, and that looks at fewer pixels."""
    spec = spec_of("timm/test_resnet")
    last = build(spec).get_submodule("layer4.0.conv1")
    layers: dict[str, LayerSizes] = {
        "layer4.0.conv1": {"weight": (7, last.in_channels, 3, 3), "out_channels": 7},  # type: ignore[dict-item]
        "layer4.0.bn1": {
            "weight": (7,), "bias": (7,), "running_mean": (7,), "running_var": (7,), "num_features": 7,
        },
        "layer4.0.conv2": {"weight": (last.out_channels, 7, 3, 3), "in_channels": 7},  # type: ignore[dict-item]
    }  # fmt: skip
    done = PruningRound("macs 0.9", "magnitude", (10, 9), (10, 9), layers)
    spec = msgspec.structs.replace(spec, pruning=(done,), shrunk=(32, 32))
    saved(tmp_path / "pruned.pth", spec)
    return tmp_path / "pruned.pth", spec


def test_a_pruned_checkpoints_layers_are_taken_over(pruned: tuple[Path, ModelSpec]):
    path, start = pruned
    assert pruned_start(str(path)) == start
    spec = as_pruned(spec_of("timm/test_resnet"), str(path))
    assert (spec.pruning, spec.shrunk) == (start.pruning, (32, 32))
    network = build(spec)
    loaded = load_initial(network, spec, str(path))
    kept = load_checkpoint(path).weights
    assert loaded.share == 1
    assert all(torch.equal(network.state_dict()[name], kept[name]) for name in backbone_names(network))
    with pytest.raises(CheckpointError, match="was pruned, so its layers do not fit"):
        load_initial(build(spec_of("timm/test_resnet")), spec_of("timm/test_resnet"), str(path))


def test_a_pruned_checkpoint_needs_the_same_architecture_head_classes_and_channels(pruned: tuple[Path, ModelSpec]):
    path = str(pruned[0])
    for spec, message in (
        (spec_of("timm/test_vit"), "is a timm/test_resnet, and the network to train a timm/test_vit; give --arch"),
        (spec_of("timm/test_resnet", head="mlp"), "was pruned with the head linear, .*; give --head linear"),
        (spec_of("timm/test_resnet", "abcd"), "was pruned for 3 classes, and the data have 4"),
        (spec_of("timm/test_resnet", channels=1), "was pruned for images of 3 channels, and the data have 1"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            as_pruned(spec, path)
        assert "\n" not in str(caught.value) and path in str(caught.value)


def test_other_starts_leave_the_spec_as_it_is(tmp_path: Path):
    spec = spec_of("timm/test_resnet")
    saved(tmp_path / "best.pth", spec)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "stranger.pth")
    starts = ("scratch", "imagenet", str(tmp_path / "absent"), str(tmp_path), str(tmp_path / "best.pth"))
    for weights in (*starts, str(tmp_path / "stranger.pth")):
        assert as_pruned(spec, weights) is spec and pruned_start(weights) is None


def _stranger(tmp_path: Path, change: str) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    original = torchvision.models.squeezenet1_1(weights=None).state_dict()
    names = {
        "as it is": original,
        "module": {f"module.{name}": tensor for name, tensor in original.items()},
        "twice": {f"model.backbone.{name}": tensor for name, tensor in original.items()},
        "features": {n.removeprefix("features."): t for n, t in original.items() if n.startswith("features.")},
        "partly": {(f"cnn.{n}" if "features" in n else f"decoder.{n}"): t for n, t in original.items()},
    }[change]
    path = tmp_path / "stranger.pth"
    torch.save({"state_dict": names, "epoch": 3} if change == "module" else names, path)
    return path, original


@pytest.mark.parametrize("change", ["as it is", "module", "twice", "features", "partly"])
def test_a_strangers_names_are_found(tmp_path: Path, change: str):
    path, original = _stranger(tmp_path, change)
    spec = spec_of("squeezenet1_1")
    network = build(spec)
    loaded = load_initial(network, spec, str(path))
    own = network.state_dict()
    assert all(torch.equal(own[name], original[name]) for name in backbone_names(network))
    assert loaded.share == 1 and loaded.mean == (0.485, 0.456, 0.406)


def test_a_file_that_lacks_a_few_tensors_is_taken_and_says_which(tmp_path: Path):
    path, original = _stranger(tmp_path, "as it is")
    kept = {name: tensor for name, tensor in original.items() if not name.startswith("features.12.expand1x1")}
    torch.save(kept, path)
    spec = spec_of("squeezenet1_1")
    network = build(spec)
    loaded = load_initial(network, spec, str(path))
    assert (loaded.tensors, loaded.all_tensors) == (48, 50) and loaded.share < 1
    assert loaded.missing == ("features.12.expand1x1.weight", "features.12.expand1x1.bias")
    nine_tenths = {name: kept[name] for name in list(kept)[:44] if name in backbone_names(network)} | {
        "features.12.expand3x3.weight": kept["features.12.expand3x3.weight"]
    }
    torch.save(nine_tenths, path)
    assert load_initial(network, spec, str(path)).tensors == 45
    torch.save({name: tensor for name, tensor in kept.items() if not name.startswith("features.11")}, path)
    with pytest.raises(CheckpointError, match=r"holds 42 of the 50 tensors .*90% are needed; it lacks features\.11\."):
        load_initial(build(spec), spec, str(path))


def test_a_file_of_the_other_librarys_network_of_that_name_says_so(tmp_path: Path):
    torch.save(torchvision.models.efficientnet_b0(weights=None).state_dict(), tmp_path / "stranger.pth")
    spec = spec_of("efficientnet_b0")
    with pytest.raises(CheckpointError, match="such as torchvision/efficientnet_b0"):
        load_initial(build(spec), spec, str(tmp_path / "stranger.pth"))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_imagenet_gives_the_backbone_and_its_statistics(monkeypatch: pytest.MonkeyPatch, head: HeadKind):
    source = torchvision.models.mobilenet_v3_small(weights=None)
    real = torchvision.models.get_model

    def fake(name: str, weights: str | None = None, **options: object) -> torch.nn.Module:
        return source if weights else real(name, weights=None, **options)

    spec = spec_of("mobilenet_v3_small", head=head)
    network = build(spec)
    monkeypatch.setattr(torchvision.models, "get_model", fake)
    loaded = load_initial(network, spec, "imagenet")
    kept, own = source.state_dict(), network.state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in [*backbone_names(network), "classifier.0.weight"])
    assert loaded.share == 1 and loaded.mean == (0.485, 0.456, 0.406) and loaded.std == (0.229, 0.224, 0.225)


def test_bad_files_and_options_are_refused_in_one_line(tmp_path: Path):
    spec = spec_of("timm/test_resnet")
    network = build(spec)
    saved(tmp_path / "best.pth", spec)
    broken = {
        name: torch.full_like(tensor, torch.nan) for name, tensor in network.state_dict().items() if tensor.ndim == 4
    }
    torch.save(network.state_dict() | broken, tmp_path / "nan.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save({"weights": torch.zeros(3), "bias": torch.zeros(())}, tmp_path / "flat.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    for weights, options, message in (
        ("imagnet", "library", "neither scratch, imagenet nor a file"),
        ("scratch", "caffe-bgr", "not for scratch weights"),
        (str(tmp_path), "library", "is a folder"),
        (str(tmp_path / "best.pth"), "caffe-bgr", "says itself"),
        (str(tmp_path / "nan.pth"), "library", "NaN"),
        (str(tmp_path / "none.pth"), "library", "without weights"),
        (str(tmp_path / "flat.pth"), "library", "holds 0 of the"),
        (str(tmp_path / "module.pth"), "library", "never opened"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_initial(network, spec, weights, options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_caffe_weights_see_what_they_were_trained_on(tmp_path: Path):
    path, original = _stranger(tmp_path, "features")
    spec = spec_of("squeezenet1_1")
    network = build(spec)
    loaded = load_initial(network, spec, str(path), "caffe-bgr")
    _assert_caffe(network, spec, loaded.mean, loaded.std, original)
    grey = spec_of("timm/test_resnet", channels=1)
    with pytest.raises(CheckpointError, match="90% are needed"):
        load_initial(build(grey), grey, str(path), "caffe-bgr")


def _assert_caffe(network: torch.nn.Module, spec: ModelSpec, mean: object, std: object, weights: dict) -> None:
    """Our RGB way into the network against the convention computed directly, in double precision."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept = msgspec.structs.replace(spec.preprocessing, colour="rgb", mean=mean, std=std)
    bgr = pixels[:, :, ::-1].astype(np.float64) - (103.939, 116.779, 123.68)
    direct = torchvision.models.squeezenet1_1(weights=None)
    direct.load_state_dict(weights, strict=False)
    with torch.inference_mode():
        expected = direct.double().eval().features(torch.from_numpy(bgr.transpose(2, 0, 1)[None].copy()))
        found = network.double().eval().features(torch.from_numpy(kept.normalize(pixels)[None]).double())  # type: ignore[operator]
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize(
    ("architecture", "file", "weights_input", "tensors"),
    [
        ("mobilenet_v3_small", "mobilenet_v3_small_features.pt", "library", 206),
        ("squeezenet1_1", "squeezenet1_1_features.pt", "caffe-bgr", 50),
    ],
)
def test_the_shared_feature_files(shared_data: Path, architecture: str, file: str, weights_input: str, tensors: int):
    path = shared_data / "checkpoints" / file
    spec = spec_of(architecture, head="mlp")
    network = build(spec)
    loaded = load_initial(network, spec, str(path), weights_input)  # type: ignore[arg-type]
    assert loaded.tensors == loaded.all_tensors == tensors
    if weights_input == "caffe-bgr":
        _assert_caffe(network, spec, loaded.mean, loaded.std, torch.load(path, weights_only=True))
    else:
        assert loaded.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("file", ["cifar_resnet20.th", "pneumonia_cnn224.pth", "not_torch_joblib.pkl"])
def test_the_shared_files_that_do_not_fit(shared_data: Path, file: str):
    spec = spec_of("resnet18")
    message = (
        "Python pickle of sklearn" if file.endswith("pkl") else "holds 0 of the 100 tensors .*it lacks conv1.weight"
    )
    with pytest.raises(CheckpointError, match=message):
        load_initial(build(spec), spec, str(shared_data / "checkpoints" / file))
