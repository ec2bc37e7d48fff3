from __future__ import annotations

import pytest

from medcompress.runtime import hardware
from medcompress.runtime.hardware import Cpu


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch):
    hardware.this_cpu.cache_clear()
    yield
    monkeypatch.undo()
    hardware.this_cpu.cache_clear()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("fpu avx2 avx512f avx512_vnni avx512_bf16", "x86-vnni"),
        ("fpu avx2 avx_vnni", "x86-vnni"),
        ("fpu avx2 avx512f", "x86-avx2"),
        ("fpu sse4_2", "x86"),
    ],
)
def test_the_kind_follows_the_kernels_flags(flags: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: {"flags": flags, "model name": "A CPU"})
    monkeypatch.setattr(hardware.platform, "machine", lambda: "AMD64")
    cpu = hardware.this_cpu()
    assert (cpu.kind, cpu.model) == (kind, "A CPU")
    assert cpu.cores >= 1


def test_arm_is_told_by_its_dot_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: {"Features": "fp asimd asimddp"})
    monkeypatch.setattr(hardware.platform, "machine", lambda: "aarch64")
    assert hardware.this_cpu().kind == "arm-dotprod"


def test_without_the_kernels_word_numpy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", dict)
    monkeypatch.setattr(hardware, "_numpy_features", lambda: {"AVX2", "AVX512F", "AVX512_ICL"})
    assert {"avx2", "avx512", "vnni"} == set(hardware.this_cpu().features)


def test_what_is_lacking_is_named() -> None:
    cpu = Cpu("A CPU", "x86_64", ("avx2",), 2)
    assert cpu.lacks(("avx2", "vnni", "bf16")) == ("vnni", "bf16")
    assert cpu.lacks(("x86_64",)) == ()
    assert cpu.lacks(("arm64",)) == ("arm64",)
