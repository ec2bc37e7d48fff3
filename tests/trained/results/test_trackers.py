"""Trackers: what a run leaves in MLflow and TensorBoard is read back; what is missing or broken is said at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from medcompress.runtime.errors import InputError, MachineError
from medcompress.trained.results.trackers import TRACKING, finish, loggers, require_trackers

PARAMS = {"architecture": "timm/resnet10t", "epochs": 3, "source": {"seed": 0, "folder": "data"}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to give commands in, with no store named in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Regression(pl.LightningModule):
    """The least that logs a figure an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(opened: list[Any], epochs: int = 3) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=opened,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(0)
    trainer.fit(Regression(), torch.utils.data.DataLoader(torch.rand(8, 2), batch_size=4))  # type: ignore[arg-type]


@pytest.fixture
def plots(tmp_path: Path) -> Path:
    folder = tmp_path / "plots"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(folder / "roc.png")
    (tmp_path / "metrics.json").write_text("{}")
    return folder


def test_a_run_in_mlflow(here: Path, plots: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    out = here / "elsewhere" / "first"
    opened = loggers(["mlflow"], out, "pneumonia", "first", PARAMS)
    assert capfd.readouterr().err == "", "MLflow's notes on its tables are not the user's business"
    fit(opened)
    finish(opened, {"test_auroc": 0.97}, [here / "metrics.json", plots], checkpoint, "pneumonia")

    # One store for all tasks, where the command was given; its files beside it.
    client = MlflowClient(f"sqlite:///{here / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pneumonia")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params == {
        "architecture": "timm/resnet10t",
        "epochs": "3",
        "source/seed": "0",
        "source/folder": "data",
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert len(history) == 3
    assert [point.value for point in history] == sorted((point.value for point in history), reverse=True)
    assert run.data.metrics["test_auroc"] == 0.97
    assert {entry.path for entry in client.list_artifacts(run.info.run_id)} == {"metrics.json", "model", "plots"}
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "plots")] == ["plots/roc.png"]
    assert sorted(path.name for path in here.iterdir()) == ["elsewhere", "metrics.json", "plots", "runs"]

    # The registered model is the checkpoint, byte for byte.
    (version,) = client.search_model_versions("name = 'pneumonia'")
    assert (version.version, version.run_id, version.status) in {
        ("1", run.info.run_id, "READY"),
        (1, run.info.run_id, "READY"),
    }
    assert version.tags["architecture"] == "timm/resnet10t"
    assert version.tags["classes"] == "SYNTHETIC-CLEAR, SYNTHETIC-OPACITY"
    assert version.tags["test_auroc"] == "0.9700"
    kept = Path(client.download_artifacts(run.info.run_id, f"model/{version.tags['file']}"))
    assert kept.read_bytes() == checkpoint.read_bytes()

    # A second task goes to the same store; a second run of the first registers the next version.
    fit(other := loggers(["mlflow"], here / "brain", "brain", "b", {}), 1)
    finish(other, {}, [], checkpoint)
    again = loggers(["mlflow"], here / "second", "pneumonia", "second", {})
    finish(again, {"test_auroc": 0.98}, [], checkpoint, "pneumonia")
    assert {found.name for found in client.search_experiments()} == {"Default", "pneumonia", "brain"}
    assert len(client.search_model_versions("name = 'pneumonia'")) == 2
    assert len(client.search_registered_models()) == 1


def test_a_resumed_training_goes_on_in_the_same_run(here: Path, checkpoint: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    (first,) = loggers(["mlflow"], here, "pneumonia", "run", PARAMS)
    first.log_metrics({"loss": 2.0}, step=0)
    first.finalize("failed")  # as Lightning does when it is interrupted
    client = MlflowClient(f"sqlite:///{here / 'runs' / 'mlflow.db'}")
    assert client.get_run(first.version).info.status == "FAILED"  # type: ignore[arg-type]
    (second,) = loggers(["mlflow"], here, "pneumonia", "run", PARAMS)
    assert second.version == first.version
    assert client.get_run(second.version).info.status == "RUNNING"  # type: ignore[arg-type]
    second.log_metrics({"loss": 1.0}, step=1)
    for _ in range(2):  # stopped between its end and ours, and judged again
        finish([second], {"test_auroc": 0.9}, [], checkpoint, "pneumonia")
    history = client.get_metric_history(second.version, "loss")  # type: ignore[arg-type]
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0)]
    assert len(client.search_model_versions("name = 'pneumonia'")) == 1

    (here / "runs" / "mlflow.db").rename(here / "lost.db")
    with pytest.raises(MachineError, match=f"does not hold the run {first.version}.*remove {TRACKING}"):
        loggers(["mlflow"], here, "pneumonia", "run", PARAMS)


