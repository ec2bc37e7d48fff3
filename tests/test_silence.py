"""No socket is opened and nothing is left for a later report: in a fresh process, with a home folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medcompress.runtime.bundle import open_bundle

if TYPE_CHECKING:
    from .conftest import Ran

Guarded = Callable[[Path], dict[str, str]]

# What the system is asked for cannot be hidden from it: native code and child processes are seen too.
TRACED = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=%network", "-e", "signal=none", "-o")
ANSWERED = """
import sys
from medcompress.runtime import load
bundle, image, *variants = sys.argv[1:]
for name in variants:
    predictor = load(bundle, variant=name)
    assert predictor.predict(image).variant == name
predictor.self_test()
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


def _left(folder: Path) -> list[str]:
    """Files in the home folder but for matplotlib's: it keeps a list of the fonts."""
    home = folder / "home"
    left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return [name for name in left if "matplotlib" not in name]


def _connected(folder: Path) -> str:
    """What was connected to; workers keep their stderr to themselves."""
    barred = folder / "barred"
    return barred.read_text() if barred.exists() else ""


@pytest.mark.parametrize("command", ["predict", "verify", "benchmark"])
def test_nothing_leaves_the_machine_and_no_file_of_the_current_folder_is_run_in_place_of_pythons_own(
    command: str, program: list[str], pristine_bundle: Path, image: Path, tmp_path: Path, guarded: Guarded
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json", "queue", "random"):
        (here / f"{name}.py").write_text("open('sprung', 'w')\nraise SystemExit\n")
    arguments = [command, str(pristine_bundle), *([str(image)] if command == "predict" else [])]
    done = subprocess.run([*program, *arguments], env=guarded(tmp_path), cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not _connected(tmp_path)
    assert _left(tmp_path) == []
    assert not (here / "sprung").exists()


def test_nothing_leaves_the_machine_that_optimizes(optimized: Ran) -> None:
    assert optimized.code == 0, optimized.said
    assert not _connected(optimized.folder)
    assert _left(optimized.folder) == []


def _network_calls(arguments: list[str], trace: Path) -> list[str]:
    """Every system call of the network's that a Python process and its children make."""
    command = [*TRACED, str(trace), sys.executable, "-P", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in done.stderr and not trace.read_text():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return trace.read_text().splitlines()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (Debian: apt-get install strace)")
def test_no_socket_is_opened_by_either_engine_nor_by_what_tries_them(
    pristine_bundle: Path, image: Path, tmp_path: Path
) -> None:
    trace, bundle = tmp_path / "trace", str(pristine_bundle)
    seen = _network_calls(["-c", "import socket; socket.socket(socket.AF_UNIX)"], trace)
    assert any("socket(" in line for line in seen), "a socket would be seen"
    variants = ["onnxruntime-int8-avx2", "openvino-int8-avx2"]
    assert _network_calls(["-c", ANSWERED, bundle, str(image), *variants], trace) == []
    assert _network_calls(["-m", "medcompress.cli.main", "predict", bundle, str(image)], trace) == []
    trial = ["-m", "medcompress.runtime.trial", bundle, open_bundle(bundle).identity, "1", "0", "heat", variants[1]]
    assert _network_calls(trial, trace) == []


def test_what_is_tracked_stays_on_the_machine(checkpoint: Path, tmp_path: Path, guarded: Guarded) -> None:
    pytest.importorskip("mlflow")
    # MLflow is silent by itself where it takes itself to be tested.
    told = ("MLFLOW_", "PYTEST_", "CI", "GITHUB_", "GITLAB_", "DO_NOT_TRACK")
    environment = {name: value for name, value in guarded(tmp_path).items() if not name.startswith(told)}
    done = subprocess.run(
        [sys.executable, "-c", TRACKED, str(checkpoint)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not _connected(tmp_path)
    assert not [path for path in (tmp_path / "home").rglob("*") if "mlflow" in path.name]
