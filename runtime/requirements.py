"""What a variant needs of a machine, and what this one lacks of it: CPU features, an NVIDIA GPU, Intel's GPU or NPU.

A device is looked for only where a variant asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from .hardware import Cpu

_INTEL = "0x8086"


def lacking(requires: Sequence[str], cpu: Cpu) -> str:
    """What this machine lacks of what a variant requires, in words that follow ``not run here:``; empty for nothing.

    Args:
        requires: names of CPU features, an architecture, or of :data:`DEVICES`.
        cpu: of this machine.
    """
    why = next((why for name in requires if name in DEVICES and (why := DEVICES[name]())), "")
    return why or _features(requires, cpu)


def refusal(requires: Sequence[str], cpu: Cpu) -> str:
    """The same for an error, which says what CPU this is too."""
    why, features = lacking(requires, cpu), _features(requires, cpu)
    return f"{why}, this one is {cpu.kind}" if why and why == features else why


def devices_of(requires: Sequence[str]) -> tuple[str, ...]:
    """Those of :data:`DEVICES` among what a variant requires: without any it runs on the CPU."""
    return tuple(name for name in requires if name in DEVICES)


def _features(requires: Sequence[str], cpu: Cpu) -> str:
    lacks = cpu.lacks(tuple(name for name in requires if name not in DEVICES))
    return f"needs a CPU with {', '.join(lacks)}" if lacks else ""


def _why_no_nvidia() -> str:
    from .gpu import why_no_gpu  # costs a start-up nothing where no variant asks

    return why_no_gpu()


def _why_no_intel_gpu() -> str:
    """Linux shows its render nodes (https://docs.kernel.org/gpu/drm-uapi.html#render-nodes): most machines have none of
    Intel's, and are asked no further."""
    if sys.platform == "linux":
        vendors = [_text(path) for path in Path("/sys/class/drm").glob("renderD*/device/vendor")]
        if _INTEL not in vendors:
            return "no Intel GPU"
    return _why_not_seen("GPU", "an Intel GPU that OpenVINO does not see; install intel-opencl-icd")


def _why_no_npu() -> str:
    """Linux shows its accelerators (https://docs.kernel.org/accel/introduction.html)."""
    if sys.platform == "linux":
        vendors = [_text(path) for path in Path("/sys/class/accel").glob("accel*/device/vendor")]
        if _INTEL not in vendors:
            return "no Intel NPU"
    return _why_not_seen("NPU", "an Intel NPU that OpenVINO does not see; install its driver")


# What a variant may require beside a CPU's features -> why this machine has none of it, empty where it has.
DEVICES: dict[str, Callable[[], str]] = {
    "nvidia": _why_no_nvidia,
    "intel-gpu": _why_no_intel_gpu,
    "npu": _why_no_npu,
}


def _why_not_seen(device: str, why: str) -> str:
    try:
        seen = _openvino_devices()
    except ImportError:
        return "openvino is not installed; install it with: pip install 'medcompress[openvino]'"
    return "" if any(name.partition(".")[0] == device for name in seen) else why


@lru_cache(maxsize=1)
def _openvino_devices() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().available_devices)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
