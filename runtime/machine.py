"""What this machine is, and what is installed on it, as far as answers and their speed depend on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path, PurePosixPath

import msgspec

from .engines import ENGINES, package_of
from .errors import MachineError
from .gpu import this_gpu, why_no_gpu
from .hardware import Cpu, this_cpu
from .state import state_folder

# What a kiosk may want beside the base install, and what for. Those that train or compress are none of its business.
EXTRAS = {
    "openvino": "OpenVINO's forms",
    "dicom": "DICOM files",
    "dicom-out": "DICOM results, and a node",
    "serve": "medcompress serve and its page",
    "sign": "signed bundles",
    "report": "benchmark --data, with a report",
}
_MIB = 1024 * 1024


class Extra(msgspec.Struct, frozen=True):
    """A set of optional packages; ``lacks`` names those that are not installed, of ``packages`` in all."""

    name: str
    purpose: str
    packages: int
    lacks: tuple[str, ...]


class State(msgspec.Struct, frozen=True):
    """The folder this machine's measurements are kept in: whether this user may write there, and the disk's room."""

    folder: str
    writable: bool
    free_mib: float


class Machine(msgspec.Struct, frozen=True):
    """This machine, now.

    Attributes:
        kind: of the CPU, the class figures are quoted for.
        system: the operating system and its kernel.
        memory_mib, available_mib: in all, and that new processes can have; None where the system does not tell.
        load: processes that ran or waited for a CPU, averaged over the last minute.
        quota: CPUs this process may use at most, where a control group (a container, systemd's CPUQuota) limits it.
        governor: of the CPU's frequency (Linux's cpufreq); empty where nothing governs it that this system sees.
        throttled: how often a core was slowed down by heat since the start.
        gpu: NVIDIA's, by name, memory and driver; or why there is none.
        engines: package of inference engines -> version; empty where it is not installed.
        formats: of image files: what decodes each.
        now: by this machine's clock.
        state: None where this user has no folder for it.
    """

    cpu: Cpu
    kind: str
    system: str
    python: str
    medcompress: str
    memory_mib: float | None
    available_mib: float | None
    load: float | None
    quota: float | None
    governor: str
    throttled: int
    gpu: str
    engines: dict[str, str]
    extras: tuple[Extra, ...]
    formats: dict[str, str]
    now: datetime
    state: State | None


def this_machine() -> Machine:
    """Look at the machine; nothing is measured, and nothing is written."""
    memory = _memory()
    cpu = this_cpu()
    return Machine(
        cpu=cpu,
        kind=cpu.kind,
        system=_system(),
        python=platform.python_version(),
        medcompress=_version("medcompress"),
        memory_mib=memory.get("MemTotal"),
        available_mib=memory.get("MemAvailable"),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        quota=_quota(),
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        throttled=_throttled(),
        gpu=gpu.words if (gpu := this_gpu()) else why_no_gpu(),
        engines={name: _engine_version(name) for name in dict.fromkeys(map(package_of, ENGINES))},
        extras=tuple(extra for name in EXTRAS if (extra := _extra(name)).packages),
        formats=_formats(),
        now=datetime.now(UTC),
        state=_state(),
    )


def _engine_version(engine: str) -> str:
    """By importing it: what is installed and cannot be loaded is of no use."""
    try:
        return str(__import__(engine).__version__).split("-")[0]
    except Exception:  # a library built for another CPU or system fails in its own way
        return ""


def _extra(name: str) -> Extra:
    """By what the installed medcompress says of itself (https://packaging.python.org/specifications/core-metadata/)."""
    try:
        required = requires("medcompress") or []
    except PackageNotFoundError:
        required = []
    mine = [line for line in required if re.search(rf"""extra\s*==\s*["']{name}["']""", line)]
    packages = {match[0] for line in mine if (match := re.match(r"[A-Za-z0-9._-]+", line))} - {"medcompress"}
    return Extra(name, EXTRAS[name], len(packages), tuple(sorted(p for p in packages if not _version(p))))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _formats() -> dict[str, str]:
    from PIL import __version__, features

    pillow = f"Pillow {__version__}"
    found = {"PNG": pillow, "BMP": pillow, "TIFF": pillow}
    if features.check("jpg"):
        turbo = features.version_feature("libjpeg_turbo")
        found["JPEG"] = f"{pillow}, libjpeg-turbo {turbo}" if turbo else pillow
    return found


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _state() -> State | None:
    try:
        folder = state_folder()
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return State(str(folder), os.access(there, os.W_OK), shutil.disk_usage(there).free / _MIB)
    except (OSError, MachineError, StopIteration):
        return None


def _memory() -> dict[str, float]:
    """Linux: /proc/meminfo, in MiB."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE)
    return {name: int(kib) / 1024 for name, kib in found}


def _quota() -> float | None:
    """Linux: of this process' control group (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files)."""
    lines = _text("/proc/self/cgroup").splitlines()
    group = PurePosixPath(next((line[3:] for line in lines if line.startswith("0::")), "/"))
    limits = []
    for part in (group, *group.parents):
        most, _, period = _text(f"/sys/fs/cgroup{part}/cpu.max").partition(" ")
        if most.isdecimal() and period.isdecimal():
            limits.append(int(most) / int(period))
    return min(limits, default=None)


def _throttled() -> int:
    """Linux on Intel: events of the cores' own thermal control."""
    folder = Path("/sys/devices/system/cpu")
    counts = [_text(str(path)) for path in folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return sum(int(count) for count in counts if count.isdecimal())


def _text(path: str) -> str:
    """A small file of the kernel's; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
