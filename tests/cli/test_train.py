"""``medcompress train``: usage, results, exit codes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from medcompress.cli.train import command
from medcompress.runtime.errors import DataError, InputError

SMALL = ["--arch", "test_resnet", "--size", "32", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for label, name in enumerate(("NORMAL", "SICK")):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        for patient in range(12):
            pixels = rng.normal(100 + 40 * label, 20, (40, 40)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"patient{label}{patient:02d}-0.png")
    return tmp_path / "scans"


def test_json_result_in_the_default_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--data", str(data), *SMALL, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"checkpoint", "metrics", "epochs", "classes", "architecture", "seconds"}
    assert document["checkpoint"] == str(Path("runs") / "scans-test_resnet" / "best.pth")
    assert (tmp_path / document["checkpoint"]).is_file()
    assert document["classes"] == ["NORMAL", "SICK"] and document["epochs"] == 2
    assert "epoch 2/2" in result.stderr


def test_table_positive_and_files_without_patient(data: Path, tmp_path: Path):
    for path in list(data.rglob("*.png")):
        path.rename(path.with_name("scan" + path.name))
    arguments = ["--data", str(data), *SMALL, "--out", str(tmp_path / "o"), "--positive", "NORMAL"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "test auroc" in result.stdout and "best.pth" in result.stdout
    assert "finding NORMAL" in result.stderr
    assert "warning: 24 file(s) name no patient" in result.stderr


def test_interrupt_then_resume(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from medcompress.trained.classifier import Classifier

    step, pending = Classifier.training_step, [True]

    def stopped(self: Classifier, batch: object, index: int) -> torch.Tensor:
        if pending and self.current_epoch == 1:
            pending.clear()
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "training_step", stopped)
    out = tmp_path / "o"
    result = CliRunner().invoke(command, ["--data", str(data), *SMALL, "--out", str(out)])
    assert result.exit_code == 130
    assert f"go on with: medcompress train --resume {out}" in result.stderr
    assert "Traceback" not in result.output
    with pytest.raises(InputError, match="--epochs cannot be changed"):
        CliRunner().invoke(command, ["--resume", str(out), "--epochs", "9"], catch_exceptions=False)
    result = CliRunner().invoke(command, ["--resume", str(out), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["epochs"] == 2


def test_wrong_usage(data: Path, tmp_path: Path):
    def refused(*arguments: str, error: type[Exception] = InputError, match: str) -> None:
        with pytest.raises(error, match=match):
            CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "o")], catch_exceptions=False)

    refused(match="--data is missing")
    refused("--data", str(data), "--arch", "resnet81", match="did you mean")
    refused("--data", str(data), "--size", "0", match="size 0 is outside")
    refused("--data", str(data), "--lr", "0", match="learning rate")
    refused("--data", str(data), "--positive", "FLU", match="is no class")
    refused("--data", str(data), "--patient-pattern", "(", error=DataError, match="regular expression")
    refused("--data", str(data / "NORMAL"), error=DataError, match="0 class folder")
    assert CliRunner().invoke(command, ["--data", str(tmp_path / "absent")]).exit_code == 2
    assert not (tmp_path / "o").exists()


def test_help_names_every_option_without_torch():
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    for option in ("--data", "--patients-csv", "--positive", "--resume", "--weights"):
        assert option in result.stdout
