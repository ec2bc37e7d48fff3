"""``medcompress train``: usage, results, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
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
    from medcompress.trained.learning.classifier import Classifier

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
    for option, value, message in (
        ("--epochs", "9", "epochs 9: this run was begun with 2"),
        ("--arch", "resnet18", "architecture timm/resnet18: this run was begun with timm/test_resnet"),
        ("--task", "chexpert", "task chexpert: this run was begun with"),
        ("--out", str(tmp_path / "x"), "--out does not go with --resume"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, ["--resume", str(out), option, value], catch_exceptions=False)
    result = CliRunner().invoke(command, ["--resume", str(out), *SMALL, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["epochs"] == 2


def test_wrong_usage(data: Path, tmp_path: Path):
    def refused(*arguments: str, error: type[Exception] = InputError, match: str) -> None:
        with pytest.raises(error, match=match):
            CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "o")], catch_exceptions=False)

    refused(match="--data is missing")
    refused("--data", str(data), "--arch", "resnet81", match="did you mean")
    refused("--data", str(data), "--size", "8", match="size 8 is outside")
    refused("--data", str(data), "--strategy", "gradual", "--epochs", "1", match="at least 2 epochs")
    refused("--data", str(data), "--folds", "2", "--repeats", "2", match="do not go together")
    refused("--data", str(data), "--precision", "fp16", match="needs a GPU")
    refused("--data", str(data), "--lr", "0", match="learning rate")
    refused("--data", str(data), "--positive", "FLU", match="is no class")
    refused("--data", str(data), "--patient-pattern", "(", error=DataError, match="regular expression")
    refused("--data", str(data / "NORMAL"), error=DataError, match="0 class folder")
    refused("--data", str(tmp_path / "absent"), error=DataError, match="no such folder")
    assert not (tmp_path / "o").exists()


def test_a_killed_training_resumes_exactly(data: Path, tmp_path: Path):
    """SIGKILL in the middle of an epoch, in a process of its own, with everything that has a state in use."""
    from medcompress.trained.checkpoint import load_checkpoint

    options = ["--strategy", "gradual", "--schedule", "plateau", "--balance", "sampler", "--augmentation", "strong"]
    arguments = ["train", "--data", str(data), *SMALL, "--epochs", "4", *options]
    program = [sys.executable, "-m", "medcompress.cli.main"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, out = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*program, *arguments, "--out", str(whole)], check=True, env=environment, capture_output=True)
    killed = subprocess.Popen([*program, *arguments, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL)
    while not (out / "resume.ckpt").is_file():
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.wait()
    assert not (out / "best.pth").is_file() or "test_auroc" not in load_checkpoint(out / "best.pth").metrics
    subprocess.run([*program, "train", "--resume", str(out)], check=True, env=environment, capture_output=True)
    for name in ("best.pth", "last.pth"):
        first, second = load_checkpoint(whole / name), load_checkpoint(out / name)
        assert first.history == second.history and first.metrics == second.metrics
        assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_train_together(data: Path, tmp_path: Path, launcher: str):
    """Distributed over gloo on the CPU, the backbone frozen first: started by Lightning, and by torchrun."""
    program = [sys.executable, "-m", "medcompress.cli.main"]
    if launcher == "torchrun":
        program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "medcompress.cli.main"]
    command = [*program, "train", "--data", str(data), *SMALL, "--batch-size", "4", "--strategy", "two-stage"]
    command += ["--devices", "2", "--out", str(tmp_path / "o"), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2  # one document, not one of each process
    assert done.stderr.count("epoch 2/2") == 1
    assert (tmp_path / "o" / "best.pth").is_file()


def test_folds_take_turns_and_go_on(data: Path, tmp_path: Path):
    arguments = ["--data", str(data), *SMALL, "--epochs", "1", "--folds", "2", "--out", str(tmp_path / "o"), "--json"]
    document = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert [Path(row["checkpoint"]).parent.name for row in document["trainings"]] == ["fold-1", "fold-2"]
    first = (tmp_path / "o" / "fold-1" / "best.pth").stat().st_mtime_ns
    again = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert [row["metrics"] for row in again["trainings"]] == [row["metrics"] for row in document["trainings"]]
    assert (tmp_path / "o" / "fold-1" / "best.pth").stat().st_mtime_ns == first
    with pytest.raises(InputError, match="learning rate"):
        CliRunner().invoke(command, [*arguments, "--lr", "0.5"], catch_exceptions=False)


def test_config_file_and_flags_above_it(data: Path, tmp_path: Path):
    config = tmp_path / "train.yaml"
    config.write_text(f"data: {data}\narch: test_resnet\nsize: 32\nepochs: 7\nbatch_size: 8\ntrack: [mlflow]\n")
    printed = CliRunner().invoke(command, ["--config", str(config), "--epochs", "1", "--print-config"])
    assert printed.exit_code == 0
    effective = yaml.safe_load(printed.stdout)
    assert effective["epochs"] == 1 and effective["arch"] == "test_resnet" and effective["track"] == ["mlflow"]
    assert effective["lr"] == 1e-3 and "json" not in effective
    # What is printed is a config that gives the same.
    config.write_text(printed.stdout)
    again = CliRunner().invoke(command, ["--config", str(config), "--print-config"])
    assert again.stdout == printed.stdout
    for text, message in (
        ("epochz: 3", "there is no option epochz; did you mean epochs"),
        ("- 1", "holds no options"),
        ("a: [", "cannot be read as YAML"),
        ("epochs: {a: 1}", "epochs has no plain value"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, ["--config", str(config)], catch_exceptions=False)
    config.write_text("epochs: many")
    assert CliRunner().invoke(command, ["--config", str(config)]).exit_code == 2


def test_help_names_every_option_without_torch():
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    for option in ("--data", "--patients-csv", "--positive", "--resume", "--weights"):
        assert option in result.stdout
