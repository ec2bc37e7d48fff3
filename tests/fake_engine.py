"""A fake engine, for tests of what goes wrong: it computes nothing. Run as a worker: python fake_engine.py"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from medcompress.runtime.engines import ENGINES, Executed
from medcompress.runtime.errors import EngineError


class FakeEngine:
    """Answers the same logits to every image, or fails in the way it is told to.

    The model is JSON: ``logits`` (one value a class), and optionally ``fail``: ``load`` and ``run`` raise, ``crash``
    kills the process at the first run, ``hang`` sleeps there, ``nan`` answers none; ``print`` writes to stdout. With
    ``wait``, the path of a file, every run waits for as long as that file exists. ``most`` is the largest batch that
    fits; with ``engine_ms`` it says that this is what it took itself, as engines on a GPU do.
    """

    def __init__(self, model: dict[str, object], executed: Executed) -> None:
        self._logits = np.asarray(model["logits"], dtype=np.float32)
        self._fail = model.get("fail")
        self._wait = Path(str(model.get("wait", "")))
        self._most = int(str(model.get("most", 1000)))
        self.executed = executed
        if "engine_ms" in model:
            part = SimpleNamespace(engine=model["engine_ms"])
            self.parts = lambda batch, runs: [part] * runs

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to the told logits, (N, classes)."""
        if self._fail == "crash":
            os.abort()
        if self._fail == "hang":
            time.sleep(3600)
        if len(batch) > self._most:
            raise EngineError("not enough memory of the fake device is free")
        if self._fail == "run":
            raise EngineError("the fake engine was told to fail")
        if self._fail == "print":
            os.write(1, b"a native library greets\n")
        while self._wait.is_file():
            time.sleep(0.01)
        answer = np.tile(self._logits, (len(batch), 1))
        return answer * np.nan if self._fail == "nan" else answer

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """The logits; it has no tensors."""
        return [self.run(batch)]

    def close(self) -> None:
        """Nothing to free."""


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> FakeEngine:
    """Load the JSON described at :class:`FakeEngine`."""
    model = json.loads(files[0].read_text())
    if model.get("fail") == "load":
        raise EngineError("the fake engine was told not to load")
    return FakeEngine(model, Executed("fake", "none", precision, threads))


if __name__ == "__main__":
    from medcompress.benchmarks.timing.worker import serve

    sys.modules["fake_engine"] = sys.modules["__main__"]
    ENGINES["fake"] = "fake_engine"
    serve()
