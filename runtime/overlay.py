"""An image under its heat map, as a picture to look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

# Where the heat is 1; the cold stays as it is: an even veil would hide the image where nothing is to be shown.
OPACITY = 0.65
# A picture smaller than this, pixels of its longer side, is enlarged by a whole number.
LEAST_SIDE = 512
# Of matplotlib's ``inferno``, nine even steps: brightness rises with the heat, so it is legible without colour vision.
_INFERNO = (
    (0, 0, 3), (32, 12, 74), (87, 15, 109), (137, 34, 105), (187, 55, 84), (228, 90, 49), (249, 142, 8), (248, 203, 52),
    (252, 254, 164),
)  # fmt: skip


def overlay(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> Image.Image:
    """The image with its heat map over it, RGB.

    Args:
        pixels: as rendered (:meth:`medcompress.runtime.preprocessing.Preprocessing.render`): (H, W) or (H, W, 3).
        heat: (H, W), 0..1.
    """
    height, width = heat.shape
    times = -(-LEAST_SIDE // max(height, width)) if max(height, width) < LEAST_SIDE else 1
    size = (width * times, height * times)
    image = np.asarray(Image.fromarray(pixels).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    warmth = np.asarray(Image.fromarray(np.clip(heat, 0, 1)).resize(size, Image.Resampling.BILINEAR))[:, :, None]
    steps = np.linspace(0, 1, len(_INFERNO))
    colours = np.concatenate([np.interp(warmth, steps, channel) for channel in zip(*_INFERNO, strict=True)], axis=2)
    return Image.fromarray((image * (1 - OPACITY * warmth) + colours * OPACITY * warmth).round().astype(np.uint8))
