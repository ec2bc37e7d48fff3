"""When the images were first answered by this network: margins changed after that were changed after a look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..benchmarks.progress import stage as say
from ..benchmarks.tolerance import Registration
from ..runtime.errors import InputError
from ..runtime.records import from_json


class _Seen(msgspec.Struct):
    """What is asked of the report that is replaced, of whatever schema."""

    created: str
    provenance: dict[str, Any]
    registration: Registration | None = None


def measured_before(destination: Path, checkpoint: str, split: str) -> str:
    """When the bundle that is replaced was measured, where it is of the same network and images; else empty."""
    path = destination / "report.json"
    if not path.is_file():
        return ""
    try:
        seen = from_json(path.read_bytes(), _Seen, str(path))
    except InputError:
        say(f"note: {path} cannot be read, so when these images were first answered is not known")
        return ""
    told = str(seen.provenance)
    if checkpoint not in told or split not in told:
        return ""
    return seen.registration.measured if seen.registration else seen.created
