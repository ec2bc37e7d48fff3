"""Whether two pictures are one: laid over each other, then compared by their details.

Two chest radiographs agree in everything coarse, and so do two slices of a head: what makes a picture itself is its
detail. So pairs are aligned first (affine, by Gauss-Newton on grey levels, with a free gain and offset: the
inverse-compositional and ECC family, Evangelidis and Psarakis 2008, doi:10.1109/TPAMI.2008.113), and then the
correlation of what is left when the coarse is taken away is their likeness, -1..1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# Furthest an alignment may go from where it began, in half image sides: beyond it, it is lost.
_REACH = 0.35
_STEPS = 6
# Of the mean squared detail: what has much less is noise, and is not brought up.
_FLOOR = 0.3


def likeness(
    still: Array, moving: Array, scale: int, start: Array | None = None, steps: int = _STEPS
) -> tuple[Array, Array]:
    """Of N pairs of grey images, both (N, S, S): (likeness (N,), maps (N, 2, 3)).

    It is the higher one of aligned and as they lie: on a picture with little in it, an alignment may slide away.

    Args:
        scale: what is coarser than so many pixels does not count.
        start, steps: see :func:`align`.
    """
    maps = align(still, moving, start, steps)
    seen, inside = warp(moving, maps)
    own = details(still, scale)
    aligned = correlation(own, details(seen, scale), inside)
    plain = correlation(own, details(moving, scale), np.ones_like(inside))
    return np.maximum(aligned, plain), maps


def align(still: Array, moving: Array, start: Array | None = None, steps: int = _STEPS) -> Array:
    """Affine maps (N, 2, 3) that lay ``moving`` over ``still``, both (N, S, S).

    Coordinates run from -1 to 1 across the image. A pair that does not settle keeps the map it began with, the
    identity by default.
    """
    count, side = len(still), still.shape[-1]
    begun = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    if start is not None:
        begun[:, :2] = start
    maps, lost = begun.copy(), np.zeros(count, bool)
    y, x = _grid(side)
    flat = still.reshape(count, -1)
    for _ in range(steps):
        seen, inside = warp(moving, maps[:, :2])
        down, across = np.gradient(seen, 2 / side, axis=(1, 2))
        columns = (across * x, across * y, across, down * x, down * y, down, seen, np.ones_like(seen))
        design = np.stack(columns, axis=-1).reshape(count, -1, 8) * inside.reshape(count, -1, 1)
        normal = design.transpose(0, 2, 1) @ design
        normal += np.eye(8, dtype=np.float32) * (1e-4 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 8 + 1e-6)
        found = np.linalg.solve(normal, design.transpose(0, 2, 1) @ flat[..., None])[..., 0]
        change = found[:, :6] / np.maximum(found[:, 6:7], 0.1)
        moved = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
        moved[:, :2] += change.reshape(count, 2, 3)
        stepped = maps @ moved
        lost |= ~(np.abs(stepped - begun).max(axis=(1, 2)) < _REACH)
        maps = np.where(lost[:, None, None], begun, stepped)
    return maps[:, :2]


def warp(images: Array, maps: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(images as seen through their maps, which pixels lie inside), both (N, S, S); bilinear."""
    side = images.shape[-1]
    y, x = _grid(side)
    places = maps @ np.stack([x.ravel(), y.ravel(), np.ones(side * side, np.float32)])
    places = ((places + 1) * (side / 2) - 0.5).astype(np.float32)
    inside = ((places > -0.5) & (places < side - 0.5)).all(axis=1)
    places = np.clip(places, 0, side - 1.001)
    corner = places.astype(np.int32)
    right, below = (places - corner).transpose(1, 0, 2)
    index = corner[:, 1] * side + corner[:, 0]
    flat = images.reshape(len(images), -1)
    upper = np.take_along_axis(flat, index, 1) * (1 - right) + np.take_along_axis(flat, index + 1, 1) * right
    index += side
    lower = np.take_along_axis(flat, index, 1) * (1 - right) + np.take_along_axis(flat, index + 1, 1) * right
    return (upper * (1 - below) + lower * below).reshape(images.shape), inside.reshape(images.shape)


def details(images: Array, scale: int) -> Array:
    """``images`` (N, S, S) without what is coarser than ``scale`` pixels, all places brought to about one contrast.

    Without the second, a burnt-in label, a black frame or the rim of a skull outweighs the rest of the picture.
    """
    fine = images - _mean(_mean(images, scale), scale)
    around = _mean(fine**2, 2 * scale)
    whole = around.mean(axis=(1, 2), keepdims=True)
    return fine / np.sqrt(around + _FLOOR * whole + 1e-6)


def correlation(one: Array, other: Array, where: npt.NDArray[np.bool_]) -> Array:
    """(N,): Pearson's, over the pixels ``where``; 0 for a picture without contrast."""
    count = np.maximum(where.sum(axis=(1, 2), keepdims=True), 1)
    one = (one - (one * where).sum(axis=(1, 2), keepdims=True) / count) * where
    other = (other - (other * where).sum(axis=(1, 2), keepdims=True) / count) * where
    spread = np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))
    return (one * other).sum(axis=(1, 2)) / np.maximum(spread, 1e-3)


def _mean(images: Array, scale: int) -> Array:
    """Running mean over ``2 * scale + 1`` pixels both ways, edges repeated."""
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (scale + 1, scale)
        sums = np.cumsum(np.pad(images, pad, mode="edge"), axis=axis, dtype=np.float64)
        window = 2 * scale + 1
        high = np.take(sums, range(window, sums.shape[axis]), axis)
        low = np.take(sums, range(sums.shape[axis] - window), axis)
        images = ((high - low) / window).astype(np.float32)
    return images


def _grid(side: int) -> tuple[Array, Array]:
    line = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return y.astype(np.float32), x.astype(np.float32)
