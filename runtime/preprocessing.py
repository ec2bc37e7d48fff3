"""The locked way from an image to the tensor a network takes: the only one in the project.

Training's evaluation, calibration, benchmarks and the kiosk all call this module, so that a model never meets
pixels prepared in another way than those it was judged on. Resizing is Pillow's (antialiased): a resize without
antialiasing moves a radiograph's pixels by up to 17 grey levels, more than INT8 does.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from .bounds import MAX_COLOUR_PIXELS
from .dicom.rendering import DicomRendering
from .errors import ImageError
from .images import ImageSource, read_image

VERSION = 1

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a file becomes a tensor; equal values give equal tensors on every machine.

    Attributes:
        size: (height, width) of the network's input, pixels.
        colour: ``grey`` turns colour images grey first; ``rgb`` repeats the grey level of grey images.
        channels: 1, or 3 (a grey image is repeated).
        mean, std: per channel, on the scale 0..1; the tensor is (pixel / 255 - mean) / std.
        fit: ``stretch`` to size; ``crop``: shorter side to ``shorter_side``, then the centre;
            ``pad``: the whole image, black bars.
        shorter_side: only for ``crop``, pixels.
        filter: Pillow's resampling filter.
        dicom: how a DICOM file's grey levels become those 8 bits, and which of them are refused.
        version: of this module's behaviour; a bundle made for another one is refused.
    """

    size: tuple[int, int]
    colour: Literal["grey", "rgb"] = "grey"
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    shorter_side: int = 0
    filter: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    dicom: DicomRendering = DicomRendering()
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"preprocessing version {self.version} is not known here (only {VERSION})")
        if not all(1 <= side <= 4096 for side in self.size):
            raise ValueError(f"size {self.size} is outside 1..4096 pixels")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values each")
        if not all(np.isfinite((*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std above 0")
        if self.colour == "rgb" and self.channels != 3:
            raise ValueError("colour images need 3 channels")
        if (self.fit == "crop") != (self.shorter_side > 0) or 0 < self.shorter_side < max(self.size):
            raise ValueError("shorter_side goes with fit='crop' and is at least the larger side of size")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one tensor."""
        return (self.channels, *self.size)

    def render(self, source: ImageSource) -> npt.NDArray[np.uint8]:
        """The image at the network's size, before normalization: uint8 (H, W) for grey, (H, W, 3) for rgb.

        A JPEG far larger than needed is decoded at 1/2, 1/4 or 1/8 of its size, at least twice the network's:
        2 to 3 times faster and within 2 grey levels of the full decode.

        Raises:
            ImageError: see :func:`medcompress.runtime.images.read_image`.
        """
        return self.draw(self.decode(source))

    def decode(self, source: ImageSource) -> Image.Image:
        """The first half of :meth:`render`: the image upright, ``L`` or ``RGB`` as it came, and still large.

        What a reader of the answer should know of it: :func:`medcompress.runtime.images.cautions_of`.
        """
        longest = 2 * max(*self.size, self.shorter_side)
        image = read_image(source, at_least=(longest, longest), dicom=self.dicom)
        # Scaled by its shorter side, a line of 60,000 x 2 pixels would have two billion.
        if self.fit == "crop" and max(image.size) * self.shorter_side**2 > MAX_COLOUR_PIXELS * min(image.size):
            name = source if isinstance(source, (str, Path)) else "image"
            what = f"{name}: is too long for its width ({image.width} x {image.height}); cut out what matters"
            raise ImageError(what, "too-narrow")
        return image

    def draw(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The second half of :meth:`render`: a decoded image in the network's colour and size."""
        mode = "L" if self.colour == "grey" else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        return np.asarray(self._resize(image))

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Rendered pixels to the network's float32 (C, H, W)."""
        tables = _tables(self.mean, self.std)
        tensor = np.empty((len(tables), *pixels.shape[:2]), np.float32)
        for channel, table in enumerate(tables):
            if channel and pixels.ndim == 2 and table is tables[0]:
                tensor[channel] = tensor[0]
                continue
            # "clip": every level is in the table, and without it numpy would fill a buffer first.
            np.take(table, pixels if pixels.ndim == 2 else pixels[:, :, channel], out=tensor[channel], mode="clip")
        return tensor

    def __call__(self, source: ImageSource) -> npt.NDArray[np.float32]:
        """An image to the network's float32 (C, H, W); see :meth:`render` for the errors."""
        return self.normalize(self.render(source))

    def _resize(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        resample = _FILTERS[self.filter]
        if self.fit == "stretch":
            return image.resize((width, height), resample)
        if self.fit == "crop":
            # The sizes and offsets of torchvision's Resize and CenterCrop, rounding included.
            short = min(image.size)
            scaled = [int(self.shorter_side * side / short) for side in image.size]
            left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
            return image.resize((scaled[0], scaled[1]), resample).crop((left, top, left + width, top + height))
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padded = Image.new(image.mode, (width, height))
        padded.paste(image.resize(inner, resample), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return padded


@lru_cache(maxsize=32)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[npt.NDArray[np.float32], ...]:
    """A table a channel; the same one where mean and std are the same."""
    levels = np.arange(256, dtype=np.float64) / 255
    channels = list(zip(mean, std, strict=True))
    tables = {(m, s): ((levels - m) / s).astype(np.float32) for m, s in channels}
    return tuple(tables[channel] for channel in channels)
