"""What NVIDIA's management library tells of the driver and a GPU: version, energy, memory. No package is needed for it.

https://docs.nvidia.com/deploy/nvml-api/ : it is part of the driver, and absent on some (Jetson's knows little). All it
does not tell is None, or empty.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def driver_version() -> str:
    """Of the NVIDIA driver, ``580.65.06``; empty where it is not told."""
    library = _library()
    if library is None:
        return ""
    text = ctypes.create_string_buffer(96)
    if _asked(library, "nvmlSystemGetDriverVersion", text, ctypes.c_uint(len(text))):
        return text.value.decode(errors="replace")
    return ""


def energy_mj(pci: str) -> int | None:
    """Millijoules the whole GPU has taken since its driver was loaded (Volta and later), whoever used it.

    Args:
        pci: its bus id, see :class:`medcompress.runtime.gpu.Gpu`.
    """
    energy = ctypes.c_ulonglong()
    return energy.value if _of_device(pci, "nvmlDeviceGetTotalEnergyConsumption", ctypes.byref(energy)) else None


def memory_used_bytes(pci: str) -> int | None:
    """Of the GPU's memory, by all processes together: the difference of two readings is one's own on a quiet GPU."""
    memory = _Memory()
    return memory.used if _of_device(pci, "nvmlDeviceGetMemoryInfo", ctypes.byref(memory)) else None


def _of_device(pci: str, function: str, *arguments: Any) -> bool:
    """Ask of one GPU; whether it answered."""
    library, handle = _library(), ctypes.c_void_p()
    if library is None:
        return False
    found = _asked(library, "nvmlDeviceGetHandleByPciBusId_v2", pci.encode(), ctypes.byref(handle))
    return found and _asked(library, function, handle, *arguments)


def _asked(library: Any, function: str, *arguments: Any) -> bool:
    """Whether a function is there and succeeds."""
    try:
        return getattr(library, function)(*arguments) == 0
    except AttributeError:
        return False


@lru_cache(maxsize=1)
def _library() -> Any | None:
    """NVML, started; None where there is none."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    return library if _asked(library, "nvmlInit_v2") else None
