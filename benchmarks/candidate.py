"""A form of the model, to be run and judged."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .timing.worker import COMMAND


class Candidate(msgspec.Struct, frozen=True):
    """One runnable form of the model, on disk.

    Attributes:
        files: the model, then its weights where they are apart.
        requires: CPU features, or devices, without which it is not run: :mod:`medcompress.runtime.requirements`.
        judged: False for a baseline that only lends its latency to the table (random weights).
        command: of the process that runs it.
    """

    name: str
    engine: str
    precision: str
    files: tuple[Path, ...]
    requires: tuple[str, ...] = ()
    judged: bool = True
    command: tuple[str, ...] = COMMAND

    @property
    def size_bytes(self) -> int:
        """On disk."""
        return sum(file.stat().st_size for file in self.files)
