"""ONNX Runtime on the CPU. https://onnxruntime.ai/docs/api/python/api_summary.html"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ..errors import EngineError, first_line
from .base import Executed

_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeEngine:
    """One inference session; ONNX Runtime allows concurrent runs of a session."""

    def __init__(self, session: ort.InferenceSession, executed: Executed) -> None:
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self.executed = executed

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to (N, classes)."""
        if self._session is None:
            raise EngineError("the ONNX Runtime engine was closed")
        try:
            return np.asarray(self._session.run(None, {self._input: batch})[0])
        except Exception as error:  # its exceptions share no base class
            raise EngineError(f"ONNX Runtime could not run the model ({first_line(error, 300)})") from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def load(files: Sequence[Path], precision: str, threads: int) -> OnnxRuntimeEngine:
    """Load an ONNX model; its own graph sets the precision (``bf16`` is not offered on the CPU).

    Raises:
        EngineError: not a model it can take.
    """
    if precision not in {"fp32", "int8"}:
        raise EngineError(f"ONNX Runtime's CPU provider does not execute {precision}; use openvino for it")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The arena keeps up to twice what a run needs and makes none faster: 16 MB less for a ResNet-50 in INT8.
    options.enable_cpu_mem_arena = False
    try:
        session = ort.InferenceSession(str(files[0]), options, providers=[_PROVIDER])
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load the model ({first_line(error, 300)})") from error
    provider = session.get_providers()[0]
    executed = Executed(f"onnxruntime {ort.__version__}", provider, precision, threads)
    return OnnxRuntimeEngine(session, executed)
