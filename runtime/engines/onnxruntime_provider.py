"""Whether ONNX Runtime's GPU providers are there, load, and do all of the work; what is missing where not."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
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
# More plans of one GPU are not kept: those that were not loaded for the longest time go.
_MOST_PLANS = 8
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
            others.setdefault(part.ep_name, []).extend(f"{node.op_type} ({node.name or 'unnamed'})" for node in work)
    for name, layers in others.items():
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        raise EngineError(f"the {provider} does not take {layers[0]}{more}, which would run on the {name}")


def driver_too_old(gpu: Gpu) -> str:
    """In words, with both versions, that a GPU's driver does not run the CUDA this ONNX Runtime was built with; empty
    where it does, or ONNX Runtime has none."""
    built = str(getattr(ort, "cuda_version", "") or "").partition(".")[0]
    if not built or int(gpu.cuda.partition(".")[0]) >= int(built):
        return ""
    runs = f"driver {gpu.driver}" if gpu.driver else "the driver"
    return (
        f"onnxruntime-gpu {ort.__version__} is made for CUDA {built}, and {runs} here runs CUDA {gpu.cuda} at most; "
        "update the driver, or install an earlier onnxruntime-gpu"
    )


def plan_cache(gpu: Gpu, model: Path, tensors: Sequence[str] = ()) -> dict[str, str]:
    """Where the TensorRT provider keeps its plans: in a folder of this GPU, driver and versions, and in that of this
    model; timings in the former. Nowhere where others may write there: a plan is code.

    The provider knows a plan again by the model's file name and the names within it (``TRTGenerateId`` of
    https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/tensorrt/tensorrt_execution_provider_utils.h),
    and not by its weights: a network that was trained again would be answered for by the old one's plan.
    """
    known = sorted(f"{each.name}-{each.version}" for each in distributions() if each.name.startswith("tensorrt"))
    key = hashlib.sha256("\n".join((gpu.words, gpu.capability, ort.__version__, *known)).encode()).hexdigest()[:16]
    content = hashlib.sha256("\n".join(("", *tensors)).encode() + model.read_bytes()).hexdigest()[:32]
    try:
        timings = state_folder() / f"onnxruntime-tensorrt-{key}"
        plans = timings / content
        state_folder().mkdir(parents=True, exist_ok=True)
        for folder in (timings, plans):
            folder.mkdir(exist_ok=True, mode=0o700)
        if not (_ours_alone(timings) and _ours_alone(plans)):
            return {}
        os.utime(plans)
        kept = sorted((each for each in timings.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)
    except (OSError, MachineError):
        return {}
    for old in kept[:-_MOST_PLANS]:
        shutil.rmtree(old, ignore_errors=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(plans),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(timings),
    }


def plans_in(cache: Mapping[str, str]) -> list[Path]:
    """What lies in the folder of :func:`plan_cache`."""
    folder = cache.get("trt_engine_cache_path")
    return sorted(Path(folder).iterdir()) if folder else []


def _ours_alone(folder: Path) -> bool:
    """Whether no other user may write to it."""
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid in {0, os.getuid()})
    return ours and not (hasattr(os, "getuid") and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


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
