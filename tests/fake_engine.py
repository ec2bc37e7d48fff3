"""A fake engine for tests: it computes nothing, and answers what its model bytes say."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .base import Executed


class FakeEngine:
    """Answers the same logits to every image, or fails in the way it is told to.

    The model is JSON: ``logits`` (one value a class), and optionally ``fail``: ``load`` and ``run`` raise,
    ``crash`` kills the process at the first run, ``hang`` sleeps for an hour there.
    """

    def __init__(self, model: dict[str, object], executed: Executed) -> None:
        self._logits = np.asarray(model["logits"], dtype=np.float32)
        self._fail = model.get("fail")
        self.executed = executed

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to the told logits, (N, classes)."""
        if self._fail == "crash":
            os.abort()
        if self._fail == "hang":
            time.sleep(3600)
        if self._fail == "run":
            raise EngineError("the fake engine was told to fail")
        return np.tile(self._logits, (len(batch), 1))

    def close(self) -> None:
        """Nothing to free."""


def load(files: Sequence[bytes], precision: str, threads: int) -> FakeEngine:
    """Load the JSON described at :class:`FakeEngine`."""
    model = json.loads(files[0])
    if model.get("fail") == "load":
        raise EngineError("the fake engine was told not to load")
    return FakeEngine(model, Executed("fake", "none", precision, threads))
