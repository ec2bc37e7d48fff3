"""TensorRT on an NVIDIA GPU. https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html

It runs the plan that ``medcompress build`` made of the variant's ONNX file on this machine, and makes none itself: that
takes minutes, and a kiosk that answers is not to stop for it. A batch lies in pinned memory, and its copies and all of
the engine's work are given to the GPU by one call, as a CUDA graph, from the third run of the same size on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..plans import Record, find
from .base import Executed
from .cuda_memory import Buffer, Cuda, GpuTimeout, cuda
from .tensorrt_builder import deserialized, key_here
from .tensorrt_library import failure, library, logger

# No classifier takes longer; a GPU that does is lost.
LIMIT_S = 20.0
# Inferences at a time, of each of the plan's profiles: while one computes the next is copied.
_LANES = 2

_Floats = npt.NDArray[np.float32]


class Parts(NamedTuple):
    """Milliseconds of one inference, by the GPU's clock: ``whole`` is all three at once, as a CUDA graph where
    ``graph``."""

    upload: float
    engine: float
    download: float
    whole: float
    graph: bool


class TensorRtEngine:
    """A plan, and lanes that execute it: each runs one batch at a time, and as many threads at once as there are."""

    def __init__(self, engine: Any, record: Record, executed: Executed) -> None:
        self._engine, self._gpu = engine, cuda()
        self._profiles = record.key.profiles
        self._idle: list[list[_Lane]] = [[] for _ in self._profiles]
        self._places = [threading.BoundedSemaphore(_LANES) for _ in self._profiles]
        self._changing = threading.Lock()
        self._lost: GpuTimeout | None = None
        self._stuck: list[_Lane] = []
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
            lanes = [lane for idle in self._idle for lane in idle]
            self._idle = [[] for _ in self._profiles]
            self._engine = None
        if not self._lost:
            _free(self._gpu, lanes)

    def _run(self, batch: _Floats) -> list[_Floats]:
        with self._lane(len(batch)) as lane:
            return lane.run(batch)

    @contextmanager
    def _lane(self, count: int) -> Iterator[_Lane]:
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
                    self._stuck.append(lane)  # not even to be forgotten: that would free what the GPU may write to
                    raise
                except BaseException:
                    _free(self._gpu, [lane])
                    raise
                with self._changing:
                    closed = self._engine is None
                    if not closed:
                        self._idle[place].append(lane)
                if closed:
                    lane.free()
        finally:
            self._places[place].release()

    def _take(self, place: int) -> _Lane:
        with self._changing:
            if self._lost:
                raise self._lost
            if self._engine is None:
                raise EngineError("the TensorRT engine was closed")
            return self._idle[place].pop() if self._idle[place] else _Lane(self._engine, place, self._gpu)


class _Lane:
    """An execution context with its stream, memory and graph. All inside ``cuda.current()``, one thread at a time."""

    def __init__(self, engine: Any, place: int, gpu: Cuda) -> None:
        self._gpu, self._stream = gpu, gpu.stream()
        self._events: list[Any] = []
        self._buffers: dict[str, Buffer] = {}
        self._context: Any = None
        self._graph: Any = None
        # How many images it is set up for; whether it ran so; whether its work can be taken down as a graph.
        self._count, self._ran, self._captures = 0, False, True
        try:
            self._prepare(engine, place)
        except BaseException:
            self.free()
            raise

    def _prepare(self, engine: Any, place: int) -> None:
        trt, gpu = library(), self._gpu
        self._events = [gpu.event() for _ in range(4)]
        logger().said.clear()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise failure("prepare an inference", gpu.memory())
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        (self._input,), self._outputs = inputs, [name for name in names if name not in inputs]
        self._types = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        handle = gpu.handle(self._stream)
        most = tuple(engine.get_tensor_profile_shape(self._input, place)[2])
        if not self._context.set_optimization_profile_async(place, handle) or not self._shape(most):
            raise failure("prepare an inference")
        self._shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in names}
        for name, shape in self._shapes.items():
            self._buffers[name] = gpu.buffer(int(np.prod(shape)) * self._types[name].itemsize)
            self._context.set_tensor_address(name, int(self._buffers[name].device))

    def run(self, batch: _Floats) -> list[_Floats]:
        """(N, ...) to each of the outputs."""
        self._fill(batch)
        if self._graph is not None:
            self._gpu.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._gpu.record(self._events[-1], self._stream)
        self._gpu.wait(self._events[-1], LIMIT_S)
        found = [np.array(self._view(name, len(batch)), np.float32) for name in self._outputs]
        if self._graph is None and self._captures and self._ran:
            self._capture()
        self._ran = True
        return found

    def parts(self, batch: _Floats) -> Parts:
        """The milliseconds of one inference; after :meth:`run` with as many images."""
        self._fill(batch)
        start, uploaded, computed, done = self._events
        self._gpu.record(start, self._stream)
        self._upload()
        self._gpu.record(uploaded, self._stream)
        self._execute()
        self._gpu.record(computed, self._stream)
        self._download()
        self._gpu.record(done, self._stream)
        self._gpu.wait(done, LIMIT_S)
        moments = (start, uploaded, computed, done)
        upload, engine, download = (self._gpu.ms(a, b) for a, b in pairwise(moments))
        self._gpu.record(start, self._stream)
        if self._graph is not None:
            self._gpu.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._gpu.record(done, self._stream)
        self._gpu.wait(done, LIMIT_S)
        return Parts(upload, engine, download, self._gpu.ms(start, done), self._graph is not None)

    def free(self) -> None:
        """Give everything back."""
        self._drop_graph()
        self._context = None
        for buffer in self._buffers.values():
            self._gpu.free(buffer)
        self._buffers = {}
        for event in self._events:
            self._gpu.free_event(event)
        self._events = []
        self._gpu.free_stream(self._stream)
        self._stream = None

    def _fill(self, batch: _Floats) -> None:
        """Put a batch where the GPU fetches it; where it is of another size than the last, set up for that."""
        if len(batch) != self._count:
            # A graph is of one shape, and its context of one graph: it is taken down again where that size comes back.
            self._drop_graph()
            self._ran = False
            self._count = 0
            if batch.shape[1:] != self._shapes[self._input][1:] or not self._shape(batch.shape):
                raise failure(f"take a batch of {batch.shape}")
            self._count = len(batch)
        self._view(self._input, self._count)[...] = batch

    def _view(self, name: str, count: int) -> np.ndarray:
        shape = (count, *self._shapes[name][1:])
        size = int(np.prod(shape)) * self._types[name].itemsize
        return self._buffers[name].host[:size].view(self._types[name]).reshape(shape)

    def _size(self, name: str) -> int:
        return self._view(name, self._count).nbytes

    def _shape(self, shape: tuple[int, ...]) -> bool:
        return self._context.set_input_shape(self._input, shape)

    def _enqueue(self) -> None:
        self._upload()
        self._execute()
        self._download()

    def _upload(self) -> None:
        self._gpu.upload(self._buffers[self._input], self._size(self._input), self._stream)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._gpu.handle(self._stream)):
            raise failure("run the model")

    def _download(self) -> None:
        for name in self._outputs:
            self._gpu.download(self._buffers[name], self._size(name), self._stream)

    def _capture(self) -> None:
        """Take the work down as a graph; a plan that cannot be goes on without."""
        try:
            self._graph = self._gpu.capture(self._stream, self._enqueue)
        except EngineError:
            self._captures = False

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._gpu.free_graph(self._graph)
        self._graph = None


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


def _free(gpu: Cuda, lanes: Sequence[_Lane]) -> None:
    """Free lanes whose GPU may have failed, in which case its memory is gone anyhow."""
    with suppress(EngineError), gpu.current():
        for lane in lanes:
            lane.free()
