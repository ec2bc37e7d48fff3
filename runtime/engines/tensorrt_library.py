"""TensorRT itself: is it here, does it fit this machine's driver, and what it says when it fails."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import EngineAbsent, EngineError, first_line
from ..gpu import Gpu, this_gpu, why_no_gpu

# Wheels are made for one major version of CUDA each, and named after it.
_CUDAS = range(12, 20)
_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "memory allocation")


def usable_gpu() -> Gpu:
    """The GPU, where TensorRT can use it.

    Raises:
        EngineAbsent: there is none.
        EngineError: its driver is too old for the TensorRT that is installed.
    """
    gpu = this_gpu()
    if gpu is None:
        raise EngineAbsent(f"{why_no_gpu()}, and TensorRT runs on nothing else than an NVIDIA GPU")
    needs = _made_for_cuda()
    if needs and int(gpu.cuda.partition(".")[0]) < needs:
        runs = f"driver {gpu.driver}" if gpu.driver else "the driver"
        raise EngineError(
            f"TensorRT {library().__version__} is made for CUDA {needs}, and {runs} here runs CUDA {gpu.cuda} at most; "
            f"update the driver, or: pip install tensorrt-cu{gpu.cuda.partition('.')[0]}"
        )
    return gpu


def library() -> Any:
    """The module ``tensorrt``.

    Raises:
        EngineAbsent: it is not installed, or does not load.
    """
    try:
        import tensorrt  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:
        raise EngineAbsent(
            f"tensorrt is not installed ({first_line(error)}); install it with: pip install 'medcompress[tensorrt]'"
        ) from error
    return tensorrt


@lru_cache(maxsize=1)
def logger() -> Any:
    """What TensorRT tells its errors: one for the whole process, as TensorRT wants it. ``said`` holds the last."""
    trt = library()

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said.append(" ".join(msg.split()))

    return Log()


def failure(what: str, memory: tuple[int, int] | None = None) -> EngineError:
    """The error for a call of TensorRT's that gave nothing, with what it said.

    Args:
        what: it could not do.
        memory: bytes of the GPU's that are free, and in all.
    """
    said = list(logger().said)
    logger().said.clear()
    if any(word in line.lower() for line in said for word in _MEMORY):
        free = f", {memory[0] / 2**20:.0f} of {memory[1] / 2**20:.0f} MiB are" if memory else ""
        return EngineError(f"TensorRT could not {what}: not enough memory of the GPU is free{free}; see nvidia-smi")
    why = said[0][:300] if said else "it does not say why"
    return EngineError(f"TensorRT could not {what} ({why})")


def created(make: Any, *arguments: Any) -> Any:
    """An object of TensorRT's.

    Raises:
        EngineError: it could not be made, which its bindings tell as a TypeError, or None.
    """
    logger().said.clear()
    try:
        found = make(*arguments)
    except (TypeError, RuntimeError) as error:
        raise failure("be started") from error
    if found is None:
        raise failure("be started")
    return found


def _made_for_cuda() -> int | None:
    """The CUDA the installed wheels are for; None where it was not installed by pip."""
    for major in _CUDAS:
        try:
            version(f"tensorrt-cu{major}-libs")
        except PackageNotFoundError:
            continue
        return major
    return None
