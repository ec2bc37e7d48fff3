"""Which of a bundle's variants is the fastest on this machine, measured once and remembered here.

The variant that was fastest where the bundle was made need not be the fastest on another CPU, with another number of
cores, or after an update of an engine. What was measured under any other of these, or of another bundle, is not
believed: it is measured again. The record orders variants and nothing more: each is still checked before it answers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .bundle import Bundle, Variant
from .engines import ENGINES, package_of
from .errors import InputError, MachineError
from .hardware import Cpu, this_cpu
from .records import from_json, to_json, write_whole
from .state import state_folder
from .variants import by_preference

if TYPE_CHECKING:
    from .trial import Trial

SCHEMA = 1
_MAX_BYTES = 1024 * 1024
# Closer than this to the fastest is as fast: the variant that was chosen when the bundle was made stays.
_EQUAL = 1.03


class Placement(msgspec.Struct, frozen=True):
    """What was measured on one machine.

    Attributes:
        bundle: sha256 of the manifest.
        engines: the distributions of the engines that are installed, ``onnxruntime-1.32.0`` and the like.
        threads: of one inference.
        at: when, ISO 8601, UTC.
        gpu: NVIDIA's, where a variant asks for one and there is one.
        ms: variant -> median of one inference, batch 1. What did not run is not among them.
    """

    schema: int
    bundle: str
    cpu: Cpu
    engines: tuple[str, ...]
    threads: int
    at: str
    ms: dict[str, float]
    gpu: str = ""


def place(bundle: Bundle, threads: int) -> Placement | None:
    """What is remembered, or measured now and remembered; None where nothing runs."""
    from .trial import measure

    return remembered(bundle, threads) or remember(bundle, threads, measure(bundle, threads))


def remembered(bundle: Bundle, threads: int) -> Placement | None:
    """What was measured of this bundle on this machine as it is now; None where nothing was. Measures nothing."""
    try:
        path = _file(bundle, threads)
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        found = from_json(path.read_bytes(), Placement, str(path))
    except (OSError, InputError, MachineError):
        return None
    same = (SCHEMA, bundle.identity, this_cpu(), installed_engines(), threads, _gpu(bundle))
    kept = (found.schema, found.bundle, found.cpu, found.engines, found.threads, found.gpu)
    return found if kept == same else None


def remember(bundle: Bundle, threads: int, trials: Sequence[Trial]) -> Placement | None:
    """Keep what was measured for this machine; None where nothing ran.

    Where the disk is read-only or full it is for this process alone; so it is where a variant is damaged, which may be
    the fastest once the bundle is whole again.
    """
    ms = {trial.check.name: trial.p50_ms for trial in trials if trial.p50_ms is not None}
    if not ms:
        return None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    placement = Placement(SCHEMA, bundle.identity, this_cpu(), installed_engines(), threads, at, ms, _gpu(bundle))
    if any(trial.check.damaged for trial in trials):
        return placement
    try:
        path = _file(bundle, threads)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(placement))
    except (OSError, MachineError):
        pass
    return placement


def in_order(bundle: Bundle, placement: Placement | None) -> list[Variant]:
    """The variants, fastest here first; those that were not measured here after them, as the bundle prefers them."""
    order = by_preference(bundle)
    if placement is None:
        return order
    ms = placement.ms
    fastest = min((ms[variant.name] for variant in order if variant.name in ms), default=0.0)
    first = next((v for v in order if ms.get(v.name, float("inf")) <= _EQUAL * fastest), None)
    return sorted(order, key=lambda variant: (variant is not first, ms.get(variant.name, float("inf"))))


def installed_engines() -> tuple[str, ...]:
    """Names and versions of the distributions that hold an engine, by the folders that pip leaves of them.

    ``importlib.metadata`` would tell the same, and costs a start-up more than all the rest of this module.
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    pattern = re.compile(rf"((?:{'|'.join(dict.fromkeys(map(package_of, ENGINES)))})[-_].*)\.dist-info", re.IGNORECASE)
    found = set()
    for folder in sys.path:
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except OSError:
            continue
        found |= {match[1] for name in names if (match := pattern.fullmatch(name))}
    return tuple(sorted(found))


def _gpu(bundle: Bundle) -> str:
    """What there is of an NVIDIA GPU; not looked for where no variant asks for it."""
    if not any("nvidia" in variant.requires for variant in bundle.manifest.variants):
        return ""
    from .gpu import this_gpu

    gpu = this_gpu()
    return gpu.words if gpu else ""


def _file(bundle: Bundle, threads: int) -> Path:
    return state_folder() / f"placement-{bundle.identity[:16]}-{threads}.json"