def test_the_store_the_user_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    uri = f"sqlite:///{here / 'mine.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (logger,) = loggers(["mlflow"], here / "out", "pneumonia", "run", {})
    assert MlflowClient(uri).get_run(logger.version).info.run_name == "run"  # type: ignore[arg-type]
    assert not (here / "runs").exists()
    broken = here / "broken.db"
    broken.write_text("no database, but long enough to be looked at" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{broken}")
    with pytest.raises(MachineError, match=r"MLflow store sqlite:///.*broken.db cannot be used"):
        loggers(["mlflow"], here / "other", "pneumonia", "run", {})


def test_a_server_that_is_not_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MachineError, match=r"store http://127.0.0.1:9 cannot be used.*train without --track mlflow"):
        loggers(["mlflow"], here / "out", "pneumonia", "run", {})
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_the_page_answers(here: Path, checkpoint: Path) -> None:
    """``mlflow ui`` on the store shows the run, and gives its files out."""
    pytest.importorskip("mlflow")
    opened = loggers(["mlflow"], here / "run", "pneumonia", "run", PARAMS)
    (here / "metrics.json").write_text('{"auroc": 1}')
    finish(opened, {"test_auroc": 0.97}, [here / "metrics.json"], checkpoint, "pneumonia")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{here / 'runs' / 'mlflow.db'}"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        page = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 60
        while True:
            try:
                assert urllib.request.urlopen(f"{page}/health", timeout=5).read() == b"OK"
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None or time.monotonic() > until:
                    pytest.skip("mlflow ui did not start here within a minute")
                time.sleep(0.3)
        run_id = opened[0].version
        listed = urllib.request.urlopen(f"{page}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=30).read().decode()
        assert "test_auroc" in listed
        file = urllib.request.urlopen(f"{page}/get-artifact?path=metrics.json&run_id={run_id}", timeout=30).read()
        assert file == b'{"auroc": 1}'
        models = urllib.request.urlopen(f"{page}/api/2.0/mlflow/registered-models/search", timeout=30).read().decode()
        assert '"pneumonia"' in models
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def test_tensorboard(here: Path, plots: Path, checkpoint: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = loggers(["tensorboard"], here / "run", "pneumonia", "run", PARAMS)
    fit(opened)
    finish(opened, {"test_auroc": 0.97}, [plots / "roc.png"], checkpoint, "pneumonia")
    found = EventAccumulator(str(here / "run" / "tensorboard"))
    found.Reload()
    assert len(found.Scalars("loss")) == 3
    assert found.Scalars("test_auroc")[0].value == pytest.approx(0.97)
    assert found.Images("roc")[0].width == 12
    assert "timm/resnet10t" in (here / "run" / "tensorboard" / "hparams.yaml").read_text()
    assert not (here / "run" / TRACKING).exists()


def test_what_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'mlfow' is not known; it is one of mlflow, tensorboard, wandb"):
        require_trackers(["mlfow"])
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("mlflow", "tensorboard", "wandb"):
        with pytest.raises(MachineError, match=rf"{name} is not installed.*pip install 'medcompress\[track\]'"):
            loggers([name], here / "out", "pneumonia", "run", {})
    assert not (here / "out").exists()


def test_wandb_is_asked_for_where_it_is_not_installed(here: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed here")
    with pytest.raises(MachineError, match="wandb is not installed"):
        loggers(["wandb"], here, "pneumonia", "run", {})


def test_of_several_processes_the_first_alone_tracks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert loggers(["tensorboard"], here / "run", "pneumonia", "run", {}) == []
    assert not (here / "run").exists()
