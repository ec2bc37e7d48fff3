"""ONNX Runtime on the CPU. https://onnxruntime.ai/docs/api/python/api_summary.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        return self.run_all(batch)[0]

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """(N, C, H, W) to (N, classes), and the tensors it was loaded with."""
        if self._session is None:
            raise EngineError("the ONNX Runtime engine was closed")
        try:
            return [np.asarray(output) for output in self._session.run(None, {self._input: batch})]
        except Exception as error:  # its exceptions share no base class
            raise EngineError(f"ONNX Runtime could not run the model ({first_line(error, 300)})") from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OnnxRuntimeEngine:
    """Load an ONNX model; its own graph sets the precision (``bf16`` is not offered on the CPU).

    Raises:
        EngineError: not a model it can take, or it has no such tensor.
    """
    if precision not in {"fp32", "int8"}:
        raise EngineError(f"ONNX Runtime's CPU provider does not execute {precision}; use openvino for it")
    session = _session(model_of(files, tensors), threads)
    provider = session.get_providers()[0]
    executed = Executed(f"onnxruntime {ort.__version__}", provider, precision, threads)
    return OnnxRuntimeEngine(session, executed)


def model_of(files: Sequence[Path], tensors: Sequence[str]) -> str | bytes:
    """A model as a session takes it, with tensors within it as outputs too.

    From a file, where nothing is added: the file is mapped, its bytes would lie in memory.
    """
    return files[0].read_bytes() + _outputs(tensors) if tensors else str(files[0])


def options_for(threads: int) -> ort.SessionOptions:
    """Of a session: so many threads, and of what it says only errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def load_graph(file: Path) -> Callable[[Sequence[npt.NDArray[np.float32]]], npt.NDArray[np.float32]]:
    """A small ONNX graph of one output and any number of inputs, given in their order.

    Raises:
        EngineError: not a graph it can take.
    """
    session = _session(str(file), 1)
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])
        except Exception as error:  # its exceptions share no base class
            raise EngineError(f"ONNX Runtime could not run {file.name} ({first_line(error, 300)})") from error

    return run


def _outputs(names: Sequence[str]) -> bytes:
    """Bytes that, put after those of an ONNX model, make tensors of it outputs too.

    Messages that follow one another are merged, and what may be there several times is appended
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins): this one is a ModelProto of a graph (field 7) of
    outputs (field 12) of a name (field 1), by https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. So the package
    ``onnx`` is not needed for it.
    """
    values = [_field(12, _field(1, name.encode())) for name in names]
    return _field(7, b"".join(values))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes (wire type 2): its tag, its length in seven bits a byte, and itself."""
    length, left = bytearray(), len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes([number << 3 | 2]) + bytes(length) + content


def _session(model: str | bytes, threads: int) -> ort.InferenceSession:
    options = options_for(threads)
    # The arena keeps up to twice what a run needs and makes none faster: 16 MB less for a ResNet-50 in INT8.
    options.enable_cpu_mem_arena = False
    try:
        return ort.InferenceSession(model, options, providers=[_PROVIDER])
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load the model ({first_line(error, 300)})") from error
