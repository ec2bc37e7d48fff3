"""How fast a network is on this machine: exported, every form of it made in the plainest way, and timed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from ..benchmarks.candidate import Candidate
from ..benchmarks.timing.latency import Latency, measure
from ..benchmarks.timing.worker import Worker
from ..runtime.errors import EngineError, MachineError
from ..runtime.preprocessing import Preprocessing
from .plain import make_plain
from .recipes import Recipe

_ROUNDS = 4
# As many as INT8 must be calibrated on: what the ranges are is no matter for the time.
_IMAGES = 16


def time_forms(
    candidates: Sequence[Candidate], shape: Sequence[int], threads: int, rounds: Iterable[int] = range(_ROUNDS)
) -> dict[str, Latency | EngineError]:
    """Each form's latency, in turn, in a process of its own; or why it did not run.

    Args:
        shape: (C, H, W) of an image.
        rounds: an iterable, so that a caller can show progress.
    """
    found: dict[str, Latency | EngineError] = {}
    with ExitStack() as stack:
        workers = {}
        for each in candidates:
            worker = stack.enter_context(Worker(each.command))
            try:
                worker.load(each.engine, each.files, each.precision, threads)
                worker.time((1, *shape), 0.0, 1)
                workers[each.name] = worker
            except EngineError as error:
                found[each.name] = error
        return found | measure(workers, shape, rounds)


def fastest(
    network: nn.Module,
    preprocessing: Preprocessing,
    rendered: npt.NDArray[np.uint8],
    recipes: Sequence[Recipe],
    threads: int,
) -> tuple[str, float, int]:
    """Name of the fastest form of a network, its median latency in milliseconds, batch 1, and its bytes on disk.

    Args:
        rendered: calibration images (N, H, W) or (N, H, W, 3), of which some are taken.
        threads: of one inference.

    Raises:
        MedcompressError: torch cannot export the network.
        MachineError: no form of it runs here.
    """
    from .export import export

    some = rendered[:_IMAGES]
    with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
        reference = Path(folder) / "model.onnx"
        export(network, np.stack([preprocessing.normalize(pixels) for pixels in some]), reference)
        forms = make_plain(reference, some, preprocessing, recipes, Path(folder))
        sizes = {form.name: form.size_bytes for form in forms}
        found = time_forms(forms, preprocessing.shape, threads)
    times = {name: each.p50_ms for name, each in found.items() if isinstance(each, Latency)}
    if not times:
        raise MachineError(f"no form of the network runs on this machine ({next(iter(found.values()))})")
    name = min(times, key=lambda form: times[form])
    return name, times[name], sizes[name]
