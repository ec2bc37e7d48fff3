"""Targets that are no CPU: which forms they give, and what is said of those this machine has no device for."""

from __future__ import annotations

from pathlib import Path

import pytest

from medcompress.benchmarks.progress import console
from medcompress.cli.main import run
from medcompress.compress.optimize import optimize
from medcompress.compress.options import Options
from medcompress.compress.recipes import KINDS, RECIPES, REFERENCE, select
from medcompress.runtime import requirements
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.errors import MachineError

NO_DRIVER = "no NVIDIA driver"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without accelerators, whatever this one has."""
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)
    lacks = {"nvidia": NO_DRIVER, "intel-gpu": "no Intel GPU", "npu": "no Intel NPU"}
    for device, why in lacks.items():
        monkeypatch.setitem(requirements.DEVICES, device, lambda why=why: why)


def test_a_gpu_has_forms_beside_those_of_the_cpu() -> None:
    gpu = {recipe.name for recipe in select(["gpu"], int8=True)}
    both = {recipe.name for recipe in select(["cpu-avx2", "gpu"], int8=True)}
    assert {REFERENCE, "onnxruntime-cuda-fp16", "tensorrt-fp16", "tensorrt-int8", "tensorrt-int8-fp16"} < gpu
    assert not any(name.startswith("openvino") for name in gpu)
    assert both == gpu | {"openvino-fp32", "onnxruntime-int8-avx2", "openvino-int8-avx2"}
    assert {recipe.precision for recipe in select(["gpu"], int8=False)} == {"fp32", "tf32", "fp16"}


def test_every_recipe_has_a_target_and_pruned_networks_have_all_of_them() -> None:
    assert {target for recipe in RECIPES for target in recipe.targets} == set(KINDS)
    assert [recipe.name for recipe in RECIPES if not recipe.targets] == [REFERENCE]
    half = next(recipe for recipe in RECIPES if recipe.name == "tensorrt-int8-fp16").of("macs50")
    assert (half.name, half.graph, half.half) == ("macs50-tensorrt-int8-fp16", "macs50-tensorrt-int8", True)


@pytest.mark.parametrize("int8", [True, False])
def test_a_device_that_is_missing_and_all_that_was_asked_for_is_refused_at_once(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], int8: bool
) -> None:
    with pytest.raises(MachineError, match=f"{NO_DRIVER}: .* cannot be proven on this machine"):
        optimize(Options(checkpoint, int8=int8, targets=("gpu",), out=tmp_path / "b"))
    with pytest.raises(MachineError, match=f"{NO_DRIVER}; no Intel NPU: "):
        optimize(Options(checkpoint, int8=int8, targets=("gpu", "npu"), out=tmp_path / "b"))
    assert run(["optimize", str(checkpoint), "--target", "intel-gpu", "--out", str(tmp_path / "b")]) == 3
    assert "no Intel GPU: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_beside_a_cpu_it_is_a_row_without_a_number(checkpoint: Path, tmp_path: Path) -> None:
    targets = ("cpu", "gpu", "intel-gpu", "npu", "auto")
    outcome = optimize(Options(checkpoint, out=tmp_path / "bundle", targets=targets, review=False))
    rows = {row.name: row for row in outcome.report.rows}
    assert set(rows) == {recipe.name for recipe in select(targets, int8=False)}
    for recipe in select(["gpu"], int8=False)[1:]:
        row = rows[recipe.name]
        assert row.status == f"not run here: {NO_DRIVER}"
        assert (row.p50_ms, row.auroc, row.device) == (None, None, None)
    assert rows["openvino-npu-fp16"].status == "not run here: no Intel NPU"
    kept = {variant.name for variant in open_bundle(outcome.bundle).manifest.variants}
    assert kept == {row.name for row in rows.values() if row.passed}
    # AUTO has nothing but the CPU to choose, and what ran says so.
    auto = rows["openvino-auto-fp32"]
    assert auto.passed
    assert (auto.device, auto.runs_as) == ("CPU, chosen by AUTO", "fp32 on CPU, chosen by AUTO")
    assert rows[REFERENCE].runs_as == "fp32"
