"""Networks by name, from timm, torchvision and our own: what a spec names, built with its head and input."""

from __future__ import annotations

import difflib
from typing import Any, Literal, TypeAlias

import timm
import torch
import torchvision
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from ...runtime.errors import InputError, MachineError, first_line
from ..spec import ModelSpec
from . import small_cnn
from .heads import attach_head
from .shrinking import shrink_input
from .sizes import resize

InitialWeights: TypeAlias = Literal["scratch", "imagenet"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# torchvision's networks with an auxiliary head, which is not part of the deployed classifier.
_AUXILIARY = {"googlenet", "inception_v3"}
SMALL_CNN = "medcompress/small_cnn"
# Short names. timm has EfficientNetV2 twice, and weights only for the one with TensorFlow's padding.
ALIASES = {
    "small_cnn": SMALL_CNN,
    "efficientnetv2_s": "timm/tf_efficientnetv2_s",
    "efficientnetv2_m": "timm/tf_efficientnetv2_m",
    "efficientnetv2_l": "timm/tf_efficientnetv2_l",
    "regnety_4gf": "timm/regnety_040",
    "regnety_8gf": "timm/regnety_080",
    "vit_base": "timm/vit_base_patch16_224",
}


def resolve(name: str) -> str:
    """A network's full name, ``timm/NAME``, ``torchvision/NAME`` or ``medcompress/small_cnn``.

    A bare name is looked up in :data:`ALIASES`, then in timm, then in torchvision.

    Raises:
        InputError: neither library has it; the message names the closest ones.
    """
    if name in ALIASES or name == SMALL_CNN:
        return ALIASES.get(name, name)
    library, _, bare = name.rpartition("/")
    if library not in ("", "timm", "torchvision"):
        raise InputError(f"architecture {name!r}: the library is timm or torchvision; write timm/NAME or NAME")
    if library != "torchvision" and timm.is_model(bare):
        return f"timm/{bare}"
    if library != "timm" and bare in _torchvision_names():
        return f"torchvision/{bare}"
    known = set(ALIASES if not library else ())
    known |= set(timm.list_models() if library != "torchvision" else ())
    known |= set(_torchvision_names() if library != "timm" else ())
    close = difflib.get_close_matches(bare, sorted(known), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models() for the names"
    raise InputError(f"architecture {name!r} is in neither timm nor torchvision; {hint}")


def build(spec: ModelSpec, weights: InitialWeights = "scratch") -> nn.Module:
    """The network of a spec: (N, channels, height, width) float32 to raw outputs (N, classes).

    In training mode, networks with BatchNorm need batches of at least two images.

    Args:
        spec: architecture, input and classes.
        weights: ``scratch`` draws them from torch's random generator; ``imagenet`` downloads the library's
            default ones, and draws the head only.

    Raises:
        InputError: the library does not know the network, or cannot build it for this input.
        CheckpointError: the spec's pruning does not fit the library's network.
        MachineError: the ImageNet weights cannot be downloaded here.
    """
    library, _, name = resolve(spec.architecture).partition("/")
    builder = {"timm": _build_timm, "torchvision": _build_torchvision, "medcompress": _build_own}[library]
    try:
        network = attach_head(builder(name, spec, weights), spec.head, len(spec.decision.classes))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        height, width = spec.preprocessing.size
        raise InputError(
            f"{spec.architecture}: cannot be built for {spec.preprocessing.channels} x {height} x {width} input "
            f"({first_line(error)}); try another --size or architecture"
        ) from error
    for pruned in spec.pruning:
        resize(network, pruned.layers)
    if spec.shrunk:
        shrink_input(network, spec.shrunk)
    return network


def check_forward(network: nn.Module, spec: ModelSpec) -> None:
    """Run one blank image through the network.

    Raises:
        InputError: it cannot take this input size, or does not give one output per class.
    """
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            outputs = network(torch.zeros(1, *spec.preprocessing.shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = spec.preprocessing.size
        raise InputError(
            f"{spec.architecture}: cannot take images of {height} x {width} pixels ({first_line(error)}); "
            "give another --size"
        ) from error
    finally:
        network.train(training)
    expected = (1, len(spec.decision.classes))
    if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != expected:
        raise InputError(f"{spec.architecture}: does not give {expected[1]} outputs an image; use another one")


def default_size(architecture: str) -> int:
    """Side in pixels of the square images a network was made for: the library's own, 224 where it says none.

    Raises:
        InputError: see :func:`resolve`.
    """
    library, _, name = resolve(architecture).partition("/")
    if library == "medcompress":
        return small_cnn.SIZE
    if library == "timm":
        config = timm.get_pretrained_cfg(name)
        return config.input_size[-1] if config is not None else 224
    return torchvision.models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0]


def imagenet_statistics(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per RGB channel that the network's ImageNet weights were trained with."""
    library, _, name = architecture.partition("/")
    if library == "timm":
        config = timm.get_pretrained_cfg(name)
        if config is not None:
            return tuple(config.mean), tuple(config.std)
    if name in _AUXILIARY:  # These turn ImageNet's values into 0.5 inside the network; build() switches that off.
        return (0.5,) * 3, (0.5,) * 3
    return IMAGENET_MEAN, IMAGENET_STD


def _build_own(name: str, spec: ModelSpec, weights: InitialWeights) -> nn.Module:
    if weights == "imagenet":
        raise InputError(f"medcompress/{name}: has no ImageNet weights; use --weights scratch")
    return small_cnn.SmallCNN(len(spec.decision.classes), spec.preprocessing.channels)


def _build_timm(name: str, spec: ModelSpec, weights: InitialWeights) -> nn.Module:
    options: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = spec.preprocessing.size
    if weights == "imagenet" and not timm.is_model_pretrained(name):
        raise InputError(f"timm/{name}: timm has no ImageNet weights for it; use --weights scratch")
    try:
        return timm.create_model(
            name,
            pretrained=weights == "imagenet",
            num_classes=len(spec.decision.classes),
            in_chans=spec.preprocessing.channels,
            **options,
        )
    except OSError as error:  # What urllib, requests and huggingface_hub raise without a connection.
        raise _no_download(f"timm/{name}") from error


def _build_torchvision(name: str, spec: ModelSpec, weights: InitialWeights) -> nn.Module:
    height, width = spec.preprocessing.size
    if spec.preprocessing.channels != 3:
        raise InputError(f"torchvision/{name}: takes 3 channels only; use 3 channels, or the network of timm")
    options: dict[str, Any] = {"num_classes": len(spec.decision.classes)}
    if name in _AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True, "transform_input": False}
    if name.startswith("vit_"):
        if height != width:
            raise InputError(f"torchvision/{name}: takes square images only; use the network of timm")
        options["image_size"] = height
    if name.startswith("maxvit"):
        options["input_size"] = (height, width)
    network = torchvision.models.get_model(name, weights=None, **options)
    if weights == "imagenet":
        _copy_imagenet(network, name)
    return network


def _copy_imagenet(network: nn.Module, name: str) -> None:
    """Give ``network`` all of torchvision's ImageNet weights but the classifier's, whose shape differs."""
    try:
        source = torchvision.models.get_model(name, weights="DEFAULT").state_dict()
    except OSError as error:
        raise _no_download(f"torchvision/{name}") from error
    if "encoder.pos_embedding" in source:
        source = interpolate_embeddings(network.image_size, network.patch_size, source)  # type: ignore[arg-type]
    own = network.state_dict()
    same = {key: tensor for key, tensor in source.items() if key in own and tensor.shape == own[key].shape}
    # The classifier is one layer (weight and bias) in all of them; more than that is another input size.
    if len(own) - len(same) > 2:
        raise InputError(f"torchvision/{name}: its ImageNet weights are for another --size; use 224")
    network.load_state_dict(same, strict=False)


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _no_download(name: str) -> MachineError:
    return MachineError(
        f"{name}: its ImageNet weights could not be downloaded; connect this machine to the internet, "
        "or use --weights scratch"
    )
