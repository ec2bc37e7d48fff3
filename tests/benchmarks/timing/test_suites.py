"""The suites are collected when they are asked for, and each runs once where nothing is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medcompress.benchmarks.timing.saved_run import read_run

ROOT = Path(__file__).parents[3]


def _pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Where this is one of several workers, pytest-benchmark must not take itself for one.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=own)


def test_a_suite_runs_each_benchmark_once_where_nothing_is_measured() -> None:
    done = _pytest("benchmarks/suites/bench_preprocess.py", "-q", "--benchmark-disable")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_all_benchmarks_take_turns_and_each_round_is_kept(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    options = ("--rounds", "2", "--benchmark-enable", "--benchmark-json", str(saved))
    done = _pytest("benchmarks/suites/bench_preprocess.py", *options)
    assert done.returncode == 0, done.stdout
    order = [benchmark["params"]["round"] for benchmark in json.loads(saved.read_text())["benchmarks"]]
    assert order == [0, 0, 0, 1, 1, 1]
    run = read_run(saved)
    assert [len(medians) for medians in run.medians_s.values()] == [2, 2, 2]
    assert run.shares.keys() == run.medians_s.keys()


@pytest.mark.parametrize(
    ("option", "value", "part"), [("--rounds", "0", "at least 1"), ("--bundle", "nowhere", "is not a bundle")]
)
def test_a_wrong_option_is_one_line(option: str, value: str, part: str) -> None:
    done = _pytest("benchmarks/suites/bench_engines.py", option, value)
    assert done.returncode == 4
    assert part in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
