"""Where a model looks, asked from outside: what its answer loses when a part of the image is covered.

Occlusion sensitivity, Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks", ECCV,
https://arxiv.org/abs/1311.2901. It needs no gradient and no layer, so that every engine and precision is asked alike:
an INT8 model by the very kernels that answer the patient. A heat map shows what spoke for a class, coarsely; it is no
segmentation, and no proof that the answer is right.

A place is covered by what other images have there on average, at this image's own brightness: what is ordinary there
changes little. It is the mean in place of the draws of Zintgraf et al. (2017), "Visualizing deep neural network
decisions: prediction difference analysis", ICLR, https://arxiv.org/abs/1702.04595. The usual even grey found the bright
heart and spine on nearly every chest radiograph we tried, sick or not; the mean of what is covered hides nothing of an
even opacity, and showed ribs and borders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..runtime.decision import Decision
from ..runtime.errors import EngineError
from ..runtime.preprocessing import Preprocessing
from .timing.worker import Worker

# Places a side; a patch is two of them wide.
GRID = 14


def occlusion_map(
    worker: Worker,
    rendered: npt.NDArray[np.uint8],
    average: npt.NDArray[np.floating],
    preprocessing: Preprocessing,
    scratch: Path,
    decision: Decision,
    c: int,
) -> npt.NDArray[np.float32]:
    """By how much the log odds of class ``c`` fall when a place is covered: (H, W), 0 where nothing changes.

    Below 0, the covered place spoke against the class. The patches are a seventh of a side and overlap by half. The
    model is run 197 times, one image each: 3 s where a run takes 15 ms.

    Args:
        worker: with its model loaded.
        rendered: one image, (H, W) or (H, W, 3).
        average: of other images, grey levels of the same shape; an even one covers with an even grey.
        scratch: an existing folder, for the covered images.
        decision: of several classes the odds are against all others, of findings each finding's own.

    Raises:
        EngineError: the engine failed, or its outputs are not all numbers.
    """
    rows, columns = (_places(side) for side in rendered.shape[:2])
    covered = scratch / "covered.npy"

    def odds(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        np.save(covered, images)
        return _log_odds(decision, worker.run(covered, preprocessing), c)

    whole = odds(rendered[None])[0]
    cover = _at_brightness_of(rendered, average)
    falls = np.empty((len(rows), len(columns)), np.float32)
    # Row by row, so that no more than a row's images are held.
    for i, (top, bottom) in enumerate(rows):
        images = np.repeat(rendered[None], len(columns), axis=0)
        for j, (left, right) in enumerate(columns):
            images[j, top:bottom, left:right] = cover[top:bottom, left:right]
        falls[i] = whole - odds(images)
    size = (rendered.shape[1], rendered.shape[0])
    return np.asarray(Image.fromarray(falls).resize(size, Image.Resampling.BICUBIC))


def _at_brightness_of(rendered: npt.NDArray[np.uint8], average: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The average with the image's mean and at most its contrast, channel by channel."""
    spread = average.std(axis=(0, 1))
    # Never stretched: where images do not lie alike, their average is flat, and what is left in it is chance.
    gain = np.minimum(rendered.std(axis=(0, 1)) / np.maximum(spread, 1e-6), 1)
    levels = (average - average.mean(axis=(0, 1))) * gain + rendered.mean(axis=(0, 1))
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def _places(side: int) -> list[tuple[int, int]]:
    """Patches along a side, (from, to): centred on each of the grid's places, cut at the edge."""
    count = min(GRID, side)
    middles = (np.arange(count) + 0.5) * side / count
    starts = np.clip(np.round(middles - side / count), 0, None).astype(int)
    ends = np.clip(np.round(middles + side / count), None, side).astype(int)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _log_odds(decision: Decision, logits: npt.NDArray[Any], c: int) -> npt.NDArray[np.float64]:
    """(N,) log odds of class ``c`` from raw outputs (N, classes)."""
    if not np.isfinite(logits).all():
        raise EngineError("its outputs are not all numbers")
    logits = logits.astype(np.float64) / decision.temperature
    if decision.kind == "multilabel":
        return logits[:, c]
    return logits[:, c] - np.logaddexp.reduce(np.delete(logits, c, axis=1), axis=1)
