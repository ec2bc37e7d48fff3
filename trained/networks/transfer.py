"""Initial weights: drawn, ImageNet's, another checkpoint's backbone, or a file of bare features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import torch
from torch import nn

from ...runtime.errors import CheckpointError, InputError
from ..checkpoint import MARK, first_not_finite, load_checkpoint
from ..foreign import find_tensors, read_torch
from ..spec import ModelSpec
from .architectures import build, imagenet_statistics, resolve
from .layers import backbone_names
from .matching import ENOUGH, Weights, adapted, best_naming, counted, first_convolution, matched, refuse_less

# What a stranger's weights expect: the library's own normalization of RGB, or Caffe's BGR of 0 to 255 less a mean.
WeightsInput: TypeAlias = Literal["library", "caffe-bgr"]

# The ImageNet mean of Caffe's networks, RGB on the scale 0..255, as in the VGG authors' models:
# https://gist.github.com/ksimonyan/211839e770f7b538e2d8
CAFFE_MEAN = (123.68, 116.779, 103.939)


class Loaded(msgspec.Struct, frozen=True):
    """What initial weights came from where.

    Attributes:
        weights: ``scratch``, ``imagenet`` or the file's path.
        tensors, all_tensors: of the backbone, copied and in all; BatchNorm's counters are not counted.
        parameters, all_parameters: the numbers in them.
        missing: names of the backbone's tensors that keep their drawn values; train them with a frozen backbone too.
        mean, std: per channel, what Preprocessing must hold for these weights; None: take the data's own.
    """

    weights: str
    tensors: int
    all_tensors: int
    parameters: int
    all_parameters: int
    missing: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def share(self) -> float:
        """Of the backbone's numbers, the part that was copied, 0..1."""
        return self.parameters / self.all_parameters

    def __str__(self) -> str:
        if self.weights == "scratch":
            return f"weights drawn, {self.all_parameters:,} in the backbone"
        return (
            f"weights from {self.weights}: {self.tensors} of the backbone's {self.all_tensors} tensors, "
            f"{self.share:.1%} of its {self.all_parameters:,} numbers; the head is new"
        )


def pruned_start(weights: str) -> ModelSpec | None:
    """The spec of the pruned checkpoint that initial weights name; None where they are anything else.

    Raises:
        CheckpointError: a file that cannot be read.
    """
    if weights in ("scratch", "imagenet") or not Path(weights).is_file():
        return None
    payload = read_torch(Path(weights))
    if not isinstance(payload, dict) or MARK not in payload:
        return None
    spec = load_checkpoint(Path(weights)).spec
    return spec if spec.pruning or spec.shrunk else None


def as_pruned(spec: ModelSpec, weights: str) -> ModelSpec:
    """The spec of a network to train, cut as the pruned checkpoint that it starts from.

    Args:
        weights: see :func:`load_initial`; any but a pruned checkpoint leaves the spec as it is.

    Raises:
        CheckpointError: the checkpoint has another architecture, another head, other classes or channels.
    """
    start = pruned_start(weights)
    if start is None:
        return spec
    if start.architecture != resolve(spec.architecture):
        raise _other_architecture(weights, start.architecture, spec.architecture)
    if start.head != spec.head:
        raise CheckpointError(
            f"{weights}: was pruned with the head {start.head}, around which its layers are cut; give "
            f"--head {start.head}"
        )
    if start.preprocessing.channels != spec.preprocessing.channels:
        raise CheckpointError(
            f"{weights}: was pruned for images of {start.preprocessing.channels} channels, and the data have "
            f"{spec.preprocessing.channels}; train the dense network, and prune it"
        )
    if len(start.decision.classes) != len(spec.decision.classes):
        raise CheckpointError(
            f"{weights}: was pruned for {len(start.decision.classes)} classes, and the data have "
            f"{len(spec.decision.classes)}; its layers are cut around them: train the dense network, and prune it"
        )
    return msgspec.structs.replace(spec, pruning=start.pruning, shrunk=start.shrunk)


