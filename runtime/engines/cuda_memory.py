"""Memory, streams, events and CUDA graphs of the GPU: what TensorRT leaves to whoever executes a plan.

By PyCUDA (https://documen.tician.de/pycuda/driver.html) where it is installed, else by cuda-python
(https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/driver.html): both speak CUDA's driver API. PyCUDA
(2026.1) knows no CUDA graphs; these are then asked of the driver itself.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import EngineAbsent, EngineError, first_line

pycuda: Any
bindings: Any
try:
    import pycuda.driver as pycuda  # pyright: ignore[reportMissingImports]
except ImportError:  # not installed, or there is no driver
    pycuda = None
try:
    from cuda.bindings import driver as bindings  # pyright: ignore
except ImportError:
    bindings = None

# CUDA's: a stream that does not wait for the default one; a capture during which other threads may allocate.
_NON_BLOCKING, _THREAD_LOCAL = 1, 1
_OUT_OF_MEMORY, _NOT_READY = 2, 600
# So long the GPU is asked without a pause whether it is done, as most inferences are.
_SPIN_S, _NAP_S = 0.002, 0.0002


class GpuTimeout(EngineError):
    """The GPU did not finish in time: what it was given may be in its use for ever."""


class Buffer(NamedTuple):
    """Memory of the GPU, and as much of this machine's that the GPU reads by itself (pinned).

    Attributes:
        host: the pinned memory, bytes, (size,).
        pinned, device: the same as the library knows them; ``int(device)`` is the GPU's address.
    """

    host: npt.NDArray[np.uint8]
    pinned: Any
    device: Any


class Cuda:
    """The first GPU CUDA shows this process, by cuda-python.

    All below happens inside ``with cuda.current():``, and raises an EngineError where the GPU fails. Streams, events
    and graphs are the library's own.

    Attributes:
        name: of the library, and its version.
    """

    def __init__(self) -> None:
        self.name = f"cuda-bindings {version('cuda-bindings')}"
        _ask("cuInit", 0)
        self._context = _ask("cuDevicePrimaryCtxRetain", _ask("cuDeviceGet", 0))

    @contextmanager
    def current(self) -> Iterator[None]:
        """The GPU's primary context, the one TensorRT uses too, is this thread's inside the block."""
        self._push()
        try:
            yield
        finally:
            self._pop()

    def memory(self) -> tuple[int, int]:
        """Bytes of the GPU's memory that are free, and in all."""
        return _ask("cuMemGetInfo")

    def buffer(self, size: int) -> Buffer:
        """So many bytes on either side."""
        host, pinned = self._pin(size)
        try:
            return Buffer(host, pinned, self._allocate(size))
        except EngineError:
            self._unpin(pinned)
            raise

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back; nothing may use it any more."""
        _ask("cuMemFree", buffer.device)
        self._unpin(buffer.pinned)

    def upload(self, buffer: Buffer, size: int, stream: Any) -> None:
        """Have the first ``size`` bytes copied to the GPU."""
        _ask("cuMemcpyHtoDAsync", buffer.device, buffer.pinned, size, stream)

    def download(self, buffer: Buffer, size: int, stream: Any) -> None:
        """Have the first ``size`` bytes copied from the GPU."""
        _ask("cuMemcpyDtoHAsync", buffer.pinned, buffer.device, size, stream)

    def stream(self) -> Any:
        """Work the GPU does in the order it is given."""
        return _ask("cuStreamCreate", _NON_BLOCKING)

    def handle(self, stream: Any) -> int:
        """A stream as TensorRT takes it."""
        return int(stream)

    def free_stream(self, stream: Any) -> None:
        """Give a stream back."""
        _ask("cuStreamDestroy", stream)

    def event(self) -> Any:
        """A moment of a stream, to be recorded again and again."""
        return _ask("cuEventCreate", 0)

    def record(self, event: Any, stream: Any) -> None:
        """Put an event where the stream is now."""
        _ask("cuEventRecord", event, stream)

    def reached(self, event: Any) -> bool:
        """Whether the GPU has come to an event."""
        (code,) = bindings.cuEventQuery(event)
        if int(code) not in {0, _NOT_READY}:
            raise _failure("cuEventQuery", int(code), _name(code))
        return int(code) == 0

    def ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events that were reached, by the GPU's clock."""
        return float(_ask("cuEventElapsedTime", start, end))

    def free_event(self, event: Any) -> None:
        """Give an event back."""
        _ask("cuEventDestroy", event)

    def wait(self, event: Any, limit_s: float) -> None:
        """Until the GPU has come to an event. It is asked, never waited for, so that a lost one holds up nobody.

        Raises:
            GpuTimeout: it did not within so many seconds.
        """
        start = time.monotonic()
        while not self.reached(event):
            waited = time.monotonic() - start
            if waited > limit_s:
                raise GpuTimeout(f"the GPU gave no answer in {limit_s:g} s; look at nvidia-smi, or restart the machine")
            time.sleep(0 if waited < _SPIN_S else _NAP_S)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """What ``work`` gives to the stream, taken down as a graph and not done.

        Raises:
            EngineError: some of it cannot be captured, or ``work`` raised it.
        """
        self._begin_capture(stream)
        try:
            work()
        except BaseException:
            with suppress(EngineError):  # until the capture ends the stream is of no use
                self._end_capture(stream)
            raise
        return self._end_capture(stream)

    def launch(self, graph: Any, stream: Any) -> None:
        """Give the GPU all that a graph holds."""
        _ask("cuGraphLaunch", graph, stream)

    def free_graph(self, graph: Any) -> None:
        """Give a graph back; it does not run any more."""
        _ask("cuGraphExecDestroy", graph)

    def _push(self) -> None:
        _ask("cuCtxPushCurrent", self._context)

    def _pop(self) -> None:
        _ask("cuCtxPopCurrent")

    def _pin(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        pinned = _ask("cuMemHostAlloc", size, 0)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(pinned))), pinned

    def _unpin(self, pinned: Any) -> None:
        _ask("cuMemFreeHost", pinned)

    def _allocate(self, size: int) -> Any:
        return _ask("cuMemAlloc", size)

    def _begin_capture(self, stream: Any) -> None:
        _ask("cuStreamBeginCapture", stream, bindings.CUstreamCaptureMode(_THREAD_LOCAL))

    def _end_capture(self, stream: Any) -> Any:
        graph = _ask("cuStreamEndCapture", stream)
        try:
            return _ask("cuGraphInstantiate", graph, 0)
        finally:
            _ask("cuGraphDestroy", graph)


