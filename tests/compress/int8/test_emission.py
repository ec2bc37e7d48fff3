"""A form is made apart: what its converter does there, it does alone."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from medcompress.compress.int8 import emission
from medcompress.compress.int8.emission import Request, make_apart
from medcompress.compress.int8.plan import Plan
from medcompress.runtime.errors import EngineError
from medcompress.runtime.preprocessing import Preprocessing


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request(
        "onnxruntime",
        "avx2",
        str(tmp_path / "none.onnx"),
        str(tmp_path / "ranges.json"),
        Plan(),
        "",
        Preprocessing((8, 8)),
        str(tmp_path / "form.onnx"),
    )


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    script = tmp_path / "child.py"
    script.write_text(f"import os, signal, sys, time\nsys.stdin.buffer.read()\n{program}\n")
    monkeypatch.setattr(emission, "_COMMAND", (sys.executable, str(script)))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process that made it ended (SIGSEGV)"),
        ("sys.exit(7)", "the process that made it ended (exit code 7)"),
    ],
)
def test_a_crash_is_told_by_its_signal_or_code(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    child(tmp_path, monkeypatch, program)
    with pytest.raises(EngineError) as found:
        make_apart(request_)
    assert str(found.value) == told


def test_one_that_hangs_is_stopped(request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(EngineError, match="was not made in 1 s and was stopped"):
        make_apart(request_, limit_s=1)


def test_what_it_prints_is_no_answer(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as told:
        make_apart(request_)
    assert "none.onnx" in str(told.value)
    assert "\n" not in str(told.value)
    assert str(tmp_path) not in str(told.value), "no folder of this machine"


def test_a_full_disk_is_no_fault_of_the_form(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(tmp_path, monkeypatch, f"print('{{\"disk\": {errno.ENOSPC}}}')")
    with pytest.raises(OSError) as told:
        make_apart(request_)
    assert told.value.errno == errno.ENOSPC
