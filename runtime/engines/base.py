"""What every inference engine offers: load, run, close, and what it really executed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import EngineAbsent, EngineError


class Executed(msgspec.Struct, frozen=True):
    """What runs, as the engine itself tells it where it does.

    Attributes:
        engine: name and version.
        device: the execution provider or device that ran.
        precision: of the arithmetic: ``fp32``; ``tf32`` (products of 32-bit floats of which 19 bits are read), ``bf16``
            or ``fp16``; ``int8``, ``int8-bf16`` or ``int8-fp16`` (INT8, the float layers in 16 bits).
        threads: that share one inference.
    """

    engine: str
    device: str
    precision: str
    threads: int


class Engine(Protocol):
    """A loaded model. ``run`` may be called from several threads at once."""

    @property
    def executed(self) -> Executed: ...

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, channels, height, width) to raw outputs (N, classes)."""
        ...

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """The raw outputs, then the tensors the model was loaded with."""
        ...

    def close(self) -> None: ...


# Engine -> the module that owns its backend, and after a colon its function where that is not ``load``:
# load(files, precision, threads, tensors) -> Engine. Before a hyphen stands the package an engine is part of.
ENGINES = {
    "onnxruntime": ".onnxruntime_engine",
    "onnxruntime-cuda": ".onnxruntime_gpu:load_cuda",
    "onnxruntime-tensorrt": ".onnxruntime_gpu:load_tensorrt",
    "openvino": ".openvino_engine",
    "openvino-gpu": ".openvino_engine:load_gpu",
    "openvino-npu": ".openvino_engine:load_npu",
    "openvino-auto": ".openvino_engine:load_auto",
    "tensorrt": ".tensorrt_engine",
}


def package_of(engine: str) -> str:
    """The package an engine is part of, which is that of its CPU's engine too: ``openvino`` for ``openvino-gpu``."""
    return engine.partition("-")[0]


def load_engine(
    engine: str, files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()
) -> Engine:
    """Load a model into an engine.

    Args:
        engine: a key of :data:`ENGINES`.
        files: the model, then its weights where they are apart (beside it, under the name the engine expects).
        precision: to execute, see :class:`Executed`; the float part of ``int8`` runs in fp32.
        threads: for one inference.
        tensors: names of tensors within the model that it is to give beside its outputs.

    Raises:
        EngineAbsent: the engine is not installed.
        EngineError: it is unknown, cannot take the model, or the model has no such tensor.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} is not known here; known are: {', '.join(ENGINES)}")
    try:
        name, _, function = ENGINES[engine].partition(":")
        module = import_module(name, __package__)
    except ImportError as error:
        package = package_of(engine)
        message = f"{package} is not installed ({error}); install it with: pip install 'medcompress[{package}]'"
        raise EngineAbsent(message) from error
    return getattr(module, function or "load")(files, precision, threads, tensors)