class PyCuda(Cuda):
    """The same by PyCUDA. Its streams and events go when nothing refers to them."""

    def __init__(self) -> None:
        self.name = f"pycuda {version('pycuda')}"
        self._driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        with _told():
            pycuda.init()
            self._context = pycuda.Device(0).retain_primary_context()
        # Its destructor would take it for a context of its own, and complain.
        atexit.register(self._context.detach)

    def memory(self) -> tuple[int, int]:
        with _told():
            return pycuda.mem_get_info()

    def free(self, buffer: Buffer) -> None:
        with _told():
            buffer.device.free()
        self._unpin(buffer.pinned)

    def upload(self, buffer: Buffer, size: int, stream: Any) -> None:
        with _told():
            pycuda.memcpy_htod_async(buffer.device, buffer.host[:size], stream)

    def download(self, buffer: Buffer, size: int, stream: Any) -> None:
        with _told():
            pycuda.memcpy_dtoh_async(buffer.host[:size], buffer.device, stream)

    def stream(self) -> Any:
        with _told():
            return pycuda.Stream(_NON_BLOCKING)

    def handle(self, stream: Any) -> int:
        return stream.handle

    def free_stream(self, stream: Any) -> None:
        pass

    def event(self) -> Any:
        with _told():
            return pycuda.Event()

    def record(self, event: Any, stream: Any) -> None:
        with _told():
            event.record(stream)

    def reached(self, event: Any) -> bool:
        with _told():
            return event.query()

    def ms(self, start: Any, end: Any) -> float:
        with _told():
            return start.time_till(end)

    def free_event(self, event: Any) -> None:
        pass

    def launch(self, graph: Any, stream: Any) -> None:
        self._call("cuGraphLaunch", graph, ctypes.c_void_p(stream.handle))

    def free_graph(self, graph: Any) -> None:
        self._call("cuGraphExecDestroy", graph)

    def _push(self) -> None:
        with _told():
            self._context.push()

    def _pop(self) -> None:
        with _told():
            self._context.pop()

    def _pin(self, size: int) -> tuple[npt.NDArray[np.uint8], Any]:
        with _told():
            host = pycuda.pagelocked_empty(size, np.uint8)
        return host, host.base

    def _unpin(self, pinned: Any) -> None:
        with _told():
            pinned.free()

    def _allocate(self, size: int) -> Any:
        with _told():
            return pycuda.mem_alloc(size)

    def _begin_capture(self, stream: Any) -> None:
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream.handle), _THREAD_LOCAL)

    def _end_capture(self, stream: Any) -> Any:
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream.handle), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return ready

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._driver, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(code, ctypes.byref(text))
            raise _failure(function, code, (text.value or b"").decode())


@lru_cache(maxsize=1)
def cuda() -> Cuda:
    """The GPU, by whichever library is installed.

    Raises:
        EngineAbsent: none is.
        EngineError: the GPU cannot be used.
    """
    if pycuda is not None:
        return PyCuda()
    if bindings is not None:
        return Cuda()
    raise EngineAbsent("neither cuda-python nor pycuda is installed; pip install 'medcompress[tensorrt]'")


def _ask(function: str, *arguments: Any) -> Any:
    """What a function of cuda-python gives."""
    try:
        code, *found = getattr(bindings, function)(*arguments)
    except (RuntimeError, AttributeError) as error:  # the driver is not there, or too old to have it
        raise EngineError(f"the NVIDIA driver cannot be asked for {function} ({first_line(error)})") from error
    if int(code):
        raise _failure(function, int(code), _name(code))
    return tuple(found) if len(found) > 1 else found[0] if found else None


def _name(code: Any) -> str:
    return str(getattr(code, "name", ""))


@contextmanager
def _told() -> Iterator[None]:
    """PyCUDA's errors as ours."""
    try:
        yield
    except pycuda.MemoryError as error:
        raise _failure("pycuda", _OUT_OF_MEMORY, first_line(error)) from error
    except pycuda.Error as error:
        raise EngineError(f"the GPU failed ({first_line(error)}); look at nvidia-smi and dmesg") from error


def _failure(function: str, code: int, name: str) -> EngineError:
    if code == _OUT_OF_MEMORY:
        return EngineError(f"not enough memory of the GPU is free ({name}); end what uses it: see nvidia-smi")
    return EngineError(f"the GPU failed ({function}: {name or code}); look at nvidia-smi and dmesg")
