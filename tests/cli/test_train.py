"""``medcompress train``: usage, results, exit codes."""

from __future__ import annotations

import csv
import json
import os
import shlex
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

pytestmark = pytest.mark.usefixtures("blank_plots")

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
    # A whole configuration may be given again.
    config = tmp_path / "all.yaml"
    config.write_text(CliRunner().invoke(command, ["--data", str(data), *SMALL, "--print-config"]).stdout)
    arguments = ["--resume", str(out), "--config", str(config), "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
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
    refused("--data", str(data), "--strategy", "frozen", match="needs weights that were trained")
    refused("--data", str(data), "--unfreeze", "2", match="goes with the strategy gradual")
    refused("--data", str(data), "--precision", "fp16", match="needs a GPU")
    refused("--data", str(data), "--lr", "0", match="learning rate")
    refused("--data", str(data), "--positive", "FLU", match="is no class")
    refused("--data", str(data), "--teacher-share", "1.5", match="teacher share 1.5 is outside")
    refused("--data", str(data), "--teacher-share", "0.5", match="goes with a teacher")
    refused("--data", str(data), "--teacher", str(tmp_path / "none.pth"), match="cannot be opened")
    refused("--data", str(data), "--patient-pattern", "(", error=DataError, match="regular expression")
    refused("--data", str(data / "NORMAL"), error=DataError, match="0 class folder")
    refused("--data", str(tmp_path / "absent"), error=DataError, match="no such folder")
    assert not (tmp_path / "o").exists()


def test_a_killed_training_resumes_exactly(data: Path, tmp_path: Path):
    """SIGKILL in the middle of an epoch, in a process of its own, with everything that has a state in use.

    The training that nothing stops, and the one that goes on, are of this process: it ends the same wherever it does.
    """
    from medcompress.trained.checkpoint import load_checkpoint

    options = ["--strategy", "gradual", "--schedule", "plateau", "--balance", "sampler", "--augmentation", "strong"]
    arguments = ["--data", str(data), *SMALL, "--epochs", "4", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, out = tmp_path / "whole", tmp_path / "killed"
    CliRunner().invoke(command, [*arguments, "--out", str(whole)], catch_exceptions=False)
    program = [sys.executable, "-m", "medcompress.cli.main", "train", *arguments, "--out", str(out)]
    killed = subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL)
    while not (out / "resume.ckpt").is_file():
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.wait()
    assert not (out / "best.pth").is_file() or "test_auroc" not in load_checkpoint(out / "best.pth").metrics
    CliRunner().invoke(command, ["--resume", str(out)], catch_exceptions=False)
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
    alone = ["--data", str(data), *SMALL, "--out", str(tmp_path / "o")]
    with pytest.raises(InputError, match="holds the folds or repeats of a study"):
        CliRunner().invoke(command, alone, catch_exceptions=False)


def test_config_file_and_flags_above_it(data: Path, tmp_path: Path):
    config = tmp_path / "train.yaml"
    config.write_text(f"data: {data}\narch: test_resnet\nsize: 32\nepochs: 7\nbatch_size: 8\ntrack: mlflow\n")
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
        ("arch: [a, b]", "arch has no plain value"),
        ("epochs: 2.7", "epochs is a whole number, not 2.7"),
        ("epochs: 2\nepochs: 3", "epochs is given twice"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, ["--config", str(config)], catch_exceptions=False)
    config.write_text("epochs: many")
    assert CliRunner().invoke(command, ["--config", str(config)]).exit_code == 2


def test_the_command_that_repeats_a_run_says_all_of_it(tmp_path: Path):
    """Every option away from its default, through the command line and back."""
    from medcompress.cli.train import _FIELDS
    from medcompress.trained.data.splits import DataSource
    from medcompress.trained.learning.options import TrainOptions, command_of

    table = tmp_path / "a table.csv"
    table.touch()
    source = DataSource(
        str(tmp_path), "(p\\d+)", table=str(table), task="chexpert", uncertain="ones", per_class=5, seed=4
    )
    options = TrainOptions(
        source, "timm/resnet50", head="mlp-bn", weights="imagenet", size=96, strategy="gradual", backbone_lr=0.1,
        unfreeze=3, epochs=7, batch_size=4, accumulate=2, learning_rate=0.01, weight_decay=0.1, clip=2.0,
        schedule="plateau", loss="focal", label_smoothing=0.2, teacher="/a/b.pth", teacher_share=0.5, balance="sampler",
        augmentation="strong", flips="both", normalization="data", precision="bf16", cache="disk", patience=2,
        save_every=3, positive="Edema", seed=4, track=("mlflow", "tensorboard"), devices=2, skip_unreadable=True,
        drop_leaks=True, modality=("CR", "DX"), body_part=("CHEST",), dicom=("frame=middle",),
    )  # fmt: skip
    assert all(
        getattr(options, name) != getattr(TrainOptions(source), name) for name in _FIELDS if name[:8] != "weights_"
    )
    words = shlex.split(command_of(options, tmp_path / "o"))
    assert words[:2] == ["medcompress", "train"]
    printed = yaml.safe_load(CliRunner().invoke(command, [*words[2:], "--print-config"]).stdout)
    named = {"arch": "architecture", "lr": "learning_rate"}
    found = {named.get(name, name.replace("-", "_")): value for name, value in printed.items()}
    for name in _FIELDS:
        value = getattr(options, name)
        assert found[name] == (list(value) if isinstance(value, tuple) else value), name
    for name in ("table", "task", "uncertain", "patient_pattern", "per_class", "seed"):
        assert found[name] == getattr(source, name), name


def test_the_command_of_a_part_is_that_of_its_study(tmp_path: Path):
    from medcompress.trained.data.splits import DataSource
    from medcompress.trained.learning.options import TrainOptions, command_of
    from medcompress.trained.learning.studies import parts_of

    options = TrainOptions(DataSource("d", seed=3), seed=3)
    for folds, repeats, flag in ((4, 1, "--folds=4"), (0, 3, "--repeats=3")):
        name, part = list(parts_of(options, folds, repeats).items())[-1]
        words = shlex.split(command_of(part, tmp_path / name))
        assert words == ["medcompress", "train", "--data=d", "--seed=3", flag, f"--out={tmp_path}"]


def test_low_data_with_repeated_seeds(data: Path, tmp_path: Path):
    arguments = ["--data", str(data), *SMALL, "--epochs", "1", "--per-class", "3", "--repeats", "2", "--seed", "5"]
    arguments += ["--out", str(tmp_path / "o"), "--json"]
    document = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    runs = [Path(row["checkpoint"]).parent for row in document["trainings"]]
    assert [run.name for run in runs] == ["seed-5", "seed-6"]
    trained = [set(_files_of(run, "train")) for run in runs]
    assert [len(files) for files in trained] == [6, 6] and trained[0] != trained[1]
    # The same images judge all of them.
    assert _files_of(runs[0], "test") == _files_of(runs[1], "test")
    again = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert [row["metrics"] for row in again["trainings"]] == [row["metrics"] for row in document["trainings"]]
    for option, value, message in (("--size", "48", "size 48"), ("--per-class", "4", "per class 4")):
        with pytest.raises(InputError, match=f"{message}: this run was begun with"):
            CliRunner().invoke(command, [*arguments, option, value], catch_exceptions=False)


def _files_of(run: Path, part: str) -> list[str]:
    with (run / "split.csv").open() as file:
        return [row["file"] for row in csv.DictReader(file) if row["split"] == part]


def test_medical_transfer_keeps_the_backbone_and_its_normalization(data: Path, tmp_path: Path):
    from medcompress.trained.checkpoint import load_checkpoint

    first = ["--data", str(data), *SMALL, "--epochs", "1", "--out", str(tmp_path / "first"), "--save-every", "1"]
    CliRunner().invoke(command, first, catch_exceptions=False)
    weights = tmp_path / "first" / "epoch-001.pth"
    second = ["--data", str(data), *SMALL, "--epochs", "1", "--strategy", "frozen", "--head", "mlp-bn"]
    second += ["--weights", str(weights), "--out", str(tmp_path / "second"), "--seed", "1"]
    told = CliRunner().invoke(command, second, catch_exceptions=False).stderr
    assert f"weights from {weights}" in told and "100.0%" in told
    a, b = (load_checkpoint(path) for path in (weights, tmp_path / "second" / "best.pth"))
    assert a.spec.preprocessing == b.spec.preprocessing and b.spec.head == "mlp-bn"
    backbone = [name for name in a.weights if name in b.weights]
    assert len(backbone) > 50 and any(name.endswith("running_mean") for name in backbone)
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in backbone)


