"""No socket is opened and nothing is left for a later report: in a fresh process, with a home folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medcompress.runtime.bundle import open_bundle

# Every Python-level way out is barred; what native code queues for an upload it leaves in the home folder.
GUARD = """
import os, socket
def barred(*arguments, **options):
    with open(os.environ["BARRED"], "a") as file:
        file.write(f"{arguments}\\n")
    raise AssertionError(f"a socket is opened: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = barred
"""


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
    trial = ["-m", "medcompress.runtime.trial", bundle, open_bundle(bundle).identity, variants[1], "1"]
    assert _network_calls(trial, trace) == []


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
