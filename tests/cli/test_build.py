"""``medcompress build`` where there is nothing to build with; on a fake GPU: tests/runtime/engines."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.main import run
from medcompress.runtime.bundle import Variant, open_bundle
from medcompress.runtime.gpu import this_gpu, why_no_gpu
from medcompress.runtime.sealing import seal
from medcompress.runtime.selftest import self_test


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_bundle_without_a_variant_for_tensorrt_is_not_built(bundle: Path, capsys) -> None:
    manifest = open_bundle(bundle).manifest
    assert not any(variant.engine == "tensorrt" for variant in manifest.variants)
    assert run(["build", str(bundle)]) == 2
    assert "no variant for TensorRT; make it with: medcompress optimize" in capsys.readouterr().err


@pytest.mark.skipif(this_gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_it_says_why_and_the_bundle_answers_all_the_same(bundle: Path, state: Path, capsys) -> None:
    manifest = open_bundle(bundle).manifest
    made = Variant("tensorrt-int8", "tensorrt", "int8", ("model.onnx",))
    seal(bundle, msgspec.structs.replace(manifest, variants=(made, *manifest.variants), chosen=made.name))
    assert run(["build", str(bundle), "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == 3
    assert why_no_gpu() in error["message"]
    assert not state.exists(), "nothing is left behind"
    found = self_test(open_bundle(bundle))
    assert found.runs is not None
    (check,) = (check for check in found.variants if check.name == made.name)
    assert not check.ok
    assert not check.damaged
    assert why_no_gpu() in check.status
