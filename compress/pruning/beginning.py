"""What a network's layers gave up to the first changed one, so that networks that begin alike run their beginning once.

In evaluation mode a module that has returned before the first changed layer is called gives what it always gave: in the
changed network it is not run again. Of these modules only some are heard of later, which autograd tells; the others
give zeros of their shape, at no cost. What is computed between modules, sums and concatenations, is computed again, so
that the answers are those of the whole network to the last bit.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Of what is kept for all images together; where it would be more, less of the beginning is kept.
MOST_BYTES = 1024**3

Batches = Callable[[], Iterator[torch.Tensor]]


class _Reached(Exception):
    """The layer at which the beginning ends is called."""


@dataclass(frozen=True)
class _Call:
    """Of a module, in ticks. ``shape``: of the tensor it gave, without the batch; None where it is not so simple."""

    start: int
    end: int
    shape: torch.Size | None


class Beginning:
    """The outputs of a network's modules, for all images, up to the layer last asked for.

    Args:
        network: unchanged, in evaluation mode.
        batches: gives the normalized images (N, C, H, W) anew each time, where the network lies.
    """

    def __init__(self, network: nn.Module, batches: Batches) -> None:
        self._network = copy.deepcopy(network)
        self._modules = dict(self._network.named_modules())
        self._batches = batches
        self._lengths = [len(batch) for batch in batches()]
        self._image = next(batches())[:1]
        self._calls = self._traced()
        self._place = 0
        self._finished: tuple[str, ...] = ()
        self._kept: dict[str, list[torch.Tensor]] = {}

    def place(self, layers: Collection[str]) -> int:
        """When the first of these layers is called; 0 where one is not seen to be."""
        return min((self._calls[name].start if name in self._calls else 0 for name in layers), default=0)

    def outputs(self, changed: nn.Module, layers: Collection[str]) -> torch.Tensor:
        """(N, classes) of a changed network, float32, on the CPU.

        Args:
            changed: this network with some layers changed, in evaluation mode, where the images lie.
            layers: the names of those.
        """
        self._come_to(self.place(layers))
        return torch.cat([found.float().cpu() for found in self._run(changed)])

    def _run(self, network: nn.Module) -> Iterator[torch.Tensor]:
        """What a network gives for each batch, its finished modules not run."""
        modules = dict(network.named_modules())
        at = 0

        def given(name: str) -> Callable[..., torch.Tensor]:
            shape, kept = self._calls[name].shape, self._kept.get(name)
            assert shape is not None

            def forward(*_: Any, **__: Any) -> torch.Tensor:
                # A copy: what follows may write into it.
                return self._image.new_zeros(()).expand(self._lengths[at], *shape) if kept is None else kept[at].clone()

            return forward

        with ExitStack() as stack:
            for name in self._finished:
                modules[name].forward = given(name)
                stack.callback(delattr, modules[name], "forward")
            for at, batch in enumerate(self._batches()):  # noqa: B007 - the modules look at it
                with contextlib.suppress(_Reached):
                    with torch.inference_mode():
                        found = network(batch)
                    yield found

    def _come_to(self, place: int) -> None:
        """Keep what is finished when a layer is called, going on from what was kept for an earlier one."""
        if place < self._place:
            self._place, self._finished, self._kept = 0, (), {}
        finished = tuple(self._finished_before(place, self._network, ""))
        if finished == self._finished:
            return
        live = self._live(finished)
        numbers = sum(call.shape.numel() for name in live if (call := self._calls[name]).shape is not None)
        if sum(self._lengths) * numbers * self._image.element_size() > MOST_BYTES:
            return
        kept: dict[str, list[torch.Tensor]] = {name: [] for name in live}

        def keep(name: str) -> Callable[..., None]:
            return lambda _module, _inputs, output: kept[name].append(output.clone())

        def reached(*_: Any) -> None:
            raise _Reached

        with ExitStack() as stack:
            for name in live:
                stack.callback(self._modules[name].register_forward_hook(keep(name)).remove)
            first = next(name for name, call in self._calls.items() if call.start == place)
            stack.callback(self._modules[first].register_forward_pre_hook(reached).remove)
            for _ in self._run(self._network):
                pass
        self._place, self._finished, self._kept = place, finished, kept

    def _finished_before(self, place: int, module: nn.Module, prefix: str) -> Iterator[str]:
        """The outermost modules that have returned by then, and can be told to give what they gave."""
        for name, child in module.named_children():
            call = self._calls.get(prefix + name)
            if call is not None and call.shape is not None and call.end < place:
                yield prefix + name
            else:
                yield from self._finished_before(place, child, f"{prefix}{name}.")

    def _live(self, finished: Collection[str]) -> list[str]:
        """Of the finished modules, those that later ones hear of."""
        given: dict[str, torch.Tensor] = {}

        def cut(name: str) -> Callable[..., torch.Tensor]:
            def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
                given[name] = output.detach().requires_grad_()
                return given[name].clone()

            return hook

        with torch.enable_grad(), ExitStack() as stack:
            for name in finished:
                stack.callback(self._modules[name].register_forward_hook(cut(name)).remove)
            total = self._network(self._image).sum()
        gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True)
        return [name for name, gradient in zip(given, gradients, strict=True) if gradient is not None]

    def _traced(self) -> dict[str, _Call]:
        """Name of every module that is called -> when."""
        ticks = 0
        starts: dict[str, int] = {}
        calls: dict[str, _Call] = {}

        def called(name: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                nonlocal ticks
                ticks += 1
                starts.setdefault(name, ticks)

            return hook

        def returned(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                nonlocal ticks
                ticks += 1
                simple = isinstance(output, torch.Tensor) and len(output) == 1 and name not in calls
                calls[name] = _Call(starts[name], ticks, output.shape[1:] if simple else None)

            return hook

        with torch.inference_mode(), ExitStack() as stack:
            for name, module in self._modules.items():
                stack.callback(module.register_forward_pre_hook(called(name)).remove)
                stack.callback(module.register_forward_hook(returned(name)).remove)
            self._network(self._image)
        return calls
