"""From process start to the first answer, and the memory it takes: fresh processes, one after the other.

    python -m medcompress.benchmarks.cold_start BUNDLE IMAGE [VARIANT]

prints the median over the runs, as JSON. The first run, which finds the files outside the page cache, is not counted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

RUNS = 11

_CHILD = """
import sys
from medcompress.runtime import load
label = load(sys.argv[1], variant=sys.argv[3] or None).predict(sys.argv[2]).label
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(status["VmHWM"].split()[0], flush=True)
"""


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


def measure(bundle: Path, image: Path, variant: str = "") -> ColdStart:
    """Start :data:`RUNS` processes that load a bundle and answer for one image.

    Raises:
        subprocess.CalledProcessError: a process failed; its error went to stderr.
    """
    taken: list[tuple[float, float]] = [_once(bundle, image, variant) for _ in range(RUNS + 1)][1:]
    walls = [wall for wall, _ in taken]
    memory = statistics.median(kib for _, kib in taken) / 1024
    return ColdStart(statistics.median(walls), (min(walls), max(walls)), memory, RUNS)


def _once(bundle: Path, image: Path, variant: str) -> tuple[float, float]:
    command = [sys.executable, "-P", "-c", _CHILD, str(bundle), str(image), variant]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        wall = (time.perf_counter() - start) * 1e3
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return wall, float(line)


if __name__ == "__main__":
    found = measure(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
    print(json.dumps(msgspec.to_builtins(found)))
