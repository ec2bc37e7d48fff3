"""The evidence as data."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...runtime.hardware import Cpu
from ..data.checks import Checks
from ..evaluation import Row
from ..tolerance import Tolerance

SCHEMA = 1


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured, on what, and what follows from it.

    Attributes:
        schema: of this record.
        created: UTC, ISO 8601.
        reason: why ``chosen`` was chosen, or why nothing was, in a sentence.
        rows: the reference, then every candidate, those that failed included.
        images: held-out images the accuracy is of, by class.
        checks: what was found out about the images themselves.
        provenance: checkpoint, data, calibration, package versions.
    """

    schema: int
    created: str
    model: str
    verdict: Literal["pass", "fail"]
    reason: str
    chosen: str
    reference: str
    tolerance: Tolerance
    threads: int
    cpu: Cpu
    images: dict[str, int]
    rows: tuple[Row, ...]
    provenance: dict[str, Any]
    checks: Checks | None = None

    @property
    def held_out(self) -> int:
        """How many images it was judged on; one with several findings stands in :attr:`images` several times."""
        return self.checks.held_out if self.checks else sum(self.images.values())

    @property
    def reference_row(self) -> Row:
        """The row all others are compared with."""
        return next(row for row in self.rows if row.name == self.reference)
