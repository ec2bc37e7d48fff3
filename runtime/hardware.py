"""What this machine's CPU can do, as far as a variant's accuracy and speed depend on it."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

import msgspec

# Names of our own -> the kernel's flags (/proc/cpuinfo) and numpy's, where any one of them is enough.
# https://docs.kernel.org/arch/x86/cpuinfo.html and numpy's list of CPU features.
_FEATURES = {
    "avx2": ({"avx2"}, {"AVX2"}),
    "avx512": ({"avx512f"}, {"AVX512F"}),
    "vnni": ({"avx512_vnni", "avx_vnni", "amx_int8"}, {"AVX512VNNI", "AVX512_ICL"}),
    "bf16": ({"avx512_bf16", "amx_bf16"}, {"AVX512BF16", "AVX512_SPR"}),
    "amx": ({"amx_int8"}, set()),
    "dotprod": ({"asimddp"}, {"ASIMDDP"}),
}


class Cpu(msgspec.Struct, frozen=True):
    """The CPU as a variant's contract sees it.

    Attributes:
        model: the maker's name for it.
        architecture: ``x86_64`` or ``arm64``.
        features: of avx2, avx512, vnni, bf16, amx, dotprod: those it has.
        cores: that this process may use.
    """

    model: str
    architecture: str
    features: tuple[str, ...]
    cores: int

    @property
    def kind(self) -> str:
        """The class a figure is quoted for: x86-vnni, x86-avx2, arm-dotprod, or the architecture alone."""
        if self.architecture == "x86_64":
            return next((f"x86-{name}" for name in ("vnni", "avx2") if name in self.features), "x86")
        return "arm-dotprod" if "dotprod" in self.features else self.architecture

    def lacks(self, required: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``required`` (features, or an architecture) this CPU does not have."""
        have = {*self.features, self.architecture}
        return tuple(name for name in required if name not in have)


@lru_cache(maxsize=1)
def this_cpu() -> Cpu:
    """Read the CPU of this machine.

    Linux tells every flag. Elsewhere numpy's own detection is asked, which does not know AVX-VNNI: such a CPU
    counts as one without VNNI, which costs speed and never accuracy.
    """
    machine = platform.machine().lower()
    architecture = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)
    cpuinfo = _cpuinfo()
    if cpuinfo:
        flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
        features = tuple(name for name, (kernel, _) in _FEATURES.items() if flags & kernel)
    else:
        known = _numpy_features()
        features = tuple(name for name, (_, numpy) in _FEATURES.items() if known & numpy)
    model = cpuinfo.get("model name") or platform.processor() or machine
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(model.strip(), architecture, features, cores)


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _numpy_features() -> set[str]:
    try:
        from numpy._core._multiarray_umath import __cpu_features__  # pyright: ignore
    except ImportError:
        return set()
    return {name for name, has in __cpu_features__.items() if has}
