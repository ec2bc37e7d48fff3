"""The float graphs INT8 forms are made of, with their ranges: the network as it is, equalized, or fine-tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import onnx

from ...runtime.errors import MedcompressError, first_line, is_full_disk
from ...runtime.hardware import this_cpu
from ...runtime.preprocessing import Preprocessing
from ..workspace import Workspace
from .equalization import equalize
from .gathering import gather
from .graph import prepare
from .plan import Plan
from .ranges import Ranges, read_ranges, write_ranges

# Given where to write the FP32 ONNX file.
Tuner: TypeAlias = Callable[[Path], None]

_PREPARED = "prepared.onnx"
_RANGES = "ranges.json"
_TUNED = "model.onnx"


class Source(msgspec.Struct, frozen=True):
    """A float graph and its ranges, as files."""

    prepared: Path
    ranges: Path


class _Gathered(msgspec.Struct):
    images: int
    growth: float


class _Equalized(msgspec.Struct):
    possible: bool


class _FineTuned(msgspec.Struct):
    error: str = ""


@dataclass(frozen=True)
class Sources:
    """Makes each float graph when it is first asked for: a stage each.

    Attributes:
        reference: the FP32 ONNX file.
        rendered: an .npy file of calibration images.
        fine_tune: writes the fine-tuned network's FP32 ONNX file; None where it is not wanted.
    """

    workspace: Workspace
    reference: Path
    rendered: Path
    preprocessing: Preprocessing
    fine_tune: Tuner | None = None

    def plain(self) -> tuple[Source, Ranges]:
        """The network as it is, calibrated."""

        def action(folder: Path) -> _Gathered:
            prepare(self.reference, folder / _PREPARED)
            return self._gather(folder)

        folder, _ = self.workspace.stage("ranges", "Gathering ranges", _Gathered, action)
        return _source(folder), read_ranges(folder / _RANGES)

    def source(self, plan: Plan) -> Source | None:
        """What a plan is carried out on; None where the network has nothing to equalize."""
        source = self._fine_tuned() if plan.fine_tuned else self.plain()[0]
        if not plan.equalized:
            return source
        name = "equalized-fine-tuned" if plan.fine_tuned else "equalized"

        def action(folder: Path) -> _Equalized:
            model = equalize(onnx.load(source.prepared), read_ranges(source.ranges))
            if model is None:
                return _Equalized(False)
            onnx.save(model, folder / _PREPARED)
            self._gather(folder)
            return _Equalized(True)

        folder, found = self.workspace.stage(name, "  equalizing channels", _Equalized, action)
        return _source(folder) if found.possible else None

    def origin(self, plan: Plan) -> tuple[Path, Path | None]:
        """The network's FP32 file that a plan is carried out on, and its graph with the channels scaled, if they are.

        Raises:
            MedcompressError: the network cannot be fine-tuned.
        """
        reference = self._fine_tuned().prepared.with_name(_TUNED) if plan.fine_tuned else self.reference
        source = self.source(plan) if plan.equalized else None
        return reference, source.prepared if source else None

    def _fine_tuned(self) -> Source:
        tune = self.fine_tune
        if tune is None:
            raise MedcompressError("fine-tuning was not asked for")

        def action(folder: Path) -> _FineTuned:
            tuned = folder / _TUNED
            try:
                tune(tuned)
                prepare(tuned, folder / _PREPARED)
                self._gather(folder)
            except Exception as error:  # torch raises what it likes; it is not trained again for every form
                if is_full_disk(error):
                    raise
                return _FineTuned(first_line(error))
            return _FineTuned()

        folder, found = self.workspace.stage("fine-tuned", "  fine-tuning", _FineTuned, action)
        if found.error:
            raise MedcompressError(found.error)
        return _source(folder)

    def _gather(self, folder: Path) -> _Gathered:
        pixels = np.load(self.rendered, mmap_mode="r", allow_pickle=False)
        images = [self.preprocessing.normalize(np.asarray(each)) for each in pixels]
        found = gather(folder / _PREPARED, images, threads=this_cpu().cores)
        write_ranges(folder / _RANGES, found)
        return _Gathered(found.images, found.growth)


def _source(folder: Path) -> Source:
    return Source(folder / _PREPARED, folder / _RANGES)
