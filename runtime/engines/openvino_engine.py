"""OpenVINO on the CPU. https://docs.openvino.ai/2025/api/ie_python_api/api.html"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import Empty, LifoQueue

import numpy as np
import numpy.typing as npt
import openvino as ov

from ..errors import EngineError
from .base import Executed

# INT8 keeps its float layers in f32: bf16 there would make the answers depend on the CPU, and is a form of its own.
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "int8-bf16": "bf16"}
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoEngine:
    """One compiled model and a pool of infer requests, one for each thread that is inside ``run``."""

    def __init__(self, model: ov.CompiledModel, executed: Executed) -> None:
        self._model: ov.CompiledModel | None = model
        self._idle: LifoQueue[ov.InferRequest] = LifoQueue()
        self.executed = executed

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to (N, classes)."""
        return self.run_all(batch)[0]

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """(N, C, H, W) to (N, classes), and the tensors it was loaded with."""
        if self._model is None:
            raise EngineError("the OpenVINO engine was closed")
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        try:
            found = request.infer([batch], share_inputs=True)
            # Each is copied: the request's own buffers are overwritten by its next use.
            return [np.array(found[place]) for place in range(len(self._model.outputs))]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO could not run the model ({_first_line(error)})") from error
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Free the model."""
        self._idle = LifoQueue()
        self._model = None


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OpenVinoEngine:
    """Load an ONNX model, or OpenVINO's own format (xml, then weights).

    Raises:
        EngineError: not a model it can take, it has no such tensor, or a precision this CPU does not execute.
    """
    core = ov.Core()
    hint = _HINTS.get(precision)
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if hint is None or (hint == "bf16" and "BF16" not in capabilities):
        raise EngineError(f"OpenVINO does not execute {precision} on this CPU; use an fp32 or int8 variant")
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
    }
    try:
        model = core.read_model(files[0])  # its weights are found beside it
        if tensors:
            model.add_outputs(list(tensors))
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot load the model ({_first_line(error)})") from error
    return OpenVinoEngine(compiled, _executed(compiled, precision))


def _executed(compiled: ov.CompiledModel, precision: str) -> Executed:
    ran = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return Executed(
        engine=f"openvino {ov.__version__.split('-')[0]}",
        device=",".join(compiled.get_property("EXECUTION_DEVICES")),
        precision=_precision(precision, ran, _has_int8(compiled)),
        threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
    )


def _precision(asked: str, ran: str, has_int8: bool) -> str:
    if not asked.startswith("int8") or not has_int8:
        return _NAMES[ran]
    return "int8" if ran == "f32" else f"int8-{_NAMES[ran]}"


def _has_int8(compiled: ov.CompiledModel) -> bool:
    """Whether any convolution or product really executes in 8 bits, by the plugin's own account."""
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in {"Convolution", "FullyConnected", "MatMul"} and info[
            "runtimePrecision"
        ].astype(str) in {"i8", "u8"}:
            return True
    return False


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
