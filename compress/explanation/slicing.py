"""One place of a tensor, computed without the others where the operators allow it.

A transformer that answers from its class token needs of what follows its last attention that token alone. Pushed up
through the operators, the choice of the token leaves a hundredth of the products; an operator that is not known here is
computed whole, and the place taken of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

if TYPE_CHECKING:
    from .cut import Tail

aten = torch.ops.aten

# Each place of the output is made of the same place of every input.
_POINTWISE = {
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.gelu.default, aten.relu.default,
    aten.silu.default, aten.sigmoid.default, aten.tanh.default, aten.clone.default, aten.dropout.default,
    aten.contiguous.default, aten.hardswish.default, aten.neg.default, aten.alias.default,
}  # fmt: skip
_VIEWS = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}


def sliced(tail: Tail, node: fx.Node, dim: int, index: int) -> fx.Node:
    """Place ``index`` of dimension ``dim`` of a node of the program, the dimension kept, as a node of the tail."""
    found = None if node in tail.given else _pushed(tail, node, dim, index)
    return tail.call(aten.slice.Tensor, tail.build(node), dim, index, index + 1) if found is None else found


def full_slice(node: fx.Node) -> bool:
    """Whether a node takes a slice of all that there is."""
    return node.target is aten.slice.Tensor and _shape(node) == _shape(node.args[0])


def _pushed(tail: Tail, node: fx.Node, dim: int, index: int) -> fx.Node | None:
    args: Any = node.args
    target, shape = node.target, _shape(node)
    if target in _POINTWISE:
        return tail.call(
            target, *(_place_of(tail, each, shape, dim, index) for each in args), **node.kwargs
        )  # fmt: skip
    if full_slice(node):
        return tail.sliced(args[0], dim, index)
    if target is aten.layer_norm.default and dim < len(shape) - len(args[1]):
        return tail.call(target, tail.sliced(args[0], dim, index), *_built(tail, args[1:]), **node.kwargs)
    if target is aten.linear.default and dim < len(shape) - 1:
        return tail.call(target, tail.sliced(args[0], dim, index), *_built(tail, args[1:]))
    if target is aten.transpose.int:
        first, second = (each % len(shape) for each in args[1:])
        before = {first: second, second: first}.get(dim, dim)
        return tail.call(target, tail.sliced(args[0], before, index), first, second)
    if target is aten.permute.default:
        order = [each % len(shape) for each in args[1]]
        return tail.call(target, tail.sliced(args[0], order[dim], index), order)
    if target in _VIEWS:
        before = _kept(_shape(args[0]), shape, dim)
        if before is not None:
            asked = [1 if place == dim else side for place, side in enumerate(shape)]
            return tail.call(aten.reshape.default, tail.sliced(args[0], before, index), asked)
    if target is aten.cat.default:
        return _of_parts(tail, node, dim, index)
    if target is aten.scaled_dot_product_attention.default and dim == len(shape) - 2:
        return tail.attention(node, index)
    return None


def _place_of(tail: Tail, given: Any, shape: tuple[int, ...], dim: int, index: int) -> Any:
    """The same place of an operand, which may be spread over that dimension."""
    if not isinstance(given, fx.Node):
        return given
    own = _shape(given)
    at = dim - len(shape) + len(own)
    return tail.sliced(given, at, index) if at >= 0 and own[at] == shape[dim] and own[at] > 1 else tail.build(given)


def _of_parts(tail: Tail, node: fx.Node, dim: int, index: int) -> fx.Node | None:
    args: Any = node.args
    parts: Any = args[0]
    along: int = args[1] if len(args) > 1 else 0
    if along % len(_shape(node)) != dim:
        return None
    for part in parts:
        length = _shape(part)[dim]
        if index < length:
            return tail.sliced(part, dim, index)
        index -= length
    return None


def _kept(before: tuple[int, ...], after: tuple[int, ...], dim: int) -> int | None:
    """Which dimension a dimension was before a view, where it is the same one."""
    for place, side in enumerate(before):
        if side == after[dim] and math.prod(before[:place]) == math.prod(after[:dim]):
            return place
    return None


def _built(tail: Tail, args: Any) -> list[Any]:
    return [tail.build(each) if isinstance(each, fx.Node) else each for each in args]


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
