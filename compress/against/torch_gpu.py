"""A network in torch on an NVIDIA GPU, as a peer for latency: a worker process of its own.

``eager`` is torch as it is when nobody has tuned it: in FP32, its convolutions in TF32 where the GPU has that
(https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices). The compiled
ones are what its own documentation recommends for convolutions on a GPU: 16-bit floats, channels last,
``torch.compile``, without and with CUDA graphs
(https://docs.pytorch.org/docs/stable/generated/torch.compile.html). The weights are random.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.candidate import Candidate
from ...benchmarks.timing.worker import serve
from ...runtime.engines import ENGINES, Executed
from ...runtime.records import from_json, to_json

EAGER, COMPILED, GRAPHS = "torch-eager", "torch-compile-fp16", "torch-compile-fp16-graphs"
# Form -> its precision, and the mode of torch.compile; None is not compiled.
_FORMS = {EAGER: ("tf32", None), COMPILED: ("fp16", "default"), GRAPHS: ("fp16", "reduce-overhead")}
_DEVICE = "cuda"


class Part(NamedTuple):
    """Milliseconds of the network alone, by the GPU's clock."""

    engine: float


class _Form(msgspec.Struct, frozen=True):
    """What the worker is told: a network's ModelSpec, and a mode of torch.compile."""

    spec: dict[str, Any]
    mode: str | None


class TorchGpuEngine:
    """A module in evaluation mode on the GPU."""

    def __init__(self, form: bytes, precision: str, threads: int) -> None:
        import torch

        from ...trained.networks.architectures import build
        from ...trained.spec import ModelSpec

        told = from_json(form, _Form, "form")
        self._torch = torch
        self._type = torch.float16 if precision == "fp16" else torch.float32
        self._format = torch.channels_last if precision == "fp16" else torch.contiguous_format
        module: Any = build(msgspec.convert(told.spec, ModelSpec)).eval()
        module = module.to(_DEVICE, self._type, memory_format=self._format)
        if precision == "tf32" and torch.cuda.get_device_capability() < (8, 0):
            precision = "fp32"
        self._module = module if told.mode is None else torch.compile(module, mode=told.mode, dynamic=False)
        self.executed = Executed(f"torch {torch.__version__}", _DEVICE, precision, threads)

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to (N, classes)."""
        with self._torch.inference_mode():
            return self._module(self._there(batch)).float().cpu().numpy()

    def parts(self, batch: npt.NDArray[np.float32], runs: int) -> list[Part]:
        """What the network alone took, of some inferences."""
        torch, found = self._torch, []
        with torch.inference_mode():
            there = self._there(batch)
            self._module(there)
            for _ in range(runs):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                self._module(there)
                end.record()
                end.synchronize()
                found.append(Part(start.elapsed_time(end)))
        return found

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """The outputs; it has no tensors."""
        return [self.run(batch)]

    def close(self) -> None:
        """Nothing to free before the process ends."""

    def _there(self, batch: npt.NDArray[np.float32]) -> Any:
        return self._torch.from_numpy(batch).to(_DEVICE, self._type, memory_format=self._format)


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> TorchGpuEngine:
    """The form that :func:`candidates` wrote; it is timed, and gives nothing but its outputs."""
    return TorchGpuEngine(files[0].read_bytes(), precision, threads)


def candidates(spec: object, folder: Path) -> list[Candidate]:
    """The peers for a network's ModelSpec, written to ``folder``."""
    command = (sys.executable, "-P", "-m", __name__)
    found = []
    for name, (precision, mode) in _FORMS.items():
        path = folder / f"{name}.json"
        path.write_bytes(to_json(_Form(msgspec.to_builtins(spec), mode)))
        found.append(Candidate(name, "torch-gpu", precision, (path,), judged=False, command=command))
    return found


if __name__ == "__main__":
    ENGINES["torch-gpu"] = "medcompress.compress.against.torch_gpu"
    serve()
