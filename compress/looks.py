"""Many images, as the input guard sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..benchmarks.data.samples import Sample, refuse_unreadable
from ..benchmarks.progress import track
from ..runtime.errors import ImageError
from ..runtime.preprocessing import Preprocessing
from ..runtime.sight import Seen, observe
from .mistakes import MISTAKES


@dataclass(frozen=True)
class Looks:
    """What is seen of N images, see :class:`medcompress.runtime.sight.Seen`; a row each."""

    thumbnails: npt.NDArray[np.float32]
    textures: npt.NDArray[np.float32]
    measures: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.thumbnails)

    def of(self, mask: npt.NDArray[np.bool_]) -> Looks:
        """Those of some images."""
        return Looks(self.thumbnails[mask], self.textures[mask], self.measures[mask])


def look(samples: Sequence[Sample], preprocessing: Preprocessing, changes: Sequence[str] = ("",)) -> dict[str, Looks]:
    """Decode and look at images, as they are (``""``) and changed by mistakes of :data:`MISTAKES`.

    Raises:
        DataError: images that cannot be read.
    """

    def one(sample: Sample) -> list[Seen] | ImageError:
        try:
            image = preprocessing.decode(sample.path)
        except ImageError as error:
            return error
        pixels = preprocessing.draw(image)
        return [observe(image, MISTAKES[change](pixels) if change else pixels) for change in changes]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(track(pool.map(one, samples), "Looking at images", len(samples)))
    refuse_unreadable([each for each in found if isinstance(each, ImageError)], len(samples))
    seen = [each for each in found if not isinstance(each, ImageError)]
    return {
        change: Looks(*map(np.stack, zip(*(each[i] for each in seen), strict=True))) for i, change in enumerate(changes)
    }
