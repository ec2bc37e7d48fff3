"""What an accelerator's row says beside its latency: the engine's own time, images a second, energy, memory.

A run is timed from the host's array to the host's array, and an engine returns only when its answer is there: the
host's clock counts copies and launches too. Where the engine can, it says by the device's clock (CUDA events) what it
took itself: the rest of the time is copies, launches and waiting.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from ...runtime import nvml
from ...runtime.errors import EngineError
from ...runtime.gpu import this_gpu
from .worker import Worker

BATCHES = (1, 8, 16, 32, 64)
SECONDS = 1.0
_LEAST_RUNS = 5
_PARTS = 50


class DeviceFigures(msgspec.Struct, frozen=True):
    """Of one form on an accelerator; None, or not there, where nothing tells.

    Attributes:
        engine_ms: median of one inference of one image by the device's clock, without copies; after each other, which
            a CUDA graph may overlap.
        images_per_second: by batch size: one batch after the other, copies included. Ends where one did not fit.
        energy_mj: millijoules of the whole GPU for an inference of one image, one after the other; what it takes
            meanwhile for nothing is part of it.
        device_memory_mib: of the GPU that its process held, with all these batches run: so much less is in use when it
            has ended, however many others hold some.
    """

    engine_ms: float | None = None
    images_per_second: dict[int, float] = {}
    energy_mj: float | None = None
    device_memory_mib: float | None = None


def memory_used() -> int | None:
    """Bytes of the NVIDIA GPU that are in use, by whomever; None where nothing tells."""
    gpu = this_gpu()
    return None if gpu is None else nvml.memory_used_bytes(gpu.pci)


def measure_device(
    worker: Worker, shape: Sequence[int], *, nvidia: bool = False, seconds: float = SECONDS
) -> DeviceFigures:
    """Measure a loaded model, alone: nothing else is to run on the device meanwhile. On an NVIDIA GPU its worker is
    closed at the end: what is free again then was its own.

    Args:
        worker: warm, and its latency known.
        shape: of one input, (channels, height, width).
        nvidia: whether it runs on an NVIDIA GPU, whose energy and memory are then told.
        seconds: for each batch size.

    Raises:
        EngineError: it cannot run one image.
    """
    gpu = this_gpu() if nvidia else None
    start = nvml.energy_mj(gpu.pci) if gpu else None
    single = worker.time((1, *shape), seconds, _LEAST_RUNS)
    end = nvml.energy_mj(gpu.pci) if gpu else None
    # The worker runs once more, before it starts its clock.
    energy = (end - start) / (len(single) + 1) if start is not None and end is not None else None
    parts = worker.engine_times((1, *shape), _PARTS)
    rates = {1: 1e3 * len(single) / sum(single)}
    for batch in BATCHES[1:]:
        try:
            ms = worker.time((batch, *shape), seconds, _LEAST_RUNS)
        except EngineError:  # larger ones need more memory still
            break
        rates[batch] = 1e3 * batch * len(ms) / sum(ms)
    held = after = None
    if nvidia:
        held = memory_used()
        worker.close()
        after = memory_used()
    return DeviceFigures(
        engine_ms=statistics.median(parts) if parts else None,
        images_per_second=rates,
        energy_mj=energy,
        device_memory_mib=(held - after) / 2**20 if held is not None and after is not None else None,
    )
