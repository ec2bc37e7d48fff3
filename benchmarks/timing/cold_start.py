"""From process start to the first answer, and the memory it takes: fresh processes, one after the other.

    python -m medcompress.benchmarks.timing.cold_start BUNDLE IMAGE VARIANT

prints medians as JSON, for an ONNX Runtime variant: of medcompress, and, in turn with it, of the bare libraries doing
the same without a check: import numpy, Pillow and onnxruntime, load the model, decode a JPEG at the scale medcompress
does, resize, run. The first pair of runs, which finds the files outside the page cache, is not counted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from ...runtime.bundle import open_bundle

RUNS = 11

_PEAK = """
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(status["VmHWM"].split()[0], flush=True)
"""
# The guard looks at the image and lets it through: any picture can be timed.
MEDCOMPRESS = (
    """
import sys
from medcompress.runtime import load
load(sys.argv[1], variant=sys.argv[2], guard="flag").predict(sys.argv[3])
"""
    + _PEAK
)
BARE = (
    """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
from PIL import Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[5])
options.enable_cpu_mem_arena = False
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
size = int(sys.argv[3]), int(sys.argv[4])
image = Image.open(sys.argv[2])
image.draft(None, (2 * max(size), 2 * max(size)))
pixels = numpy.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), dtype=numpy.float32)
session.run(None, {"image": numpy.ascontiguousarray(pixels.transpose(2, 0, 1)[None]) / 255})
"""
    + _PEAK
)


class ColdStart(msgspec.Struct, frozen=True):
    """Medians over ``runs`` fresh processes.

    Attributes:
        first_answer_ms: from the start of the process to its first answer, imports included.
        spread_ms: the fastest and the slowest run.
        peak_mib: largest resident set of the process up to then, MiB (Linux).
    """

    first_answer_ms: float
    spread_ms: tuple[float, float]
    peak_mib: float
    runs: int


def measure(bundle: Path, image: Path, variant: str) -> dict[str, ColdStart]:
    """Start :data:`RUNS` processes of each kind in turn, ``medcompress`` and ``bare``.

    Raises:
        InputError: the bundle has no such variant.
        subprocess.CalledProcessError: a process failed; its error went to stderr.
    """
    manifest = open_bundle(bundle).manifest
    height, width = manifest.preprocessing.size
    model = bundle / manifest.variant(variant).files[0]
    kinds = {
        "medcompress": [MEDCOMPRESS, str(bundle), variant, str(image)],
        "bare": [BARE, str(model), str(image), str(width), str(height), str(manifest.threads)],
    }
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(RUNS + 1):
        for kind, arguments in kinds.items():
            taken[kind].append(_once(arguments))
    return {kind: _summary(runs[1:]) for kind, runs in taken.items()}


def _summary(runs: list[tuple[float, float]]) -> ColdStart:
    walls = [wall for wall, _ in runs]
    memory = statistics.median(kib for _, kib in runs) / 1024
    return ColdStart(statistics.median(walls), (min(walls), max(walls)), memory, len(runs))


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """A fresh interpreter that runs a program given as text. What it compiled is kept for the next, as pip does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # -P: the current folder is not searched for modules.
    command = [sys.executable, "-P", "-c", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _once(arguments: list[str]) -> tuple[float, float]:
    begun = time.perf_counter()
    with start(arguments) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        wall = (time.perf_counter() - begun) * 1e3
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, arguments[1:])
    return wall, float(line)


if __name__ == "__main__":
    found = measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    print(json.dumps(msgspec.to_builtins(found), indent=2))
