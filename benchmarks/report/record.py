"""The evidence as data: what the pages are rendered from; and its JSON schema, for who reads it with another language.

    python -m medcompress.benchmarks.report.record

writes ``report.schema.json`` beside this module; a test holds it against the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ...runtime.decision import Decision
from ...runtime.hardware import Cpu
from ...runtime.records import to_json, write_whole
from ..data.checks import Checks
from ..evidence import Evidence
from ..networks import Network, Trial, name_within
from ..row import Row
from ..tolerance import Registration, Tolerance
from ..trace import LayerOverflow, Step
from ..verdict import Outcome

SCHEMA = 4
# The oldest that is read: what is new since then has a default.
OLDEST = 2
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured, on what, and what follows from it.

    Attributes:
        schema: of this record, see ``report.schema.json``. 4 came with ``networks`` and ``trials``, 3 with ``steps``,
            ``overflows`` and the intervals of p90 and p99; 2 and 3 are read too.
        created: UTC, ISO 8601.
        model: its name and classes, a line.
        decision: classes, positive class, and the locked thresholds and temperature.
        rule: how the threshold was locked, in words.
        verdict: ``pass``: a compressed form is shown to be no worse than the margins allow. ``inconclusive``: none is,
            and of one at least more patients might show it. ``fail``: none.
        accepted: an inconclusive form was let through on the maker's word (--accept-inconclusive).
        reason: why ``chosen`` was chosen, or why nothing was, in a sentence.
        cautions: what has to be said before the verdict, a sentence each.
        rows: the reference, then every candidate, those that failed included.
        evidence: of every row that answered the images, the reference first.
        registration: of the tolerance.
        images: held-out images the accuracy is of, by class; ``held_out`` and ``patients`` in all.
        checks: what was found out about the images themselves.
        steps: how each INT8 form was found, in the order they were tried; empty where none was looked for.
        overflows: what a CPU without VNNI would cut off, of every layer; empty where it was not counted.
        networks: the pruned networks whose forms are among the rows; empty where nothing was taken out.
        trials: every network a search looked at, in the order it did; empty where none was made.
        provenance: checkpoint, data, calibration, package versions, bundle: name -> text or (name -> text).
    """

    schema: int
    created: str
    model: str
    decision: Decision
    rule: str
    verdict: Outcome
    accepted: bool
    reason: str
    cautions: tuple[str, ...]
    chosen: str
    reference: str
    tolerance: Tolerance
    registration: Registration
    threads: int
    cpu: Cpu
    images: dict[str, int]
    held_out: int
    patients: int
    rows: tuple[Row, ...]
    evidence: tuple[Evidence, ...]
    provenance: dict[str, Any]
    checks: Checks | None = None
    steps: tuple[Step, ...] = ()
    overflows: tuple[LayerOverflow, ...] = ()
    networks: tuple[Network, ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def reference_row(self) -> Row:
        """The row all others are compared with."""
        return next(row for row in self.rows if row.name == self.reference)

    @property
    def chosen_evidence(self) -> Evidence | None:
        """Of the chosen variant; None where it was not judged."""
        return next((each for each in self.evidence if each.variant == self.chosen), None)

    def network_of(self, form: str) -> Network | None:
        """The pruned network a form is of; None for the dense one's."""
        name = name_within(form, (each.name for each in self.networks))
        return next((each for each in self.networks if each.name == name), None)


def report_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of :class:`Report`."""
    named = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"medcompress report, schema {SCHEMA}",
    }
    return named | msgspec.json.schema(Report)


if __name__ == "__main__":
    write_whole(SCHEMA_FILE, to_json(report_schema()))
