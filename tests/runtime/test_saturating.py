from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medcompress.runtime import variants
from medcompress.runtime.errors import EngineError
from medcompress.runtime.hardware import this_cpu
from medcompress.runtime.predictor import load
from medcompress.runtime.saturating import PROBE, adds_exactly

NAME = "onnxruntime-int8-vnni"


def test_this_cpu_adds_as_its_flags_say() -> None:
    cpu = this_cpu()
    assert adds_exactly() == (cpu.architecture != "x86_64" or "vnni" in cpu.features)


def test_the_stored_graph_is_the_one_described() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(PROBE)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input)) == ("MatMulInteger", ["a", "w"])
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert weight.dtype == np.int8
    assert weight.tolist() == [[127], [127]]


def test_a_cpu_without_vnni_is_found_out() -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("needs qemu-x86_64 (Debian: apt-get install qemu-user)")
    asked = "from medcompress.runtime.saturating import adds_exactly; print(adds_exactly())"
    command = [emulator, "-cpu", "Haswell", sys.executable, "-c", asked]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout.strip() == "False", ran.stderr


def test_a_full_range_variant_is_refused_where_sums_are_cut_off(
    pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if this_cpu().lacks(("vnni",)):
        pytest.skip("this CPU is refused by its flags already, or makes no such variant")
    monkeypatch.setattr(variants, "adds_exactly", lambda: False)
    with pytest.raises(EngineError, match="cuts them off at 16"):
        load(pristine_bundle, variant=NAME)
    assert load(pristine_bundle).variant.name != NAME
