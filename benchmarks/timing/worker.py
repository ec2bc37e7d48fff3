"""One engine in a process of its own: what crashes, hangs or spins there does so alone.

Engines that share a process disturb each other's timing (idle thread pools spin), and a graph foreign to an engine
can end the process with a segmentation fault. The parent sends one JSON line a request; arrays travel as .npy files.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.building import make_ready
from ...runtime.engines import Engine, Executed, load_engine
from ...runtime.errors import EngineAbsent, EngineError, MedcompressError
from ...runtime.preprocessing import Preprocessing

# -P: a json.py that lies in the current folder is not to be run in place of Python's own.
COMMAND = (sys.executable, "-P", "-m", "medcompress.benchmarks.timing.worker")
LIMIT_S = 600.0
_PART = 64

# What a child does with its engine: the name of a request -> the fields of its answer.
Handlers: TypeAlias = Mapping[str, Callable[..., dict[str, Any]]]


class Worker:
    """The parent's end: a child process that holds one engine. Use as a context manager.

    Raises (all methods):
        EngineError: the child reported an error, died, or gave no answer in time.
    """

    def __init__(self, command: Sequence[str] = COMMAND, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._folders: set[str] = set()
        self._child = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def load(self, engine: str, files: Sequence[Path], precision: str, threads: int) -> Executed:
        """Load a model; returns what the engine says it executes."""
        self._folders = {f"{file.parent}/" for file in files}
        answer = self._ask(
            do="load", engine=engine, files=[str(file) for file in files], precision=precision, threads=threads
        )
        return msgspec.convert(answer["executed"], Executed)

    def run(self, rendered: Path, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
        """Outputs (N, classes) for an .npy file of rendered images (uint8), each run alone, as a kiosk would."""
        count = len(np.load(rendered, mmap_mode="r", allow_pickle=False))
        prepare = msgspec.to_builtins(preprocessing)
        outputs: list[list[float]] = []
        # In parts, so that the time limit is for a part, however many images there are.
        for start in range(0, count, _PART):
            outputs += self._ask(
                do="run", rendered=str(rendered), preprocessing=prepare, start=start, stop=start + _PART
            )["logits"]
        return np.asarray(outputs, dtype=np.float32)

    def time(self, shape: Sequence[int], seconds: float, least: int) -> list[float]:
        """Milliseconds of single runs on one batch of that shape, for so long and at least so many times."""
        return self._ask(do="time", shape=list(shape), seconds=seconds, least=least)["ms"]

    def engine_times(self, shape: Sequence[int], runs: int) -> list[float]:
        """Milliseconds of the engine alone, by its device's clock, copies left out; empty where it cannot tell."""
        return self._ask(do="engine_times", shape=list(shape), runs=runs)["ms"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _plain(self, message: str) -> str:
        """Without the folders of this machine: what an engine says travels in reports."""
        for folder in self._folders:
            message = message.replace(folder, "")
        return message

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead child is told apart below
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        try:
            line = self._lines.get(timeout=self._limit_s)
        except queue.Empty:
            self.close()
            raise EngineError(f"gave no answer in {self._limit_s:.0f} s and was stopped") from None
        if not line:
            self._lines.put("")  # for the next request: a dead child is not waited for
            raise EngineError(f"its process ended ({ended_by(self._child.wait())})")
        answer = json.loads(line)
        if "error" in answer:
            raise (EngineAbsent if answer["absent"] else EngineError)(self._plain(answer["error"]))
        return answer


def _model(engine: Engine) -> Handlers:
    return {
        "run": partial(_run, engine),
        "time": partial(_time, engine),
        "engine_times": partial(_engine_times, engine),
    }


def _run(engine: Engine, rendered: str, preprocessing: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    prepare = msgspec.convert(preprocessing, Preprocessing)
    images = np.load(rendered, mmap_mode="r", allow_pickle=False)[start:stop]
    return {"logits": [engine.run(prepare.normalize(np.asarray(image))[None])[0].tolist() for image in images]}


def _time(engine: Engine, shape: Sequence[int], seconds: float, least: int) -> dict[str, Any]:
    batch = _noise(shape)
    engine.run(batch)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        start = time.perf_counter_ns()
        engine.run(batch)
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return {"ms": taken}


def _engine_times(engine: Engine, shape: Sequence[int], runs: int) -> dict[str, Any]:
    # Of the engines that can: parts(batch, runs), each with ``engine``, in milliseconds.
    parts = getattr(engine, "parts", None)
    return {"ms": [each.engine for each in parts(_noise(shape), runs)] if parts else []}


def _noise(shape: Sequence[int]) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(tuple(shape), dtype=np.float32)


def serve(open_model: Callable[[Engine], Handlers] = _model) -> None:
    """The child's end: answer requests until standard input ends.

    Args:
        open_model: given the engine, what the child does with it.
    """
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Native libraries print to descriptor 1: the answers get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    handlers: Handlers = {}
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "load":
                files = [Path(file) for file in request.pop("files")]
                make_ready(request["engine"], files, request["precision"])
                engine = load_engine(request["engine"], files, request["precision"], request["threads"])
                handlers = open_model(engine)
                answer: dict[str, Any] = {"executed": msgspec.to_builtins(engine.executed)}
            elif not handlers:
                raise EngineError("no model is loaded")
            else:
                answer = handlers[do](**request)
        except MedcompressError as error:
            answer = {"error": str(error), "absent": isinstance(error, EngineAbsent)}
        except Exception as error:  # the parent must hear of it whatever it is
            answer = {"error": f"{type(error).__name__}: {error}", "absent": False}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def ended_by(code: int) -> str:
    """A child's exit code in words: the code, or the signal's name."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


if __name__ == "__main__":
    serve()
