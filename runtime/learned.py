"""What the input guard learned of a model's training images: where they lie, and how far an image may be from them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .errors import BundleError
from .sight import MEASURES, POSTURES, SIDE, TEXTURE

MAX_BYTES = 4 * 1024 * 1024
_SPACES = ("thumbnails", "textures")
COLUMNS = (
    "thumbnail distance",
    "thumbnail remainder",
    "texture distance",
    "texture remainder",
    *POSTURES,
    *(f"{measure} low" for measure in MEASURES),
    *(f"{measure} high" for measure in MEASURES),
)

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """The training images' principal components in one of the two pictures, D numbers each; all float32.

    Attributes:
        mean: (D,).
        components: orthonormal rows (K, D).
        scales: the deviation along each, (K,).
        rest: that of the remainder, (1,).
    """

    mean: _Floats
    components: _Floats
    scales: _Floats
    rest: _Floats

    def oddness(self, pictures: _Floats) -> npt.NDArray[np.float64]:
        """Distance and remainder, in deviations: (N, 2)."""
        apart = pictures - self.mean
        within = apart @ self.components.T
        distance = np.sqrt(((within / self.scales) ** 2).mean(axis=1))
        left = (apart**2).sum(axis=1) - (within**2).sum(axis=1)
        return np.stack([distance, np.sqrt(np.maximum(left, 0)) / self.rest[0]], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Learned:
    """What the guard knows; the arrays are float32.

    Attributes:
        thumbnails, textures: where the training images lie in each of the two pictures.
        directions: of each posture, as it should be less as it should not, (P, SIDE * SIDE).
        offsets: mean score of the training images, in deviations, (P,).
        middle, spread: of each measure, (M,).
        limits: of each of :data:`COLUMNS`; what is never refused has an infinite one.
    """

    thumbnails: Space
    textures: Space
    directions: _Floats
    offsets: _Floats
    middle: _Floats
    spread: _Floats
    limits: _Floats

    def oddness(self, thumbnails: _Floats, textures: _Floats, measures: npt.NDArray[np.float64]) -> _Doubles:
        """How far N images are from the training images, 1 being the limit: (N, columns), see :data:`COLUMNS`."""
        postures = self.offsets - thumbnails @ self.directions.T
        off = (measures - self.middle) / self.spread
        raw = [self.thumbnails.oddness(thumbnails), self.textures.oddness(textures), postures, -off, off]
        return np.maximum(np.hstack(raw), 0) / self.limits

    def to_bytes(self) -> bytes:
        """As the bytes of an npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **_arrays(self))
        return buffer.getvalue()


def read_learned(data: bytes, name: str) -> Learned:
    """What a guard learned, from the bytes of its file; ``name`` stands in the message.

    Raises:
        BundleError: not one, or one of another version.
    """
    file = io.BytesIO(data)
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("it unpacks to more than a guard can be")
        with np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored}
        learned = _from_arrays(found)
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise a dozen kinds
        raise BundleError(f"{name}: is not what a guard learned ({error}); make the bundle again") from error
    if any(array.dtype != np.float32 or np.isnan(array).any() for array in found.values()) or not _fits(learned):
        raise BundleError(f"{name}: its arrays are not those of a guard of this version; make the bundle again")
    return learned


def _arrays(learned: Learned) -> dict[str, _Floats]:
    named = {each.name: getattr(learned, each.name) for each in fields(Learned)[2:]}
    for space in _SPACES:
        named |= {f"{space}-{each.name}": getattr(getattr(learned, space), each.name) for each in fields(Space)}
    return named


def _from_arrays(found: dict[str, _Floats]) -> Learned:
    thumbnails, textures = (Space(*(found[f"{space}-{each.name}"] for each in fields(Space))) for space in _SPACES)
    return Learned(thumbnails, textures, *(found[each.name] for each in fields(Learned)[2:]))


def _fits(learned: Learned) -> bool:
    measures, postures = len(MEASURES), len(POSTURES)
    expected = {
        "directions": (postures, SIDE * SIDE),
        "offsets": (postures,),
        "middle": (measures,),
        "spread": (measures,),
        "limits": (len(COLUMNS),),
    }
    for name, size in zip(_SPACES, (SIDE * SIDE, TEXTURE), strict=True):
        count = len(getattr(learned, name).components)
        shapes = {"mean": (size,), "components": (count, size), "scales": (count,), "rest": (1,)}
        expected |= {f"{name}-{each}": shape for each, shape in shapes.items()}
    return {name: array.shape for name, array in _arrays(learned).items()} == expected
