"""TensorRT on an NVIDIA GPU. https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html

It runs the plan that ``medcompress build`` made of the variant's ONNX file on this machine, and makes none itself: that
takes minutes, and a kiosk that answers is not to stop for it. A batch lies in pinned memory, and its copies and all of
the engine's work are given to the GPU by one call, as a CUDA graph, from the third run of the same size on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..plans import Record, find
from .base import Executed
from .cuda_memory import GpuTimeout, cuda
from .tensorrt_builder import deserialized, key_here
from .tensorrt_lane import LIMIT_S, Lane, Parts

# Inferences at a time, of each of the plan's profiles: while one computes the next is copied.
_LANES = 2
# What a lost GPU may still use. It is never freed, nor even forgotten: to free memory of the GPU is to wait for it.
_LEFT: list[Any] = []

_Floats = npt.NDArray[np.float32]


class TensorRtEngine:
    """A plan, and lanes that execute it: each runs one batch at a time, and as many threads at once as there are."""

    def __init__(self, engine: Any, record: Record, executed: Executed) -> None:
        self._engine, self._gpu = engine, cuda()
        self._profiles = record.key.profiles
        self._idle: list[list[Lane]] = [[] for _ in self._profiles]
        self._places = [threading.BoundedSemaphore(_LANES) for _ in self._profiles]
        self._changing = threading.Lock()
        self._lost: GpuTimeout | None = None
        self.executed = executed

    def run(self, batch: _Floats) -> _Floats:
        """(N, C, H, W) to (N, classes)."""
        return self.run_all(batch)[0]

    def run_all(self, batch: _Floats) -> list[_Floats]:
        """(N, C, H, W) to (N, classes), and the tensors it was loaded with."""
        most = self._profiles[-1][2]
        parts = [self._run(batch[start : start + most]) for start in range(0, len(batch), most)]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def parts(self, batch: _Floats, runs: int) -> list[Parts]:
        """What each of some inferences is made of, of at most as many images as the plan takes at once; the first few,
        which warm up, are left out."""
        with self._lane(len(batch)) as lane:
            for _ in range(3):
                lane.run(batch)
            return [lane.parts(batch) for _ in range(runs)]

    def close(self) -> None:
        """Free the engine; what runs ends first. What a lost GPU may still use is left to the end of the process."""
        with self._changing:
            engine, lanes = self._engine, [lane for idle in self._idle for lane in idle]
            self._idle = [[] for _ in self._profiles]
            self._engine = None
        self._free(lanes)
        if self._lost:
            _LEFT.append(engine)

    def _run(self, batch: _Floats) -> list[_Floats]:
        with self._lane(len(batch)) as lane:
            return lane.run(batch)

    @contextmanager
    def _lane(self, count: int) -> Iterator[Lane]:
        """A lane for batches of this size; this thread's alone, and on the GPU, inside the block.

        Raises:
            EngineError: the GPU is lost, or none gets free in time.
        """
        place = next((at for at, (_, _, most) in enumerate(self._profiles) if count <= most), -1)
        if not self._places[place].acquire(timeout=LIMIT_S):
            raise self._lost or GpuTimeout(f"the GPU is busy with others' images for {LIMIT_S:g} s")
        try:
            with self._gpu.current():
                lane = self._take(place)
                try:
                    yield lane
                except GpuTimeout as error:
                    self._lost = error
                    self._free([lane])
                    raise
                except BaseException:
                    self._free([lane])
                    raise
                with self._changing:
                    closed = self._engine is None
                    if not closed:
                        self._idle[place].append(lane)
                if closed:
                    self._free([lane])
        finally:
            self._places[place].release()

    def _free(self, lanes: Sequence[Lane]) -> None:
        """Free lanes whose GPU may have failed: its memory is gone then. Those of a lost one are left."""
        if self._lost:
            _LEFT.extend(lanes)
            return
        with suppress(EngineError), self._gpu.current():
            for lane in lanes:
                lane.free()

    def _take(self, place: int) -> Lane:
        with self._changing:
            if self._lost:
                raise self._lost
            if self._engine is None:
                raise EngineError("the TensorRT engine was closed")
            return self._idle[place].pop() if self._idle[place] else Lane(self._engine, place, self._gpu)


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> TensorRtEngine:
    """Load the plan that was built of an ONNX file on this machine.

    Raises:
        EngineAbsent: there is no GPU, or no TensorRT.
        EngineError: there is no plan of it that was built just here (run ``medcompress build``), or it does not load.
    """
    key = key_here(files[0], precision, tuple(tensors))
    record, plan = find(key)
    gpu = cuda()
    with gpu.current():
        engine = deserialized(plan, version_compatible=record.version_compatible, memory=gpu.memory())
        executed = Executed(f"tensorrt {key.tensorrt}", key.gpu, record.precision, threads)
        loaded = TensorRtEngine(engine, record, executed)
        with loaded._lane(1):  # so that what lacks memory is known now
            return loaded
