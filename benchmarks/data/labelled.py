"""Labelled images, rendered and ready to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.preprocessing import Preprocessing
from ..statistics.metrics import truth
from .rendering import render_all
from .samples import Sample


@dataclass(frozen=True)
class Labelled:
    """Rendered images and their truth.

    Attributes:
        rendered: an .npy file, uint8 (N, H, W) or (N, H, W, 3).
        target: (N, classes), see :func:`medcompress.benchmarks.statistics.metrics.truth`.
        samples: the N images.
    """

    rendered: Path
    target: npt.NDArray[np.int8]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def patients(self) -> tuple[str, ...]:
        """Whose image each is."""
        return tuple(sample.patient for sample in self.samples)


def labelled(samples: Sequence[Sample], decision: Decision, rendered: Path) -> Labelled:
    """Images that were rendered before.

    Raises:
        DataError: a class with no image.
    """
    return Labelled(rendered, truth([sample.target for sample in samples], decision), tuple(samples))


def label_samples(
    samples: Sequence[Sample], decision: Decision, preprocessing: Preprocessing, npy: Path, title: str
) -> Labelled:
    """Render labelled images into ``npy``; ``title`` is of the progress bar.

    Raises:
        DataError: an unreadable image, or a class with no image.
    """
    found = labelled(samples, decision, npy)
    render_all([sample.path for sample in samples], preprocessing, title, npy)
    return found
