"""Many images through the locked preprocessing, in parallel, with progress."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.errors import ImageError
from ...runtime.preprocessing import Preprocessing
from ..progress import track
from .samples import refuse_unreadable


def render_all(
    paths: Sequence[Path], preprocessing: Preprocessing, title: str = "", out: Path | None = None
) -> npt.NDArray[np.uint8]:
    """Render images: uint8 (N, H, W) for grey, (N, H, W, 3) for rgb, in the order of ``paths``.

    Args:
        title: of the progress bar; empty shows none.
        out: an .npy file to write, so that memory does not bound N; None keeps them in memory.

    Raises:
        DataError: images that cannot be read; the message names the first and counts the rest.
    """
    shape = (len(paths), *preprocessing.size, *((3,) if preprocessing.colour == "rgb" else ()))
    pixels = _on_disk(out, shape) if out else np.empty(shape, np.uint8)

    def one(index: int) -> ImageError | None:
        try:
            pixels[index] = preprocessing.render(paths[index])
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(one, range(len(paths)))
        results = track(results, title, len(paths)) if title else results
        errors = [error for error in results if error is not None]
    refuse_unreadable(errors, len(paths))
    if isinstance(pixels, np.memmap):
        pixels.flush()
    return pixels


def _on_disk(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An .npy file of that shape, as an array, its room on the disk taken: a mapped write to a full disk is fatal."""
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels
