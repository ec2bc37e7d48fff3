"""One place where batches are executed on the GPU: a context of TensorRT's, a stream, memory, and a CUDA graph.

https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/best-practices.html (CUDA graphs)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .cuda_memory import Buffer, Cuda
from .tensorrt_library import failure, library, logger

# No classifier takes longer; a GPU that does is lost.
LIMIT_S = 20.0

_Floats = npt.NDArray[np.float32]


class Parts(NamedTuple):
    """Milliseconds of one inference, by the GPU's clock: ``whole`` is all three at once, as a CUDA graph where
    ``graph``."""

    upload: float
    engine: float
    download: float
    whole: float
    graph: bool


class Lane:
    """An execution context with its stream, memory and graph. All inside ``cuda.current()``, one thread at a time.

    Args:
        engine: TensorRT's, of a plan.
        place: of the profile among the plan's: for batches of as many images as that takes.

    Raises:
        EngineError: not enough memory of the GPU is free, or it fails; of :meth:`run` and :meth:`parts` too.
    """

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
