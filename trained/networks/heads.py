"""Classifier heads: what follows the pooled features of a network."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ...runtime.errors import InputError
from ..spec import HeadKind

# Of each hidden layer: width, BatchNorm after it or not, dropout.
HIDDEN: dict[HeadKind, tuple[tuple[int, bool, float], ...]] = {
    "linear": (),
    "mlp": ((512, False, 0.5),),
    "mlp-bn": ((512, True, 0.5), (256, True, 0.3)),
}


class Head(nn.Sequential):
    """Hidden layers (linear, BatchNorm if asked, ReLU, dropout) and an output layer.

    Args:
        kind: key of :data:`HIDDEN`.
        features: of its input (N, features).
        classes: of its output (N, classes).
        pooled: the input is (N, features, H, W) and is averaged over H and W first.
    """

    def __init__(self, kind: HeadKind, features: int, classes: int, pooled: bool = False) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if pooled:
            layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        for number, (width, norm, dropout) in enumerate(HIDDEN[kind], start=1):
            layers[f"hidden{number}"] = nn.Linear(features, width)
            if norm:
                layers[f"norm{number}"] = nn.BatchNorm1d(width)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"dropout{number}"] = nn.Dropout(dropout)
            features = width
        layers["output"] = nn.Linear(features, classes)
        super().__init__(layers)


def attach_head(network: nn.Module, kind: HeadKind, classes: int) -> nn.Module:
    """Put a head in the place of the network's last layer, in place; ``linear`` leaves the library's own.

    Where that layer is a convolution (SqueezeNet, ResNetV2, DPN), the head takes the place of all that stands
    around it and averages the feature map itself.

    Raises:
        InputError: the network has more than one classifier, or none that can be told.
    """
    if kind == "linear":
        return network
    name, layer = last_layer(network)
    several = not isinstance(getattr(network, "pretrained_cfg", {}).get("classifier", ""), str)
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if several or outputs != classes:
        raise InputError(
            f"head {kind!r}: {type(network).__name__} does not end in one classifier layer; use the head 'linear'"
        )
    if isinstance(layer, nn.Linear):
        network.set_submodule(name, Head(kind, layer.in_features, classes))
    else:
        network.set_submodule(name.partition(".")[0], Head(kind, layer.in_channels, classes, pooled=True))
    return network


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and module of the last linear layer or convolution: the classifier, in timm and torchvision alike."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]
