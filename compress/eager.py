"""The network as plain torch, as a baseline for latency: a worker process of its own.

The weights are random: they do not change the time, and a bundle does not carry them for torch. It runs as torch does
when nobody has tuned it: contiguous memory, no compilation.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..benchmarks.candidate import Candidate
from ..benchmarks.timing.worker import serve
from ..runtime.engines import ENGINES, Executed
from ..runtime.records import from_json, to_json

NAME = "torch-eager-fp32"


class TorchEngine:
    """A module in evaluation mode on the CPU."""

    def __init__(self, spec: bytes, threads: int) -> None:
        import torch

        from ..trained.networks.architectures import build
        from ..trained.spec import ModelSpec

        torch.set_num_threads(threads)
        self._torch = torch
        self._module = build(from_json(spec, ModelSpec, "spec")).eval()
        self.executed = Executed(f"torch {torch.__version__.split('+')[0]}", "cpu", "fp32", threads)

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to (N, classes)."""
        with self._torch.inference_mode():
            return self._module(self._torch.from_numpy(batch)).numpy()

    def close(self) -> None:
        """Nothing to free before the process ends."""


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> TorchEngine:
    """The network of a ModelSpec's JSON; it is timed, and gives nothing but its outputs."""
    return TorchEngine(files[0].read_bytes(), threads)


def candidate(spec: object, folder: Path) -> Candidate | None:
    """The baseline for a network's spec, written to ``folder``; None where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    path = folder / "spec.json"
    path.write_bytes(to_json(spec))
    command = (sys.executable, "-P", "-m", __name__)
    return Candidate(NAME, "torch", "fp32", (path,), judged=False, command=command)


if __name__ == "__main__":
    ENGINES["torch"] = "medcompress.compress.eager"
    serve()
