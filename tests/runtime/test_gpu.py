"""What is said of a GPU, by a driver that is a fake here: the words for every way there may be none."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from medcompress.runtime import gpu, nvml


class FakeCuda:
    """A libcuda of one kind of GPU, which fails in the way it is told to."""

    def __init__(self, *, init: int = 0, version: int = 13000, count: int = 1, hang: threading.Event | None = None):
        self._init, self._version, self._count, self._hang = init, version, count, hang

    def cuInit(self, flags: int) -> int:
        if self._hang:
            self._hang.wait(30)
        return self._init

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self._version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._count
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Fake GPU"
        return 0

    def cuDeviceGetPCIBusId(self, pci: Any, size: int, device: Any) -> int:
        pci.value = b"0000:01:00.0"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = 24 * 2**30
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_FAKE"
        return 0


class FakeNvml:
    """A libnvidia-ml that knows the fake GPU."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        text.value = b"580.65.06"
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, pci: bytes, handle: Any) -> int:
        return 0 if pci == b"0000:01:00.0" else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:
        energy._obj.value = 1234
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.used = 2**30
        return 0


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the driver said is asked anew in every test, and after the last."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu._probed.cache_clear()
    nvml._library.cache_clear()
    yield
    gpu._probed.cache_clear()
    nvml._library.cache_clear()


def load_instead(monkeypatch: pytest.MonkeyPatch, cuda: object, management: object | None = None) -> None:
    """Let the loader of libraries give these."""

    def load(name: str) -> object:
        found = cuda if "cuda" in name else management
        if found is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    load_instead(monkeypatch, None)
    assert gpu.this_gpu() is None
    assert gpu.why_no_gpu() == "no NVIDIA driver"
    assert nvml.driver_version() == ""
    assert nvml.energy_mj("0000:01:00.0") is None


def test_a_gpu_is_told_with_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    load_instead(monkeypatch, FakeCuda(count=2), FakeNvml())
    found = gpu.this_gpu()
    assert found == gpu.Gpu("Fake GPU", "8.6", "580.65.06", "13.0", 24 * 2**30, 2, "0000:01:00.0")
    assert found.words == "Fake GPU, 24 GiB, driver 580.65.06, the first of 2"
    assert gpu.why_no_gpu() == ""
    assert (nvml.energy_mj(found.pci), nvml.memory_used_bytes(found.pci)) == (1234, 2**30)
    assert nvml.energy_mj("0000:99:00.0") is None


@pytest.mark.parametrize(
    ("cuda", "shown", "why"),
    [
        (FakeCuda(init=100), None, "an NVIDIA driver, and no GPU it can use"),
        (FakeCuda(init=100), "", "CUDA_VISIBLE_DEVICES hides it (it is '')"),
        (FakeCuda(count=0), "-1", "CUDA_VISIBLE_DEVICES hides it (it is '-1')"),
        (FakeCuda(init=34), None, "no NVIDIA driver"),
        (FakeCuda(init=803), None, "restart the machine"),
        (FakeCuda(init=999), None, "does not start (error 999, CUDA_ERROR_FAKE)"),
        (FakeCuda(version=11000), None, "driver 580.65.06 is too old (for CUDA 11.0); 525 or later is needed"),
        (object(), None, "the NVIDIA driver is not one that is known"),
    ],
)
def test_why_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch, cuda: object, shown: str | None, why: str) -> None:
    load_instead(monkeypatch, cuda, FakeNvml())
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert gpu.this_gpu() is None
    assert why in gpu.why_no_gpu()


def test_a_driver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    load_instead(monkeypatch, FakeCuda(hang=released), FakeNvml())
    monkeypatch.setattr(gpu, "_LIMIT_S", 0.05)
    assert gpu.this_gpu() is None
    assert "gave no answer" in gpu.why_no_gpu()
    released.set()


def test_what_this_machine_has_is_told_one_way_or_the_other() -> None:
    assert (gpu.this_gpu() is None) == bool(gpu.why_no_gpu())