def load_initial(network: nn.Module, spec: ModelSpec, weights: str, weights_input: WeightsInput = "library") -> Loaded:
    """Give a network its initial weights, in place; the head stays as drawn but for ImageNet's inner layers of it.

    Grey weights in a colour network give the same outputs for grey images. Colour weights in a grey network are
    summed over the input channels, as timm does; mean and std are then the channels' averages. Position
    embeddings of another input size are resampled by the library's own function.

    Args:
        network: from :func:`medcompress.trained.networks.architectures.build` with this spec.
        spec: its mean and std play no part; put those of the result there.
        weights: ``scratch``, ``imagenet``, or the path of a ``best.pth`` or of a torch file of plain tensors.
        weights_input: what another tool's file expects as its input; ``caffe-bgr`` reverses the input channels of
            the first convolution, so that RGB images give the same features.

    Raises:
        InputError: no such weights, or an option that does not go with them.
        CheckpointError: a file that cannot be read, of another architecture, or that matches too little.
        MachineError: ImageNet's weights cannot be downloaded here.
    """
    if weights_input != "library" and weights in ("scratch", "imagenet"):
        raise InputError(f"weights input {weights_input!r}: is for a file of another tool, not for {weights} weights")
    if weights == "scratch":
        return _loaded(network, weights, (), None, None)
    if weights == "imagenet":
        source = build(spec, "imagenet")
        network.load_state_dict(source.state_dict())
        return _loaded(network, weights, backbone_names(network), *_statistics(spec))
    path = Path(weights)
    if not path.exists():
        raise InputError(f"weights {weights!r}: neither scratch, imagenet nor a file; check the path")
    payload = read_torch(path)
    if isinstance(payload, dict) and MARK in payload:
        if weights_input != "library":
            raise InputError(f"{path}: says itself what input it expects; leave out the weights input")
        return _from_ours(network, spec, path)
    return _from_stranger(network, spec, path, find_tensors(payload), weights_input)


def _from_ours(network: nn.Module, spec: ModelSpec, path: Path) -> Loaded:
    checkpoint = load_checkpoint(path)
    wanted, found = resolve(spec.architecture), checkpoint.spec.architecture
    if found != wanted:
        raise _other_architecture(str(path), found, wanted)
    if checkpoint.spec.pruning != spec.pruning:
        raise CheckpointError(f"{path}: was pruned, so its layers do not fit; give the checkpoint it was pruned from")
    fitting = matched(network, adapted(network, spec, checkpoint.weights))
    refuse_less(network, wanted, path, fitting, checkpoint.weights, 1.0)
    _copy(network, path, fitting)
    kept = checkpoint.spec.preprocessing
    channels = spec.preprocessing.channels
    return _loaded(network, str(path), fitting, _for_channels(kept.mean, channels), _for_channels(kept.std, channels))


def _other_architecture(weights: str, found: str, wanted: str) -> CheckpointError:
    return CheckpointError(f"{weights}: is a {found}, and the network to train a {wanted}; give --arch {found}")


def _from_stranger(
    network: nn.Module, spec: ModelSpec, path: Path, tensors: Weights, weights_input: WeightsInput
) -> Loaded:
    if not tensors:
        raise CheckpointError(f"{path}: is a torch file without weights; give a state_dict")
    mean, std = _statistics(spec)
    named = best_naming(network, tensors)
    made_to_fit = adapted(network, spec, named)
    fitting = matched(network, made_to_fit)
    refuse_less(network, resolve(spec.architecture), path, fitting, made_to_fit, ENOUGH)
    if weights_input == "caffe-bgr":
        first = first_convolution(network)
        if first not in fitting or named[first].shape[1] != 3:
            raise InputError(
                f"{path}: its first convolution does not take 3 channels, so caffe-bgr does not apply to it"
            )
        fitting[first] = fitting[first].flip(1)
        channels = spec.preprocessing.channels
        mean = _for_channels([level / 255 for level in CAFFE_MEAN], channels)
        std = _for_channels([1 / 255] * 3, channels)
    _copy(network, path, fitting)
    return _loaded(network, str(path), fitting, mean, std)


def _copy(network: nn.Module, path: Path, fitting: Weights) -> None:
    broken = first_not_finite(fitting)
    if broken:
        raise CheckpointError(f"{path}: weight {broken} holds NaN or infinite values; give another file")
    try:
        network.load_state_dict(fitting, strict=False)
    except RuntimeError as error:  # sparse or quantized tensors
        raise CheckpointError(f"{path}: holds tensors that cannot be copied; give a plain state_dict") from error


def _loaded(
    network: nn.Module,
    weights: str,
    copied: Mapping[str, torch.Tensor] | Sequence[str],
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Loaded:
    own, names = network.state_dict(), counted(network)
    had = [name for name in names if name in copied]
    return Loaded(
        weights,
        len(had),
        len(names),
        sum(own[name].numel() for name in had),
        sum(own[name].numel() for name in names),
        tuple(name for name in names if name not in copied),
        mean,
        std,
    )


def _statistics(spec: ModelSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = imagenet_statistics(resolve(spec.architecture))
    channels = spec.preprocessing.channels
    return _for_channels(mean, channels), _for_channels(std, channels)


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value a channel: repeated for grey weights in a colour network, the average the other way round."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
