"""ONNX Runtime on an NVIDIA GPU, by its CUDA and its TensorRT provider.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html

ONNX Runtime runs on the CPU whatever a provider cannot, and says so in its log alone: here that is an error. Inputs and
outputs stay in buffers of the GPU, one set for each of the first few shapes, and what a run of the CUDA provider
launches is captured as a CUDA graph, so that later ones launch it at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ..errors import EngineAbsent, EngineError, first_line
from ..gpu import Gpu, this_gpu, why_no_gpu
from .base import Executed
from .onnxruntime_engine import model_of, options_for
from .onnxruntime_provider import (
    absent,
    ask_for_assignment,
    check_assignment,
    driver_too_old,
    load_libraries,
    plan_cache,
    plans_in,
)
from .own_thread import OwnThread

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
# The device of its buffers, as ONNX Runtime names it.
_DEVICE = "cuda"
# Shapes whose buffers and CUDA graph are kept; a batch of another one is run without.
_SHAPES = 6
# Batches the TensorRT provider builds its plan for: best at one image.
_PROFILE = (1, 1, 64)
# Of compute capabilities, the first with TF32: Ampere. Before it products are of whole 32-bit floats.
_TF32_SINCE = 8
# No classifier takes longer; but the first run of a shape, which tries cuDNN's algorithms, does.
_LIMIT_S, _FIRST_LIMIT_S = 20.0, 300.0
_CLOSED = "the ONNX Runtime engine was closed"

_Array = npt.NDArray[np.float32]


class _Bound(NamedTuple):
    """Buffers of the GPU for one shape, and the options of runs that use them."""

    image: ort.OrtValue
    outputs: list[ort.OrtValue]
    binding: ort.IOBinding
    options: ort.RunOptions


class OnnxRuntimeGpuEngine:
    """One session. Its runs are one after the other, in a thread of its own: there is one GPU, and a CUDA graph belongs
    to the thread it was captured in."""

    def __init__(self, session: ort.InferenceSession, executed: Executed) -> None:
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._thread = OwnThread("onnxruntime")
        self.executed = executed

    def run(self, batch: _Array) -> _Array:
        """(N, C, H, W) to (N, classes)."""
        return self.run_all(batch)[0]

    def run_all(self, batch: _Array) -> list[_Array]:
        """(N, C, H, W) to (N, classes), and the tensors it was loaded with."""
        image = np.ascontiguousarray(batch, dtype=np.float32)
        limit = _LIMIT_S if image.shape in self._bound else _FIRST_LIMIT_S
        return self._thread.call(partial(self._answer, image), limit)

    def close(self) -> None:
        """Free the session and its buffers; what a lost GPU may still use is left to the run that does not return."""
        with suppress(EngineError):
            self._thread.call(self._free, _LIMIT_S)
        self._thread.end(_CLOSED)

    def _answer(self, batch: _Array) -> list[_Array]:
        if self._session is None:
            raise EngineError(_CLOSED)
        try:
            found = self._run(self._session, batch)
        except Exception as error:  # its exceptions share no base class
            raise EngineError(f"ONNX Runtime could not run the model ({_told(error)})") from error
        return [np.array(each, dtype=np.float32) for each in found]  # copies: the buffers are written again

    def _free(self) -> None:
        self._bound.clear()
        self._session = None

    def _run(self, session: ort.InferenceSession, batch: _Array) -> list[np.ndarray]:
        bound = self._bound.get(batch.shape)
        if bound is None:
            found = [np.asarray(each) for each in session.run(None, {self._input: batch}, _run_options(-1))]
            if len(self._bound) < _SHAPES:
                self._bound[batch.shape] = self._bind(session, batch, found)
            return found
        bound.image.update_inplace(batch)
        session.run_with_iobinding(bound.binding, bound.options)
        return [output.numpy() for output in bound.outputs]

    def _bind(self, session: ort.InferenceSession, batch: _Array, found: Sequence[np.ndarray]) -> _Bound:
        """Buffers for a shape, by what a run of it gave."""

        def buffer(like: np.ndarray) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_shape_and_type(list(like.shape), like.dtype.type, _DEVICE, 0)

        binding, image, outputs = session.io_binding(), buffer(batch), [buffer(each) for each in found]
        binding.bind_ortvalue_input(self._input, image)
        for name, output in zip(self._outputs, outputs, strict=True):
            binding.bind_ortvalue_output(name, output)
        return _Bound(image, outputs, binding, _run_options(len(self._bound) + 1))


def load_cuda(files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()) -> OnnxRuntimeGpuEngine:
    """Load an ONNX model into the CUDA provider; one in 16-bit floats is executed as such.

    Raises:
        EngineAbsent: there is no GPU, or ONNX Runtime here has no CUDA provider that loads.
        EngineError: not a model it can take, it has no such tensor, or some of it would run on the CPU.
    """
    if precision not in {"fp32", "tf32", "fp16"}:
        raise EngineError(f"ONNX Runtime's CUDA provider does not execute {precision}; use TensorRT for it")
    gpu = _gpu(_CUDA)
    options = {"use_tf32": str(int(precision == "tf32"))}
    runs_by = _CUDA
    try:
        session = _session(_CUDA, {**options, "enable_cuda_graph": "1"}, files, threads, tensors)
    except EngineAbsent:
        raise
    except EngineError:
        # What has no CUDA graph is refused before it is told why: without one it is told what would run elsewhere.
        session = _session(_CUDA, options, files, threads, tensors)
        runs_by += " without CUDA graphs"
    ran = "fp32" if precision == "tf32" and int(gpu.capability.partition(".")[0]) < _TF32_SINCE else precision
    return OnnxRuntimeGpuEngine(session, _executed(runs_by, gpu, ran, threads))


def load_tensorrt(
    files: Sequence[Path], precision: str, threads: int, tensors: Sequence[str] = ()
) -> OnnxRuntimeGpuEngine:
    """Load an ONNX model into the TensorRT provider: in 16-bit floats, or with Q/DQ nodes of signed 8 bits.

    A plan is built for this GPU, which takes up to some minutes the first time; it is kept in this machine's state
    folder. The float part of INT8 may run in TF32 there: the provider has no switch for it.

    Raises:
        EngineAbsent: there is no GPU, or ONNX Runtime here has no TensorRT provider that loads.
        EngineError: not a model it can take, it has no such tensor, or some of it would run elsewhere.
    """
    if precision not in {"fp16", "int8"}:
        raise EngineError(f"ONNX Runtime's TensorRT provider is not used for {precision}; use its CUDA provider")
    gpu = _gpu(_TENSORRT)
    # Without CUDA graphs: it keeps one for all shapes and buffers, whatever a run's ``gpu_graph_id`` says, and would
    # give the answers of whichever it captured.
    cache = plan_cache(gpu, files[0], tensors)
    options = {
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_int8_enable": str(int(precision == "int8")),
        **cache,
        **_profile(files),
    }
    kept = plans_in(cache)
    try:
        session = _session(_TENSORRT, options, files, threads, tensors)
    except EngineAbsent:
        raise
    except EngineError:
        if not kept:
            raise
        for plan in kept:  # it may be damaged, as where the power went while it was written
            plan.unlink(missing_ok=True)
        session = _session(_TENSORRT, options, files, threads, tensors)
    return OnnxRuntimeGpuEngine(session, _executed(_TENSORRT, gpu, precision, threads))


def _gpu(provider: str) -> Gpu:
    """The GPU, with the provider's libraries loaded.

    Raises:
        EngineAbsent: there is none, or a library is missing.
        EngineError: its driver is too old for this ONNX Runtime.
    """
    gpu = this_gpu()
    if gpu is None:
        raise EngineAbsent(why_no_gpu())
    if why := driver_too_old(gpu):
        raise EngineError(why)
    if not load_libraries(provider):
        raise EngineAbsent(absent(provider))
    return gpu


def _executed(runs_by: str, gpu: Gpu, precision: str, threads: int) -> Executed:
    return Executed(f"onnxruntime {ort.__version__}", f"{runs_by} on {gpu.name}", precision, threads)


def _profile(files: Sequence[Path]) -> dict[str, str]:
    """The batches a plan is for, named by the model's input, which a session on the CPU tells."""
    try:
        (image,) = ort.InferenceSession(str(files[0]), options_for(1), providers=["CPUExecutionProvider"]).get_inputs()
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load the model ({_told(error)})") from error
    rest = "x".join(str(size) for size in image.shape[1:])
    kinds = ("min", "opt", "max")
    return {
        f"trt_profile_{kind}_shapes": f"{image.name}:{count}x{rest}"
        for kind, count in zip(kinds, _PROFILE, strict=True)
    }


def _session(
    provider: str, settings: Mapping[str, str], files: Sequence[Path], threads: int, tensors: Sequence[str]
) -> ort.InferenceSession:
    """A session all of whose work is done by the provider.

    Raises:
        EngineAbsent: ONNX Runtime left the provider out.
        EngineError: it does not take the model, or not all of it.
    """
    options = options_for(threads)
    options.log_severity_level = 4  # what it logs when it falls back is said by the error here
    ask_for_assignment(options)
    try:
        session = ort.InferenceSession(
            model_of(files, tensors), options, providers=[(provider, {"device_id": "0", **settings})], enable_fallback=0
        )
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load the model on the GPU ({_told(error)})") from error
    if provider not in session.get_providers():
        raise EngineAbsent(absent(provider))
    check_assignment(session, provider)
    return session


def _run_options(graph: int) -> ort.RunOptions:
    """Of a run: its CUDA graph's number, -1 for none."""
    options = ort.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _told(error: Exception) -> str:
    said = first_line(error, 300)
    memory = "failed to allocate" in said.lower() or "out of memory" in said.lower()
    return f"not enough memory of the GPU is free: {said}" if memory else said
