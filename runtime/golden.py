"""Golden vectors: a few inputs with the outputs they must give, so that a machine can test itself.

They catch what no hash can: a CPU that saturates INT8 products, another build of an engine, another Pillow.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from .bundle import GOLDEN_FILE, Bundle, Variant
from .engines import Engine
from .errors import BundleError, ImageError
from .preprocessing import Preprocessing

# Largest difference of a logit, as a share of the largest logit (at least 1). On the build machine it is 0; how far two
# faithful machines differ by rounding was not measured yet, so these are chosen, not found. tf32 and fp16 round to 11
# bits where bf16 does to 8, and GPUs pick other kernels, which sum in another order or round in between.
TOLERANCE = {
    "fp32": 0.001,
    "tf32": 0.01,
    "bf16": 0.03,
    "fp16": 0.01,
    "int8": 0.05,
    "int8-bf16": 0.05,
    "int8-fp16": 0.05,
}
_MAX_INPUTS = 16
# Of the file, and of what it holds beside images.
_MAX_BYTES = 256 * 1024 * 1024
_REST_BYTES = 16 * 1024 * 1024
# Grey levels two versions of Pillow's JPEG decoder and resize may differ by.
PIXEL_TOLERANCE = 2


class Golden(msgspec.Struct, frozen=True):
    """A bundle's golden vectors.

    Attributes:
        inputs: uint8 rendered images (N, H, W) or (N, H, W, 3).
        logits: variant name -> (N, classes), as measured on the build machine.
        picture: a synthetic JPEG, the file's bytes.
        rendered: what :meth:`Preprocessing.render` made of it on the build machine.
        maps: variant name -> (N, height, width), see :func:`medcompress.runtime.explanation.weigh_all`; without those
            that hold no explanation.
    """

    inputs: npt.NDArray[np.uint8]
    logits: Mapping[str, npt.NDArray[np.float32]]
    picture: bytes
    rendered: npt.NDArray[np.uint8]
    maps: Mapping[str, npt.NDArray[np.float32]] = {}

    def to_bytes(self) -> bytes:
        """As the bytes of an npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            inputs=self.inputs,
            picture=np.frombuffer(self.picture, dtype=np.uint8),
            rendered=self.rendered,
            allow_pickle=False,
            **{f"logits-{name}": values for name, values in self.logits.items()},
            **{f"map-{name}": values for name, values in self.maps.items()},
        )
        return buffer.getvalue()


def read_golden(bundle: Bundle) -> Golden:
    """The bundle's golden vectors.

    Raises:
        BundleError: missing, changed, or not of the bundle's shapes.
    """
    path = bundle.folder / GOLDEN_FILE
    data = io.BytesIO(bundle.read(GOLDEN_FILE, _MAX_BYTES))
    height, width = bundle.manifest.preprocessing.size
    most = 3 * height * width * (_MAX_INPUTS + 1) + _REST_BYTES
    try:
        with zipfile.ZipFile(data) as archive:
            entries = archive.infolist()
            # Three arrays, and two of each variant; none is read beyond the size the archive says.
            if sum(entry.file_size for entry in entries) > most or len(entries) > 3 + 2 * len(bundle.manifest.variants):
                raise ValueError("it unpacks to more than golden vectors can be")
        with np.load(data, allow_pickle=False) as stored:
            logits = {name.removeprefix("logits-"): stored[name] for name in stored if name[:7] == "logits-"}
            maps = {name.removeprefix("map-"): stored[name] for name in stored if name[:4] == "map-"}
            golden = Golden(stored["inputs"], logits, stored["picture"].tobytes(), stored["rendered"], maps)
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise a dozen kinds
        raise BundleError(f"{path}: is not a set of golden vectors ({error}); make the bundle again") from error
    manifest = bundle.manifest
    count, shape = golden.inputs.shape[:1], golden.rendered.shape
    if (
        golden.inputs.dtype != np.uint8
        or golden.rendered.dtype != np.uint8
        or golden.inputs.size == 0
        or golden.inputs.shape != (*count, *shape)
        or shape[:2] != manifest.preprocessing.size
        or len(shape) != (3 if manifest.preprocessing.colour == "rgb" else 2)
        or any(values.shape != (*count, len(manifest.decision.classes)) for values in logits.values())
        or any(values.dtype != np.float32 for values in (*logits.values(), *maps.values()))
        or any(values.ndim != 3 or values.shape[:1] != count for values in maps.values())
    ):
        raise BundleError(f"{path}: its shapes are not those of the model; make the bundle again")
    return golden


def make_picture() -> bytes:
    """A synthetic JPEG, the same on every machine: gradients and edges at many scales."""
    rows, columns = np.mgrid[0:300, 0:360]
    waves = (np.bitwise_xor(rows // 8, columns // 8) * 3 + (rows * columns) // 977) % 256
    buffer = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def engine_error(golden: Golden, preprocessing: Preprocessing, variant: Variant, engine: Engine, count: int) -> float:
    """Largest logit difference over the first ``count`` inputs, as a share of the largest logit (at least 1).

    Raises:
        BundleError: there are no golden outputs for this variant.
        EngineError: the engine cannot run.
    """
    expected = golden.logits.get(variant.name)
    if expected is None:
        raise BundleError(f"there are no golden outputs for variant {variant.name}; make the bundle again")
    batch = np.stack([preprocessing.normalize(pixels) for pixels in golden.inputs[:count]])
    found = engine.run(batch).astype(np.float64)
    expected = expected[:count]
    if found.shape != expected.shape:
        return float("inf")
    error = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    return error if np.isfinite(error) else float("inf")


def pixel_error(golden: Golden, preprocessing: Preprocessing) -> int:
    """Largest difference, in grey levels, between this machine's rendering of the picture and the stored one.

    Raises:
        BundleError: the stored picture is none.
    """
    try:
        rendered = preprocessing.render(golden.picture)
    except ImageError as error:
        raise BundleError(f"the bundle's golden picture cannot be read ({error}); make the bundle again") from error
    if rendered.shape != golden.rendered.shape:
        return 255
    return int(np.abs(rendered.astype(np.int16) - golden.rendered).max())