def test_a_teacher_is_found_from_every_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(data), *SMALL, "--json", "--out"]
    CliRunner().invoke(command, [*arguments, "taught"], catch_exceptions=False)
    learned = [*arguments, "learned", "--teacher", "taught/best.pth", "--teacher-share", "0.5"]
    document = json.loads(CliRunner().invoke(command, learned, catch_exceptions=False).stdout)
    assert 0 <= document["metrics"]["val_distance"] <= 1
    stored = json.loads((tmp_path / "learned" / "options.json").read_text())
    assert stored["teacher"] == str(tmp_path / "taught" / "best.pth") and stored["teacher_share"] == 0.5


def test_a_run_is_tracked_and_its_checkpoint_registered(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(data), *SMALL, "--out", "o", "--track", "mlflow", "--json"]
    metrics = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)["metrics"]
    client = MlflowClient(store)
    (version,) = client.search_model_versions("name = 'scans'")
    run = client.get_run(str(version.run_id))
    assert run.data.params["architecture"] == "timm/test_resnet" and run.data.params["epochs"] == "2"
    assert run.data.metrics["test_auroc"] == pytest.approx(metrics["test_auroc"])
    assert len(client.get_metric_history(run.info.run_id, "val_auroc")) == 2
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "roc.png", "summary.md"} <= names and "predictions.csv" not in names


def test_help_names_every_option_without_torch():
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    for option in ("--data", "--patients-csv", "--positive", "--resume", "--weights"):
        assert option in result.stdout
