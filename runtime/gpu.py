"""Which NVIDIA GPU this machine has, asked of its driver alone: no package is needed for it.

The CUDA driver API (https://docs.nvidia.com/cuda/cuda-driver-api/) tells what this process may use. Where there is no
driver this costs one failed look-up of a library; with one, its start, a fraction of a second, once a process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from functools import lru_cache
from typing import Any

import msgspec

from . import nvml

# What every engine of today needs at the least; each says itself where it needs more.
_LEAST_CUDA, _LEAST_DRIVER = (12, 0), 525
# A driver whose GPU has fallen off the bus does not return from its start.
_LIMIT_S = 30.0
_NO_DEVICE, _STUB, _MISMATCH = 100, 34, 803
# CUdevice_attribute of cuda.h.
_MAJOR, _MINOR = 75, 76


class Gpu(msgspec.Struct, frozen=True):
    """The GPU that is used: the first of those CUDA shows this process.

    Attributes:
        name: the maker's.
        capability: compute capability, ``9.0``.
        driver: its version, ``580.65.06``; empty where NVML does not tell.
        cuda: the newest CUDA the driver runs, ``13.0``.
        memory_bytes: in all.
        count: how many CUDA shows this process; one is used.
        pci: its bus id, by which NVML knows it; empty where it is not told.
    """

    name: str
    capability: str
    driver: str
    cuda: str
    memory_bytes: int
    count: int = 1
    pci: str = ""

    @property
    def words(self) -> str:
        """For a table or report: name, memory, driver."""
        driver = f", driver {self.driver}" if self.driver else ""
        others = f", the first of {self.count}" if self.count > 1 else ""
        return f"{self.name}, {self.memory_bytes / 2**30:.0f} GiB{driver}{others}"


class _NoGpu(Exception):
    """Why there is none, in words that follow ``not run here:``."""


def this_gpu() -> Gpu | None:
    """The NVIDIA GPU of this machine, or None: :func:`why_no_gpu` then says why. Asked of the driver once."""
    return _probed()[0]


def why_no_gpu() -> str:
    """Why no NVIDIA GPU can be used here: ``no NVIDIA driver``, or what is wrong with it; empty where one can."""
    return _probed()[1]


@lru_cache(maxsize=1)
def _probed() -> tuple[Gpu | None, str]:
    library = _driver()
    if library is None:
        return None, "no NVIDIA driver"
    found: list[tuple[Gpu | None, str]] = []

    def ask() -> None:
        try:
            found.append((_ask(library), ""))
        except _NoGpu as error:
            found.append((None, str(error)))
        except (AttributeError, OSError) as error:  # not a driver's library, or one too old to have a function
            found.append((None, f"the NVIDIA driver is not one that is known ({error})"))

    thread = threading.Thread(target=ask, daemon=True, name="gpu")
    thread.start()
    thread.join(_LIMIT_S)
    if not found:
        return None, f"the NVIDIA driver gave no answer in {_LIMIT_S:.0f} s; look at nvidia-smi, or restart the machine"
    return found[0]


def _driver() -> Any | None:
    """The driver's library, None where there is no driver."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _ask(cuda: Any) -> Gpu:
    """What the driver says of the first GPU.

    Raises:
        _NoGpu: there is none this process can use.
    """
    code = cuda.cuInit(0)
    if code:
        raise _NoGpu(_why_not(cuda, code))
    version, count, device, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    _check(cuda, cuda.cuDriverGetVersion(ctypes.byref(version)))
    newest = version.value // 1000, version.value % 1000 // 10
    if newest < _LEAST_CUDA:
        raise _NoGpu(_too_old(newest))
    _check(cuda, cuda.cuDeviceGetCount(ctypes.byref(count)))
    if not count.value:
        raise _NoGpu(_hidden() or "no NVIDIA GPU")
    _check(cuda, cuda.cuDeviceGet(ctypes.byref(device), 0))
    name, pci = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
    _check(cuda, cuda.cuDeviceGetName(name, len(name), device))
    cuda.cuDeviceGetPCIBusId(pci, len(pci), device)  # what fails here only leaves it empty
    _check(cuda, cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    parts = []
    for attribute in (_MAJOR, _MINOR):
        part = ctypes.c_int()
        _check(cuda, cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, device))
        parts.append(part.value)
    return Gpu(
        name.value.decode(errors="replace"),
        f"{parts[0]}.{parts[1]}",
        nvml.driver_version(),
        f"{newest[0]}.{newest[1]}",
        memory.value,
        count.value,
        pci.value.decode(errors="replace"),
    )


def _check(cuda: Any, code: int) -> None:
    if code:
        raise _NoGpu(f"the NVIDIA driver fails ({_named(cuda, code)}); look at nvidia-smi")


def _why_not(cuda: Any, code: int) -> str:
    """In words, why the driver does not start."""
    if code == _STUB:
        return "no NVIDIA driver"  # a library to link against, which runs nothing
    if code == _NO_DEVICE:
        return _hidden() or "an NVIDIA driver, and no GPU it can use"
    if code == _MISMATCH:
        return "the NVIDIA driver was updated and the old one still runs; restart the machine"
    return f"the NVIDIA driver does not start ({_named(cuda, code)}); look at nvidia-smi"


def _hidden() -> str:
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f"CUDA_VISIBLE_DEVICES hides it (it is '{shown}')"


def _too_old(newest: tuple[int, int]) -> str:
    version = nvml.driver_version()
    least = ".".join(map(str, _LEAST_CUDA))
    which = f"driver {version}" if version else "the NVIDIA driver"
    return (
        f"{which} is too old (for CUDA {newest[0]}.{newest[1]}); {_LEAST_DRIVER} or later is needed, for CUDA {least}"
    )


def _named(cuda: Any, code: int) -> str:
    text = ctypes.c_char_p()
    known = cuda.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value
    return f"error {code}{f', {text.value.decode()}' if known and text.value else ''}"
