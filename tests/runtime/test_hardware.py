from __future__ import annotations

import pytest

from medcompress.runtime import hardware
from medcompress.runtime.hardware import Cpu
from medcompress.runtime.records import from_json, to_json


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
        ("fpu avx2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16", "x86-amx"),
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


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("fp asimd", "arm64"),
        ("fp asimd asimdhp asimddp", "arm-dotprod"),
        ("fp asimd asimdhp asimddp i8mm bf16", "arm-i8mm"),
    ],
)
def test_arm_is_told_by_its_products(flags: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"Features": flags, "CPU implementer": "0x41", "CPU part": "0xd4f"}
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: info)
    monkeypatch.setattr(hardware.platform, "machine", lambda: "aarch64")
    cpu = hardware.this_cpu()
    assert (cpu.kind, cpu.model) == (kind, "ARM, implementer 0x41, part 0xd4f")
    assert ("bf16" in cpu.features, "fp16" in cpu.features) == ("bf16" in flags, "asimdhp" in flags)


def test_floats_of_16_bits_are_features() -> None:
    names = hardware._FEATURES
    assert {"avx512_bf16", "amx_bf16"} <= names["bf16"].kernel
    assert {"avx512_fp16", "amx_fp16"} <= names["fp16"].kernel


def test_without_the_kernels_word_numpy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", dict)
    monkeypatch.setattr(hardware, "_numpy_features", lambda: {"AVX2", "AVX512F", "AVX512_ICL"})
    assert hardware.this_cpu().features == ("avx2", "avx512", "vnni")


@pytest.mark.parametrize("exact", [True, False])
def test_vnni_that_nobody_tells_of_is_tried(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", dict)
    monkeypatch.setattr(hardware, "_numpy_features", lambda: {"AVX2"})
    monkeypatch.setattr(hardware, "_adds_exactly", lambda: exact)
    monkeypatch.setattr(hardware.platform, "machine", lambda: "AMD64")
    assert hardware.this_cpu().kind == ("x86-vnni" if exact else "x86-avx2")


def test_both_ways_of_asking_agree_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    told = hardware.this_cpu()
    hardware.this_cpu.cache_clear()
    monkeypatch.setattr(hardware, "_cpuinfo", dict)
    found = hardware.this_cpu()
    assert found.architecture == told.architecture
    assert set(found.features) <= set(told.features)
    assert ("vnni" in told.features) == ("vnni" in found.features)


def test_a_record_of_before_these_features_is_read() -> None:
    stored = b'{"model": "A CPU", "architecture": "x86_64", "features": ["avx2", "avx512", "vnni", "amx"], "cores": 4}'
    cpu = from_json(stored, Cpu, "record")
    assert cpu.kind == "x86-amx"
    assert from_json(to_json(cpu), Cpu, "record") == cpu


def test_what_is_lacking_is_named() -> None:
    cpu = Cpu("A CPU", "x86_64", ("avx2",), 2)
    assert cpu.lacks(("avx2", "vnni", "bf16")) == ("vnni", "bf16")
    assert cpu.lacks(("x86_64",)) == ()
    assert cpu.lacks(("arm64",)) == ("arm64",)
