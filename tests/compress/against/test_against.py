"""The tables beside the peers: their forms are real, made by their defaults, and run in the same way as ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medcompress.benchmarks.progress import console
from medcompress.compress.against import accuracy, latency
from medcompress.compress.against.peers import NNCF, ORT
from medcompress.compress.recipes import REFERENCE

pytest.importorskip("nncf", reason="the peers are not installed: pip install 'medcompress[peers]'")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)


def test_every_form_is_timed_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(latency.NETWORKS, "small", ("resnet10t", 48, 1.5))
    monkeypatch.setattr(latency, "_ROUNDS", 1)
    line = latency.time_network("small", 1, tmp_path)
    assert {REFERENCE, "openvino-fp32", ORT, NNCF} <= set(line.ms)
    assert not line.failed
    assert line.ms[line.chosen] == min(ms for form, ms in line.ms.items() if not form.startswith("peer"))
    assert line.gain == line.ms[REFERENCE] / line.ms[line.chosen]
    latency._print([line], 1)
    header, rule, row = capsys.readouterr().out.splitlines()[-3:]
    assert header.count("|") == rule.count("|") == row.count("|")


def test_the_bundle_stands_beside_the_peers_on_the_same_images(
    checkpoint: Path, pristine_bundle: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(checkpoint, tmp_path / "best.pth"))
    shutil.copytree(pristine_bundle, tmp_path / "best-int8")
    lines = accuracy.compare(own)
    forms = [line.form for line in lines]
    assert forms[:3] == [REFERENCE, ORT, NNCF]
    assert "onnxruntime-int8-avx2" in forms
    assert len({line.images for line in lines}) == 1
    assert lines[0].logit_change == 0
