"""The answer for one image."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from .reasons import Reason


class Prediction(msgspec.Struct, frozen=True):
    """The answer for one image.

    Attributes:
        label: the class answered; for several findings the likeliest of them, or None where there is none.
        labels: all classes answered: one, or any number of findings.
        probabilities: of every class.
        time_ms: ``preprocess`` (decode, resize, normalize), ``engine``, ``explain`` where asked for, and ``total``, of
            this image; in a batch the engine's time is shared out evenly.
        variant: that answered.
        cautions: what a reader of this answer should know, a sentence each.
        reasons: the same with a code each, for programs, in the same order.
        heat: where asked for: what spoke for ``explained``, float32 (H, W) of the image as it was rendered, 0..1, 1 its
            own strongest place; all 0 where nothing did. See :mod:`medcompress.runtime.explanation`.
        explained: the class answered, of several findings the likeliest, found or not.
        unexplained: why there is no heat map, where one was asked for.
    """

    label: str | None
    labels: tuple[str, ...]
    probabilities: dict[str, float]
    time_ms: dict[str, float]
    variant: str
    cautions: tuple[str, ...] = ()
    heat: npt.NDArray[np.float32] | None = None
    explained: str | None = None
    reasons: tuple[Reason, ...] = ()
    unexplained: str = ""
