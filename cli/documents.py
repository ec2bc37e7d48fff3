"""The JSON documents on stdout: a contract for machines. Fields are added, never renamed or removed.

``verify --json`` prints :class:`medcompress.runtime.selftest.SelfTest`, ``doctor --json``
:class:`medcompress.runtime.doctor.Diagnosis`, ``build --json``
:class:`medcompress.runtime.building.Built`, ``export --json``
:class:`medcompress.runtime.triton.repository.Repository`; ``inspect --json`` an object with at least
``file`` and ``kind``, the rest depending on the kind. A number that was not measured is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ..benchmarks.networks import Network
from ..benchmarks.row import Row
from ..benchmarks.statistics.assessment import Assessment
from ..benchmarks.verdict import Outcome
from ..compress.pruning.group_losses import Sensitivity
from ..runtime.engines import Executed
from ..runtime.hardware import Cpu
from ..runtime.reasons import Reason
from ..trained.data.organize import Part


class Optimized(msgspec.Struct, frozen=True):
    """``optimize --json``. ``variants`` holds every form that was tried, the reference among them.

    ``accepted``: an inconclusive form was let through by --accept-inconclusive. ``review``: the page with pictures of
    the images whose answer changed; null where none did. ``networks``: the pruned ones, ``checkpoints``: their files.
    """

    bundle: str
    verdict: Outcome
    reason: str
    chosen: str
    reference: Row
    variants: tuple[Row, ...]
    accepted: bool
    cautions: tuple[str, ...]
    review: str | None
    networks: tuple[Network, ...] = ()
    checkpoints: tuple[str, ...] = ()


class Benchmarked(msgspec.Struct, frozen=True):
    """``benchmark --json``. ``accuracy_from``: the folder measured on, or ``bundle``: as when it was made.

    ``report``: where --out left it as data.
    """

    bundle: str
    chosen: str
    reference: str
    accuracy_from: str
    threads: int
    cpu: Cpu
    variants: tuple[Row, ...]
    report: str | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image: its answer, or the ``error`` why it has none. ``time_ms``: preprocess, engine, total.

    ``cautions``: what a reader of the answer should know. ``whys``: the same, or why there is no answer, each with a
    code that stays the same. ``unexplained``: why --heat has no picture of it.
    """

    input: str
    label: str | None = None
    labels: tuple[str, ...] = ()
    probabilities: dict[str, float] = {}
    time_ms: dict[str, float] = {}
    error: str = ""
    cautions: tuple[str, ...] = ()
    unexplained: str = ""
    whys: tuple[Reason, ...] = ()


class Predicted(msgspec.Struct, frozen=True):
    """``predict --json``. ``warnings``: why better variants were passed over."""

    bundle: str
    variant: str
    executed: Executed
    warnings: tuple[str, ...]
    results: tuple[Answer, ...]


class ExplainedImage(msgspec.Struct, frozen=True):
    """One image: its sheet, and ``probability``, that of ``explained``, the class the heat map is of."""

    input: str
    sheet: str
    truth: str | None
    answer: str | None
    explained: str
    probability: float
    right: bool | None


class Explained(msgspec.Struct, frozen=True):
    """``explain --json``. ``layer``: whose feature maps the heat maps weigh; ``images`` in the sheets' order."""

    checkpoint: str
    layer: str
    sheets: tuple[str, ...]
    images: tuple[ExplainedImage, ...]


class Evaluated(msgspec.Struct, frozen=True):
    """``evaluate --json``. ``ran``: what computed the answers; ``out``: where plots and predictions lie, or empty.

    ``compare --json`` prints :class:`medcompress.trained.results.comparison.Comparison`.
    """

    model: str
    ran: str
    data: str
    part: str
    warnings: tuple[str, ...]
    out: str
    assessment: Assessment


class Failed(msgspec.Struct, frozen=True):
    """Any command with ``--json`` that ends with an error: its exit code and one line."""

    error: dict[str, Any]


class Described(msgspec.Struct, frozen=True):
    """``data --json``. A part's ``patients`` counts each file that names none, as many as ``unrecognised``.

    ``sizes`` and ``modes`` are of some images; ``table`` is the CSV of labels that was read, ``organized`` the table
    that was written. ``leaks`` says in words what was found, where it was looked for.
    """

    data: str
    task: str
    title: str
    modality: str
    kind: str
    classes: tuple[str, ...]
    positive: str
    parts: dict[str, Part]
    unrecognised: int
    notes: tuple[str, ...]
    sizes: dict[str, int]
    modes: dict[str, int]
    fingerprint: str
    table: str | None
    organized: str | None
    leaks: tuple[str, ...] | None


class Sensitive(msgspec.Struct, frozen=True):
    """``sensitivity --json``. ``plot``: where --out left the picture; ``data``: the folder of the validation images."""

    checkpoint: str
    data: str
    warnings: tuple[str, ...]
    plot: str | None
    sensitivity: Sensitivity


def print_json(document: Any) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def signature_words(signer: str, signatures: Sequence[str]) -> str:
    """What is known of a bundle's signatures: without a key that is trusted nothing tells whether they hold."""
    if signer:
        return f"signed with key {signer}, which is trusted here"
    if signatures:
        return f"bears signatures of {', '.join(signatures)}; not checked: no key is trusted here (--trust)"
    return "not signed"
