"""Make one INT8 form, in a process of its own: an engine's converter that crashes or hangs takes nothing with it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from ...benchmarks.timing.worker import ended_by
from ...runtime.errors import EngineError, MedcompressError, first_line, is_full_disk
from ...runtime.preprocessing import Preprocessing
from .gates import tightened
from .plan import Kind, Plan
from .ranges import read_ranges

LIMIT_S = 900.0
# The float graph's layers are compared with their INT8 selves on so many images: more change nothing.
BIAS_IMAGES = 32
# The form as a graph of QuantizeLinear and DequantizeLinear nodes, whatever the engine's own format is.
QUANTIZED = "quantized.onnx"
# Of the model's file, by engine.
SUFFIX = {
    "onnxruntime": ".onnx",
    "onnxruntime-tensorrt": ".onnx",
    "openvino": ".xml",
    "openvino-gpu": ".xml",
    "openvino-npu": ".xml",
    "tensorrt": ".onnx",
}

_EMITTERS = {
    "onnxruntime": ".emit_onnxruntime",
    "onnxruntime-tensorrt": ".emit_tensorrt",
    "openvino": ".emit_openvino",
    "openvino-gpu": ".emit_openvino",
    "openvino-npu": ".emit_openvino",
    "tensorrt": ".emit_tensorrt",
}
_COMMAND = (sys.executable, "-P", "-m", "medcompress.compress.int8.emission")


class Request(msgspec.Struct, frozen=True):
    """What to make of what.

    Attributes:
        engine: one of :data:`SUFFIX`.
        prepared: the float graph, see :func:`medcompress.compress.int8.graph.prepare`.
        ranges: of it, see :mod:`.ranges`.
        rendered: an .npy file of calibration images.
        path: of the model's file, with the suffix of the engine's format.
    """

    engine: str
    kind: Kind
    prepared: str
    ranges: str
    plan: Plan
    rendered: str
    preprocessing: Preprocessing
    path: str


def make_apart(request: Request, limit_s: float = LIMIT_S) -> tuple[Path, ...]:
    """Make it in a child process; one that is killed, for want of memory say, is started once more.

    Returns:
        the model's files.

    Raises:
        EngineError: the child could not make it, crashed, or was not done in time. One line.
        OSError: the disk is full.
    """
    output, code = _ask(request, limit_s)
    if not output:
        output, code = _ask(request, limit_s)
    folder = str(Path(request.path).parent)
    if not output:
        raise EngineError(f"the process that made it ended ({ended_by(code)})")
    answer = msgspec.json.decode(output)
    if "disk" in answer:
        raise OSError(answer["disk"], os.strerror(answer["disk"]), folder)
    if "error" in answer:
        raise EngineError(answer["error"].replace(f"{folder}/", ""))
    return tuple(Path(file) for file in answer["files"])


def _ask(request: Request, limit_s: float) -> tuple[bytes, int]:
    """What a child answers, empty where it died, and its exit code."""
    with subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            output, _ = child.communicate(msgspec.json.encode(request), timeout=limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise EngineError(f"was not made in {limit_s:.0f} s and was stopped") from None
        except BaseException:
            child.kill()
            raise
    return output, child.returncode


def make(request: Request) -> list[Path]:
    """Make it here: the form's files, and beside them its graph as :data:`QUANTIZED`.

    Raises:
        MedcompressError: the network, or the engine, does not allow it.
    """
    prepared, path, plan = Path(request.prepared), Path(request.path), request.plan
    ranges = tightened(onnx.load(prepared), read_ranges(Path(request.ranges)))
    # Each of them loads its own engine's packages.
    emitter = import_module(_EMITTERS[request.engine], __package__)
    kind = () if request.kind == "gpu" else (request.kind,)  # TensorRT's graph is one for all
    quantized = emitter.emit(prepared, ranges, plan, *kind)
    if plan.bias_corrected:
        from .bias_correction import correct

        pixels = np.load(request.rendered, mmap_mode="r", allow_pickle=False)[:BIAS_IMAGES]
        images = np.stack([request.preprocessing.normalize(each) for each in pixels])
        quantized = correct(onnx.load(prepared), quantized, images)
    onnx.save(quantized, path.with_name(QUANTIZED))
    return emitter.write(quantized, path, *kind, float_layers=plan.float_layers)


def _child() -> None:
    """Read a request, make it, and answer in one JSON document."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native libraries print to descriptor 1
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer: dict[str, Any] = {"files": [str(path) for path in make(request)]}
    except OSError as error:
        answer = {"disk": error.errno} if is_full_disk(error) else {"error": str(error)}
    except MedcompressError as error:
        answer = {"error": str(error)}
    except Exception as error:  # converters raise what they like, and some report a full disk as an error of their own
        reason = first_line(error, 300)
        free = shutil.disk_usage(Path(request.path).parent).free
        full = free < Path(request.prepared).stat().st_size
        answer = {"disk": errno.ENOSPC} if full else {"error": f"{type(error).__name__}: {reason}"}
    answers.write(msgspec.json.encode(answer))
    answers.flush()


if __name__ == "__main__":
    _child()
