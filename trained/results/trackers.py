"""Trackers of training runs: MLflow, TensorBoard and Weights & Biases, through Lightning's own loggers.

MLflow keeps every task's runs in one store: ``$MLFLOW_TRACKING_URI``, or a database in the folder ``runs`` where the
command is given (MLflow's own advice over its older store of files). To look at it::

    mlflow ui --backend-store-uri sqlite:///runs/mlflow.db
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from ...benchmarks.progress import leads
from ...runtime.errors import InputError, MachineError, first_line, missing_package
from ...runtime.records import from_json, to_json, write_whole
from ..checkpoint import load_checkpoint

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, MLFlowLogger

TRACKERS = ("mlflow", "tensorboard", "wandb")
# Names of the runs in the trackers, in the run's folder: a resumed training goes on in them.
TRACKING = "tracking.json"
_STORE = Path("runs")
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class Tracking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under which names the trackers know a run; empty where they do not."""

    mlflow: str = ""
    wandb: str = ""


def require_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be used here: to be called before long work.

    Raises:
        InputError: no such tracker.
        MachineError: a package that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"tracker {name!r} is not known; it is one of {', '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise missing_package(name, "track")


def loggers(names: Sequence[str], out: Path, task: str, run_name: str, params: Mapping[str, Any]) -> list[Logger]:
    """Lightning's loggers for a run, opened; to be given to its Trainer.

    Where ``out`` holds :data:`TRACKING` the runs named there are gone on with. Of several processes that train
    together the first alone gets loggers.

    Args:
        names: of :data:`TRACKERS`, each once.
        out: the run's folder; TensorBoard's and wandb's files go there.
        task: the experiment (MLflow) or project (wandb).
        run_name: of the run in it.
        params: what the run was asked for; nested ones get names like ``source/seed``.

    Raises:
        InputError: no such tracker, or the stored names cannot be read.
        MachineError: a package is missing, or a store cannot be used.
    """
    require_trackers(names)
    if not leads():
        return []
    path = out / TRACKING
    stored = from_json(path.read_bytes(), Tracking, str(path)) if path.is_file() else Tracking()
    opened: list[Logger] = []
    for name in dict.fromkeys(names):
        if name == "mlflow":
            with _mlflow_errors():
                logger = _mlflow(task, run_name, stored.mlflow)
                logger.log_hyperparams(dict(params))
            stored = msgspec.structs.replace(stored, mlflow=logger.run_id or "")
        elif name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            logger = TensorBoardLogger(out, name="", version="tensorboard", default_hp_metric=False)
            logger.log_hyperparams(dict(params))
        else:
            from lightning.pytorch.loggers import WandbLogger

            stored = msgspec.structs.replace(stored, wandb=stored.wandb or uuid4().hex[:8])
            offline = "WANDB_MODE" not in os.environ
            logger = WandbLogger(run_name, out, stored.wandb, offline, project=task)
            logger.log_hyperparams(dict(params))
        opened.append(logger)
    if stored != Tracking():
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(stored))
    return opened


def finish(
    opened: Sequence[Logger],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path],
    checkpoint: Path,
    register_as: str | None = None,
) -> None:
    """Log a run's last figures and files; with MLflow, its checkpoint as a version of a registered model.

    Called again for the same run, it registers no second version.

    Args:
        opened: by :func:`loggers`.
        metrics: such as the test figures.
        artifacts: files and folders: plots, summary.
        checkpoint: ``best.pth``.
        register_as: the registered model's name, the task as a rule; None registers nothing.

    Raises:
        MachineError: a store that cannot be written; what the run left in its folder is whole.
    """
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    for logger in opened:
        if isinstance(logger, MLFlowLogger):
            with _mlflow_errors():
                _finish_mlflow(logger, metrics, artifacts, checkpoint, register_as)
            continue
        logger.log_metrics(dict(metrics))
        pictures = [path for path in artifacts if path.suffix == ".png"]
        if isinstance(logger, TensorBoardLogger):
            for picture in pictures:
                logger.experiment.add_image(picture.stem, _pixels(picture), dataformats="HWC")
            logger.finalize("success")
        elif isinstance(logger, WandbLogger):
            logger.log_image("plots", [str(picture) for picture in pictures])
            logger.experiment.finish()


def _mlflow(task: str, run_name: str, run_id: str) -> MLFlowLogger:
    from lightning.pytorch.loggers import MLFlowLogger
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI", ""), None
    if not uri:
        store = _STORE.absolute()
        store.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{store / 'mlflow.db'}", (store / "mlflow-files" / _safe(task)).as_uri()
    client = MlflowClient(uri)
    if run_id:
        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise MachineError(
                f"{uri}: does not hold the run {run_id} this training began in ({first_line(error)}); give the store "
                f"it began with as $MLFLOW_TRACKING_URI, or remove {TRACKING} from the run's folder to begin another"
            ) from error
    elif client.get_experiment_by_name(task) is None:
        client.create_experiment(task, artifacts)
    logger = MLFlowLogger(task, run_name, uri, artifact_location=artifacts, run_id=run_id or None)
    logger.experiment  # noqa: B018  # opens the run: what is wrong is to be said before the training
    return logger


def _finish_mlflow(
    logger: MLFlowLogger,
    metrics: Mapping[str, float],
    artifacts: Sequence[Path],
    checkpoint: Path,
    register_as: str | None,
) -> None:
    client, run_id = logger.experiment, logger.run_id
    assert run_id is not None
    logger.log_metrics(dict(metrics))
    for path in artifacts:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    client.log_artifact(run_id, str(checkpoint), "model")
    client.set_terminated(run_id)
    if register_as is None:
        return
    name = _safe(register_as)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Checkpoints of medcompress; load_checkpoint reads them.")
    if client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        return
    spec = load_checkpoint(checkpoint).spec
    tags = {
        "architecture": spec.architecture,
        "classes": ", ".join(spec.decision.classes),
        "file": checkpoint.name,
        **{key: f"{value:.4f}" for key, value in metrics.items()},
    }
    client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags)


@contextmanager
def _mlflow_errors() -> Iterator[None]:
    """MLflow's errors as ours, soon, and without its notes on the tables it makes."""
    import mlflow  # noqa: F401  # its import sets the levels
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    noisy = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    # A server that is not there is asked for minutes by default; within a training that is right.
    retries = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = retries or "2"
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_STORE / 'mlflow.db'}"
        raise MachineError(
            f"the MLflow store {uri} cannot be used ({first_line(error)}); mend it, give another as "
            "$MLFLOW_TRACKING_URI, or train without --track mlflow"
        ) from error
    finally:
        if retries is None:
            del os.environ[_RETRIES]
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _safe(name: str) -> str:
    """A name MLflow's registry and the file system take: no slash, colon, percent sign or quote."""
    return re.sub(r"[/\\:%'\"]+", "-", name)
