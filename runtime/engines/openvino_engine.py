"""OpenVINO on the CPU, Intel's GPU and NPU, and where AUTO will. https://docs.openvino.ai/2025/api/ie_python_api/api.html

What is told as the device is what the compiled model says it runs on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from ..errors import EngineAbsent, EngineError
from .base import Executed

# INT8 keeps its float layers in f32: bf16 there would make the answers depend on the CPU, and is a form of its own.
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "int8-bf16": "bf16"}
_ON_GPU = {"fp32": "f32", "fp16": "f16", "int8": "f32", "int8-fp16": "f16"}
_ON_NPU = {"fp16": "f16", "int8-fp16": "f16"}
_ON_AUTO = {"fp32": "f32", "int8": "f32"}
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
# No classifier takes longer on a GPU or NPU, but for the first run of a shape; one that is lost may never answer.
_LIMITS_S = 300.0, 20.0


class OpenVinoEngine:
    """One compiled model and a pool of infer requests, one for each thread that is inside ``run``."""

    def __init__(
        self,
        model: ov.CompiledModel,
        executed: Executed,
        *,
        single: bool = False,
        limits_s: tuple[float, float] | None = None,
    ) -> None:
        self._model: ov.CompiledModel | None = model
        self._single = single
        self._limits_s = limits_s
        self._shapes: set[tuple[int, ...]] = set()
        self._refuses = ""
        self._idle: LifoQueue[ov.InferRequest] = LifoQueue()
        self.executed = executed

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, C, H, W) to (N, classes)."""
        return self.run_all(batch)[0]

    def run_all(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """(N, C, H, W) to (N, classes), and the tensors it was loaded with."""
        # Another thread may close it meanwhile: what is under way ends with what it began with.
        model, idle = self._model, self._idle
        if model is None:
            raise EngineError("the OpenVINO engine was closed")
        if self._refuses:
            raise EngineError(self._refuses)
        try:
            request = idle.get_nowait()
        except Empty:
            request = model.create_infer_request()
        try:
            parts = [batch[place : place + 1] for place in range(len(batch))] if self._single else [batch]
            found = [self._infer(request, part, len(model.outputs)) for part in parts]
        except RuntimeError as error:
            idle.put(request)
            raise EngineError(f"OpenVINO could not run the model ({_first_line(error)})") from error
        idle.put(request)
        return [np.concatenate(each) for each in zip(*found, strict=True)] if self._single else found[0]

    def close(self) -> None:
        """Free the model."""
        self._idle = LifoQueue()
        self._model = None

    def _infer(
        self, request: ov.InferRequest, batch: npt.NDArray[np.float32], outputs: int
    ) -> list[npt.NDArray[np.float32]]:
        """Each output is copied: the request's own buffers are overwritten by its next use.

        Raises:
            EngineError: the device gave no answer in time; it is asked for no other.
        """
        if self._limits_s is None:
            request.infer([batch], share_inputs=True)
        else:
            first_s, later_s = self._limits_s
            limit_s = later_s if batch.shape in self._shapes else first_s
            request.start_async([batch], share_inputs=True)
            if not request.wait_for(round(limit_s * 1000)):
                # Never freed: what frees it waits for it, at the end of the process too.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(request))
                self._refuses = f"the {self.executed.device} gave no answer in {limit_s:g} s; restart the machine"
                raise EngineError(self._refuses)
            self._shapes.add(batch.shape)
        return [np.array(request.get_output_tensor(place).data) for place in range(outputs)]


def load(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OpenVinoEngine:
    """Load an ONNX model, or OpenVINO's own format (xml, then weights), on the CPU.

    Raises:
        EngineError: not a model it can take, it has no such tensor, or a precision this CPU does not execute.
    """
    core = ov.Core()
    hint = _HINTS.get(precision)
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if hint is None or hint == "f16" or (hint == "bf16" and "BF16" not in capabilities):
        raise EngineError(f"OpenVINO does not execute {precision} on this CPU; use an fp32 or int8 variant")
    return _load(
        core, "CPU", {"INFERENCE_PRECISION_HINT": hint, **_of_cpu(threads)}, files, precision, threads, tensors
    )


def load_gpu(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OpenVinoEngine:
    """The same on Intel's GPU: ``fp32`` or ``fp16`` of the same file, ``int8`` or ``int8-fp16``.

    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/gpu-device.html

    Raises:
        EngineAbsent: OpenVINO sees no such GPU.
        EngineError: as for the CPU.
    """
    core = _core_with("GPU")
    hint = _asked(_ON_GPU, precision, "Intel's GPU")
    return _load(
        core, "GPU", {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": "1"}, files, precision, threads, tensors
    )


def load_npu(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OpenVinoEngine:
    """The same on Intel's NPU: ``fp16`` or ``int8-fp16``; images one at a time.

    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/npu-device.html

    Raises:
        EngineAbsent: OpenVINO sees no NPU.
        EngineError: as for the CPU.
    """
    core = _core_with("NPU")
    _asked(_ON_NPU, precision, "Intel's NPU")
    return _load(core, "NPU", {}, files, precision, threads, tensors, single=True)


def load_auto(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OpenVinoEngine:
    """The same on the device OpenVINO's AUTO chooses, which is told as what ran; it stays with its choice.

    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/auto-device-selection.html

    Raises:
        EngineError: as for the CPU.
    """
    hint = _asked(_ON_AUTO, precision, "a device of its choice")
    by_device = {
        "CPU": {"INFERENCE_PRECISION_HINT": hint, **_of_cpu(threads)},
        "GPU": {"INFERENCE_PRECISION_HINT": hint},
    }
    # Else it answers on the CPU until another device is ready, and moves to another where one fails.
    config = {"ENABLE_STARTUP_FALLBACK": False, "ENABLE_RUNTIME_FALLBACK": False, "DEVICE_PROPERTIES": by_device}
    return _load(ov.Core(), "AUTO", config, files, precision, threads, tensors)


def _of_cpu(threads: int) -> dict[str, Any]:
    return {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads}


def _core_with(device: str) -> ov.Core:
    core = ov.Core()
    seen = core.available_devices
    if not any(name.partition(".")[0] == device for name in seen):
        raise EngineAbsent(
            f"OpenVINO sees no {device} here, only {', '.join(seen)}; install the driver of the {device}"
        )
    return core


def _asked(hints: Mapping[str, str], precision: str, where: str) -> str:
    if precision not in hints:
        raise EngineError(f"OpenVINO does not execute {precision} on {where}; it does {', '.join(hints)}")
    return hints[precision]


def _load(
    core: ov.Core,
    device: str,
    config: dict[str, Any],
    files: Sequence[Path],
    precision: str,
    threads: int,
    tensors: Sequence[str],
    *,
    single: bool = False,
) -> OpenVinoEngine:
    """Compile for a device; ``single``: for one image, where the device takes fixed shapes alone."""
    try:
        model = core.read_model(files[0])  # its weights are found beside it
        if tensors:
            model.add_outputs(list(tensors))
        if single:
            model.reshape([1, *list(model.inputs[0].get_partial_shape())[1:]])
        compiled = core.compile_model(model, device, {"PERFORMANCE_HINT": "LATENCY", **config})
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot load the model ({_first_line(error)})") from error
    executed = _executed(compiled, device, precision, threads)
    limits_s = None if executed.device.startswith("CPU") else _LIMITS_S
    return OpenVinoEngine(compiled, executed, single=single, limits_s=limits_s)


def _executed(compiled: ov.CompiledModel, device: str, precision: str, threads: int) -> Executed:
    """As the compiled model tells it: AUTO's, and the device's below it."""
    devices = [name.strip("()") for name in compiled.get_property("EXECUTION_DEVICES")]
    ran = ",".join(devices)
    below = compiled.get_property("DEVICE_PROPERTIES").get(devices[0], {}) if device == "AUTO" else {}
    hint = below.get("INFERENCE_PRECISION_HINT") or _told(compiled, "INFERENCE_PRECISION_HINT")
    own = below.get("INFERENCE_NUM_THREADS") or _told(compiled, "INFERENCE_NUM_THREADS")
    # The NPU tells no precision: it has none but fp16 and int8. Whether 8 bits ran, the CPU alone tells in known words.
    name = hint.get_type_name() if hint is not None else "f16"
    return Executed(
        engine=f"openvino {ov.__version__.split('-')[0]}",
        device=f"{ran}, chosen by AUTO" if device == "AUTO" else ran,
        precision=_precision(precision, name, ran != "CPU" or _has_int8(compiled)),
        threads=int(own or threads),
    )


def _told(compiled: ov.CompiledModel, name: str) -> Any:
    """A property, None where the device has none of that name."""
    return compiled.get_property(name) if name in compiled.get_property("SUPPORTED_PROPERTIES") else None


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
