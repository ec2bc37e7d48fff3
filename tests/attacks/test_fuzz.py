"""A short, seeded part of the fuzzer; the long ones are run by hand."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medcompress.runtime.errors import ImageError

FUZZ = Path(__file__).with_name("fuzz.py")


def test_damaged_files_are_read_or_refused_within_time_and_memory(tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZ), "--count", "1500", "--seed", "7", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    kept = "\n".join(path.read_text() for path in tmp_path.glob("*.txt"))
    assert done.returncode == 0, done.stdout + done.stderr + kept
    assert done.stdout.startswith("1500 inputs of seed 7")
    for kind in ("image", "manifest"):  # neither all whole nor all beyond recognition
        for what in ("read", "refused"):
            found = re.search(rf"(\d+) {kind} {what}", done.stdout)
            assert found and int(found[1]) > 5, done.stdout


@pytest.mark.parametrize("ends", ["os.kill(os.getpid(), 11)", "os._exit(3)"])
def test_what_ends_the_process_is_noted_by_its_number_and_the_rest_goes_on(ends: str, tmp_path: Path) -> None:
    code = f"""
import os, runpy, sys
sys.argv[0] = {str(FUZZ)!r}
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz
fuzz.__file__ = __file__
inputs = []
def use(data):
    inputs.append(data)
    if "--take" in sys.argv and len(inputs) == 5 and sys.argv[sys.argv.index("--take") + 1] == "0":
        {ends}
fuzz.USES = dict.fromkeys(fuzz.USES, use)
sys.exit(fuzz.main())
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script), "--count", "30", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "5 in processes that ended" in done.stdout
    assert "unexpected: 1, kept" in done.stdout
    assert "its process ended" in (tmp_path / "kept" / "0-4.txt").read_text()


def test_only_a_line_is_a_refusal() -> None:
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert spec and spec.loader
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)

    def refuse(message: str) -> str:
        def use(_: bytes) -> None:
            raise ImageError(message)

        return fuzz.outcome(use, b"")

    assert refuse("x.png: is damaged; copy it again") == "refused"
    assert refuse("x.png: \x1b[2J") != "refused"
    assert refuse("x" * 3000) != "refused"
    assert "KeyError" in fuzz.outcome(lambda data: {}[data], b"")
    assert fuzz.outcome(len, b"") == "read"
