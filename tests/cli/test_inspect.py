"""What ``inspect`` says of a pruned network, as a checkpoint and in a bundle: its figures, and never its layers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.main import run
from medcompress.trained.checkpoint import load_checkpoint, save_checkpoint
from medcompress.trained.spec import PruningRound

ROUNDS = (
    PruningRound("macs 0.25", "magnitude", (2_000_000, 1_000_000), (5000, 2000), {"conv1": {"out_channels": 64}}),
    PruningRound("macs 0.25", "taylor", (1_000_000, 500_000), (2000, 1000), {}),
)
SHORT = [
    {
        "asked": "macs 0.25", "importance": "magnitude", "layers": 1,
        "macs": {"before": 2_000_000, "after": 1_000_000, "percent": 50.0},
        "parameters": {"before": 5000, "after": 2000, "percent": 40.0},
    },
    {
        "asked": "macs 0.25", "importance": "taylor", "layers": 0,
        "macs": {"before": 1_000_000, "after": 500_000, "percent": 50.0},
        "parameters": {"before": 2000, "after": 1000, "percent": 50.0},
    },
]  # fmt: skip
LINE = (
    "macs 0.25, by magnitude: MACs 2,000,000 -> 1,000,000 (50.0 %), parameters 5,000 -> 2,000 (40.0 %), "
    "layers changed: 1"
)


@pytest.fixture
def pruned(checkpoint: Path, tmp_path: Path) -> Path:
    found = load_checkpoint(checkpoint)
    spec = msgspec.structs.replace(found.spec, pruning=ROUNDS, shrunk=(24, 24))
    save_checkpoint(tmp_path / "pruned.pth", dataclasses.replace(found, spec=spec))
    return tmp_path / "pruned.pth"


def test_a_checkpoint(pruned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(pruned), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pruning"] == SHORT and found["shrunk"] == [24, 24]
    assert run(["inspect", str(pruned)]) == 0
    shown = capsys.readouterr().out
    assert LINE in shown and "by taylor" in shown
    assert "out_channels" not in shown


def test_a_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["spec"]["pruning"] = msgspec.to_builtins(ROUNDS)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert run(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pruning"] == SHORT and "pruning" not in found["spec"]
    assert run(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert LINE in shown and "out_channels" not in shown
    manifest["spec"]["pruning"] = [{"layers": 3}]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert run(["inspect", str(bundle)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
