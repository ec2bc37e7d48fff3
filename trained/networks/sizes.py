"""The sizes of a network's layers: what pruning changed, as plain numbers, and a network made that size again.

A pruned network is the library's own with some layers narrower. The numbers are kept rather than the module, for torch
refuses pickled modules by default, and rather than the steps of the tool that pruned it, which then need not be there.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...runtime.errors import CheckpointError
from ..spec import LayerSizes


def changed_sizes(before: nn.Module, after: nn.Module) -> dict[str, LayerSizes]:
    """Name of every layer whose sizes differ -> those of its tensors and whole numbers that do.

    Args:
        before, after: the same network, layer by layer.
    """
    found = {}
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=True):
        then, now = _sizes(old), _sizes(new)
        different = {key: size for key, size in now.items() if then[key] != size}
        if different:
            found[name] = different
    return found


def resize(network: nn.Module, layers: Mapping[str, LayerSizes]) -> None:
    """Make layers of these sizes, in place; tensors that change hold no weights any more.

    Raises:
        CheckpointError: the network has no such layer, or the layer no such size: it is another library's version.
    """
    for name, sizes in layers.items():
        try:
            layer = network.get_submodule(name)
        except AttributeError as error:
            raise _unfit(f"it has no layer {_shown(name)}") from error
        own = _sizes(layer)
        for key, size in sizes.items():
            there = own.get(key)
            if type(there) is not type(size) or _rank(there) != _rank(size):
                kind = f"{_shown(name)} ({type(layer).__name__})"
                raise _unfit(f"its layer {kind} has no {_shown(key)} of the kind {_shown(size)}")
            if _larger(size, there):
                raise _unfit(f"its layer {_shown(name)} has {key} {there}, and pruning left {_shown(size)}")
            if size != there:
                _set(layer, key, size)


def _sizes(layer: nn.Module) -> LayerSizes:
    tensors = {**layer._parameters, **layer._buffers}
    found: LayerSizes = {key: tuple(each.shape) for key, each in tensors.items() if each is not None}
    for key, value in vars(layer).items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole or (isinstance(value, tuple) and value and all(type(each) is int for each in value)):
            found[key] = value if isinstance(value, int) else tuple(value)
    return found


def _set(layer: nn.Module, key: str, size: int | tuple[int, ...]) -> None:
    if key in layer._parameters:
        old = layer._parameters[key]
        assert old is not None
        layer._parameters[key] = nn.Parameter(old.new_zeros(size), old.requires_grad)
    elif key in layer._buffers:
        buffer = layer._buffers[key]
        assert buffer is not None
        layer._buffers[key] = buffer.new_zeros(size)
    else:
        setattr(layer, key, size)


def _rank(size: int | tuple[int, ...] | None) -> int:
    return len(size) if isinstance(size, tuple) else 0


def _larger(size: int | tuple[int, ...], there: int | tuple[int, ...] | None) -> bool:
    """Whether a size is none that pruning can leave: a hostile file may ask for any."""
    sizes, limits = (each if isinstance(each, tuple) else (each,) for each in (size, there or 0))
    return any(not 0 < one <= limit for one, limit in zip(sizes, limits, strict=True))


def _shown(value: str | int | tuple[int, ...]) -> str:
    """In one short line: a hostile file may hold anything."""
    return repr(str(value)[:60])[1:-1]


def _unfit(why: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's pruning does not fit the installed library's network: {why}; install the timm and "
        "torchvision it was pruned with"
    )
