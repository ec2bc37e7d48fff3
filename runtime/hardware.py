"""What this machine's CPU can do, as far as a variant's accuracy and speed depend on it."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec


class _Names(NamedTuple):
    """What others call a feature; any one of these is enough.

    Attributes:
        kernel: Linux, in /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c).
        numpy: its own detection, https://numpy.org/doc/stable/reference/simd/build-options.html
        apple: sysctl, https://developer.apple.com/documentation/kernel/1387446-sysctlbyname
        windows: IsProcessorFeaturePresent's numbers of ARM features, winnt.h.
    """

    kernel: frozenset[str]
    numpy: frozenset[str] = frozenset()
    apple: str = ""
    windows: int | None = None


_FEATURES = {
    "avx2": _Names(frozenset({"avx2"}), frozenset({"AVX2"})),
    "avx512": _Names(frozenset({"avx512f"}), frozenset({"AVX512F"})),
    "vnni": _Names(frozenset({"avx512_vnni", "avx_vnni", "amx_int8"}), frozenset({"AVX512VNNI", "AVX512_ICL"})),
    "bf16": _Names(
        frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
        frozenset({"AVX512BF16", "AVX512_SPR"}),
        "hw.optional.arm.FEAT_BF16",
        68,
    ),
    "amx": _Names(frozenset({"amx_int8"})),
    "dotprod": _Names(frozenset({"asimddp"}), frozenset({"ASIMDDP"}), "hw.optional.arm.FEAT_DotProd", 43),
    "i8mm": _Names(frozenset({"i8mm"}), apple="hw.optional.arm.FEAT_I8MM", windows=66),
    "fp16": _Names(
        frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
        frozenset({"AVX512FP16", "AVX512_SPR", "ASIMDHP"}),
        "hw.optional.arm.FEAT_FP16",
        67,
    ),
}


class Cpu(msgspec.Struct, frozen=True):
    """The CPU as a variant's contract sees it.

    Attributes:
        model: the maker's name for it.
        architecture: ``x86_64`` or ``arm64``.
        features: those it has, of avx2, avx512; vnni: sums of 8-bit products in 32 bits (512 bits at a time together
            with avx512, else 256); amx: the same by tiles; dotprod, i8mm: their like on ARM; bf16, fp16: arithmetic in
            16-bit floats.
        cores: that this process may use.
    """

    model: str
    architecture: str
    features: tuple[str, ...]
    cores: int

    @property
    def kind(self) -> str:
        """The class a figure is quoted for: x86-amx, x86-vnni, x86-avx2, arm-i8mm, arm-dotprod, or the architecture."""
        x86 = self.architecture == "x86_64"
        family, plain = ("x86", "x86") if x86 else ("arm", self.architecture)
        classes = ("amx", "vnni", "avx2") if x86 else ("i8mm", "dotprod")
        return next((f"{family}-{name}" for name in classes if name in self.features), plain)

    def lacks(self, required: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``required`` (features, or an architecture) this CPU does not have."""
        have = {*self.features, self.architecture}
        return tuple(name for name in required if name not in have)


@lru_cache(maxsize=1)
def this_cpu() -> Cpu:
    """Read the CPU of this machine.

    Linux tells every flag. Elsewhere numpy's own detection and the system are asked; neither knows AVX-VNNI, so there
    ONNX Runtime is tried: on x86 it adds 8-bit products exactly only with VNNI.
    """
    machine = platform.machine().lower()
    architecture = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)
    cpuinfo = _cpuinfo()
    if cpuinfo:
        flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
        features = tuple(name for name, names in _FEATURES.items() if flags & names.kernel)
    else:
        features = _features_without_flags(architecture)
    model = cpuinfo.get("model name") or _arm_part(cpuinfo) or platform.processor() or machine
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(model.strip(), architecture, features, cores)


def _features_without_flags(architecture: str) -> tuple[str, ...]:
    known = _numpy_features()
    found = {name for name, names in _FEATURES.items() if known & names.numpy or _system_has(names)}
    if architecture == "x86_64" and "avx2" in found and "vnni" not in found and _adds_exactly():
        found.add("vnni")
    return tuple(name for name in _FEATURES if name in found)


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _arm_part(cpuinfo: dict[str, str]) -> str:
    """Linux names no model on ARM, only its maker's and its part's number."""
    maker, part = cpuinfo.get("CPU implementer"), cpuinfo.get("CPU part")
    return f"ARM, implementer {maker}, part {part}" if maker and part else ""


def _numpy_features() -> set[str]:
    try:
        from numpy._core._multiarray_umath import __cpu_features__  # pyright: ignore
    except ImportError:
        return set()
    return {name for name, has in __cpu_features__.items() if has}


def _system_has(names: _Names) -> bool:
    """What macOS and Windows say of an ARM CPU."""
    import ctypes

    if sys.platform == "darwin" and names.apple:
        value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
        libc = ctypes.CDLL(None)
        failed = libc.sysctlbyname(names.apple.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
        return not failed and value.value != 0
    if sys.platform == "win32" and names.windows is not None:
        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(names.windows))
    return False


def _adds_exactly() -> bool:
    try:
        from .saturating import adds_exactly

        return adds_exactly()
    except ImportError:
        return False
