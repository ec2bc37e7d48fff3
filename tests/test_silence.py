"""No socket is opened and nothing is left for a later report: in a fresh process, with a home folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Every Python-level way out is barred; what native code queues for an upload it leaves in the home folder.
GUARD = """
import os, socket
def barred(*arguments, **options):
    with open(os.environ["BARRED"], "a") as file:
        file.write(f"{arguments}\\n")
    raise AssertionError(f"a socket is opened: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = barred
"""


TRACKED = """
import sys
from pathlib import Path
from medcompress.trained.results.trackers import finish, loggers
opened = loggers(["mlflow", "tensorboard"], Path("run"), "task", "run", {"epochs": 1})
for logger in opened:
    logger.log_metrics({"loss": 1.0}, step=0)
finish(opened, {"test_auroc": 0.9}, [], Path(sys.argv[1]), "task")
import time; time.sleep(1)  # reports are sent by a thread
"""


@pytest.mark.parametrize("command", ["predict", "verify", "benchmark", "optimize"])
def test_nothing_leaves_the_machine(
    command: str, pristine_bundle: Path, checkpoint: Path, image: Path, tmp_path: Path
) -> None:
    arguments = {
        "predict": [str(pristine_bundle), str(image)],
        "verify": [str(pristine_bundle)],
        "benchmark": [str(pristine_bundle)],
        "optimize": [str(checkpoint), "--int8", "--target", "cpu-avx2", "--out", str(tmp_path / "bundle")],
    }[command]
    home, hook = tmp_path / "home", tmp_path / "hook"
    home.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(GUARD)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    barred = tmp_path / "barred"  # workers keep their stderr to themselves
    environment |= {"HOME": str(home), "PYTHONPATH": str(hook), "BARRED": str(barred)}
    done = subprocess.run(
        [sys.executable, "-m", "medcompress.cli.main", command, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert not barred.exists(), barred.read_text()
    left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    assert [name for name in left if "matplotlib" not in name] == [], "it keeps a list of the fonts"


def test_what_is_tracked_stays_on_the_machine(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    home, hook, barred = tmp_path / "home", tmp_path / "hook", tmp_path / "barred"
    home.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(GUARD)
    # MLflow is silent by itself where it takes itself to be tested.
    told = ("XDG_", "MLFLOW_", "PYTEST_", "CI", "GITHUB_", "GITLAB_", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(hook), "BARRED": str(barred)}
    done = subprocess.run(
        [sys.executable, "-c", TRACKED, str(checkpoint)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not barred.exists(), barred.read_text()
    assert not [path for path in home.rglob("*") if "mlflow" in path.name]


def test_a_file_in_the_current_folder_is_not_run_in_place_of_pythons_own(pristine_bundle: Path, tmp_path: Path) -> None:
    for name in ("json", "queue", "random"):
        (tmp_path / f"{name}.py").write_text("open('sprung', 'w')\nraise SystemExit\n")
    code = "import sys; sys.path.pop(0); from medcompress.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "benchmark", str(pristine_bundle)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()
