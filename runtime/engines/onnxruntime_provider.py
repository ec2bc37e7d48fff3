"""Whether ONNX Runtime's GPU providers are there, load, and do all of the work; what is missing where not."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import onnxruntime as ort

from ..errors import EngineError, MachineError
from ..gpu import Gpu
from ..state import state_folder

_WITH_GPU = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"
_LIBRARY = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "tensorrt"}
_TELLS = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
# Works on shapes, a few whole numbers: the providers themselves leave it to the CPU.
_SHAPE_WORK = frozenset({"Shape", "Size", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Cast", "Range"})


def load_libraries(provider: str) -> bool:
    """Load a provider's library; whether that was possible, :func:`absent` says why not.

    CUDA's libraries, and TensorRT's, are loaded first from the packages pip installed: the system looks elsewhere.
    """
    if provider not in ort.get_available_providers():
        return False
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()  # what it does not find is told where the provider does not load
    if provider.startswith("Tensorrt"):
        with contextlib.suppress(Exception):
            import_module("tensorrt_libs")
    return not _does_not_load(_LIBRARY[provider])


def absent(provider: str) -> str:
    """Why a provider is not used by the ONNX Runtime that is installed, and what mends it."""
    with_gpu, plain = _version("onnxruntime-gpu"), _version("onnxruntime")
    if provider not in ort.get_available_providers():
        if with_gpu and plain:
            what = "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files"
        elif with_gpu:
            what = f"onnxruntime-gpu {with_gpu} has no {provider}"
        else:
            what = f"onnxruntime {plain or ort.__version__} is installed, which is for CPUs alone"
        return f"{what}; {_WITH_GPU}"
    why = _does_not_load(_LIBRARY[provider])
    if provider.startswith("Tensorrt") and "libnv" in why:
        return f"the {provider} does not load ({why}); pip install 'tensorrt-cu{_cuda_major()}==10.*'"
    return f"the {provider} does not load ({why or 'ONNX Runtime does not say why'}); {_WITH_GPU}"


def ask_for_assignment(options: ort.SessionOptions) -> None:
    """Let a session note which provider does what; one too old for that (before 1.24) refuses the CPU by itself."""
    key = "record_ep_graph_assignment_info" if _TELLS else "disable_cpu_ep_fallback"
    options.add_session_config_entry(f"session.{key}", "1")


def check_assignment(session: ort.InferenceSession, provider: str) -> None:
    """That a provider does all of a session's work.

    Raises:
        EngineError: some runs elsewhere; the message names the first operator and layer.
    """
    others: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info() if _TELLS else ():
        work = [node for node in part.get_nodes() if node.op_type not in _SHAPE_WORK]
        if part.ep_name != provider and work:
            others.setdefault(part.ep_name, []).extend(f"{node.op_type} ({node.name})" for node in work)
    for name, layers in others.items():
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        raise EngineError(f"the {provider} does not take {layers[0]}{more}, which would run on the {name}")


def plan_cache(gpu: Gpu) -> dict[str, str]:
    """Where the TensorRT provider keeps plans and timings: a folder for each GPU, driver and version; nowhere where
    this user has no folder."""
    known = sorted(f"{each.name}-{each.version}" for each in distributions() if each.name.startswith("tensorrt"))
    key = hashlib.sha256("\n".join((gpu.words, gpu.capability, ort.__version__, *known)).encode()).hexdigest()[:16]
    try:
        folder = state_folder() / f"onnxruntime-tensorrt-{key}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, MachineError):
        return {}
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


def _does_not_load(name: str) -> str:
    """What the system's loader says of a provider's library; empty where it loads."""
    folder = Path(ort.__file__).parent / "capi"
    pattern = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else "libonnxruntime_providers_{}.so"
    try:
        ctypes.CDLL(str(folder / pattern.format("shared")), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / pattern.format(name)))
    except OSError as error:
        return str(error).replace(f"{folder}/", "").strip()
    return ""


def _cuda_major() -> str:
    """Of the CUDA this ONNX Runtime was built with."""
    built = getattr(ort, "cuda_version", "") or "13"
    return str(built).partition(".")[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
