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
        device: the execution provider or device.
        precision: of the arithmetic: ``fp32``, ``bf16``, ``int8``, ``int8-bf16`` (INT8, the float layers in bf16).
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


# Engine -> the module that owns its backend: each has load(files, precision, threads, tensors) -> Engine.
ENGINES = {
    "onnxruntime": ".onnxruntime_engine",
    "openvino": ".openvino_engine",
}


def load_engine(
    engine: str, files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()
) -> Engine:
    """Load a model into an engine.

    Args:
        engine: a key of :data:`ENGINES`.
        files: the model, then its weights where they are apart (beside it, under the name the engine expects).
        precision: to execute: ``fp32``, ``bf16``, ``int8`` (whose float part runs in fp32) or ``int8-bf16``.
        threads: for one inference.
        tensors: names of tensors within the model that it is to give beside its outputs.

    Raises:
        EngineAbsent: the engine is not installed.
        EngineError: it is unknown, cannot take the model, or the model has no such tensor.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} is not known here; known are: {', '.join(ENGINES)}")
    try:
        module = import_module(ENGINES[engine], __package__)
    except ImportError as error:
        message = f"{engine} is not installed ({error}); install it with: pip install 'medcompress[{engine}]'"
        raise EngineAbsent(message) from error
    return module.load(files, precision, threads, tensors)
