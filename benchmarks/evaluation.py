"""Judge candidates on labelled images: every engine in its own process, one table out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ..runtime.decision import Decision
from ..runtime.engines import Executed
from ..runtime.errors import EngineAbsent, EngineError
from ..runtime.hardware import this_cpu
from ..runtime.preprocessing import Preprocessing
from .data.rendering import render_all
from .data.samples import Sample
from .progress import stage, track
from .statistics.delong import auroc_drop
from .statistics.metrics import Scores, change, scores, truth
from .timing.latency import ROUNDS, Latency, measure
from .timing.worker import COMMAND, LIMIT_S, Worker
from .tolerance import Tolerance, Verdict, judge

# Fields of a Row that come from the labelled images, and are stored in a bundle.
ACCURACY_FIGURES = (
    "auroc",
    "auroc_drop",
    "auroc_drop_bound",
    "accuracy",
    "sensitivity",
    "specificity",
    "probability_change",
    "flips",
)


class Candidate(msgspec.Struct, frozen=True):
    """One runnable form of the model, on disk.

    Attributes:
        files: the model, then its weights where they are apart.
        requires: CPU features without which it is not run.
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


class Row(msgspec.Struct, frozen=True):
    """One line of the table.

    Attributes:
        precision: executed, as the engine tells it; as asked for where it did not run.
        auroc_drop: reference minus this one; negative is better than the reference.
        auroc_drop_bound: it is at most this with 95 % confidence (DeLong, one-sided, paired); two classes only.
        flips: images whose answer differs from the reference's.
        speedup_vs_reference, speedup_vs_eager: by medians; against the baseline (torch eager) where it was timed.
        status: ``reference``, ``pass``, ``fail: ...``, ``baseline`` (latency only), ``measured`` (no labelled
            images were given), ``not run here: ...`` or ``error: ...``.
    """

    name: str
    engine: str
    precision: str
    size_bytes: int
    status: str
    auroc: float | None = None
    auroc_drop: float | None = None
    auroc_drop_bound: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    probability_change: float | None = None
    flips: int | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    runs: int | None = None
    speedup_vs_reference: float | None = None
    speedup_vs_eager: float | None = None
    device: str | None = None
    threads: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate lets it through; the reference always is."""
        return self.status in {"pass", "reference"}


class Labelled(msgspec.Struct, frozen=True):
    """Rendered images and their truth.

    Attributes:
        rendered: an .npy file, uint8 (N, H, W) or (N, H, W, 3).
        target: (N, classes), see :func:`medcompress.benchmarks.statistics.metrics.truth`.
    """

    rendered: Path
    target: npt.NDArray[np.int8]

    @property
    def images(self) -> int:
        """How many."""
        return len(self.target)


def label_samples(samples: Sequence[Sample], decision: Decision, preprocessing: Preprocessing, npy: Path) -> Labelled:
    """Render labelled images for :func:`evaluate`.

    Raises:
        DataError: an unreadable image, or a class with no image.
    """
    target = truth([sample.target for sample in samples], decision)
    render_all([sample.path for sample in samples], preprocessing, "Reading the held-out images", npy)
    return Labelled(npy, target)


def evaluate(
    candidates: Sequence[Candidate],
    reference: str,
    decision: Decision,
    preprocessing: Preprocessing,
    labelled: Labelled | None,
    tolerance: Tolerance,
    threads: int,
    limit_s: float = LIMIT_S,
) -> tuple[Row, ...]:
    """Run every candidate on the labelled images, then time them all side by side; rows in the candidates' order.

    A candidate that crashes, hangs or cannot run here becomes a row that says so; the others go on.

    Raises:
        EngineError: the reference itself cannot run.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        executed: dict[str, Executed] = {}
        logits: dict[str, npt.NDArray[np.float32]] = {}
        problems: dict[str, str] = {}
        for candidate in candidates:
            lacks = this_cpu().lacks(candidate.requires)
            if lacks:
                problems[candidate.name] = f"not run here: needs a CPU with {', '.join(lacks)}"
                continue
            stage(f"  measuring {candidate.name}")
            worker = stack.enter_context(Worker(candidate.command, limit_s))
            try:
                executed[candidate.name] = worker.load(candidate.engine, candidate.files, candidate.precision, threads)
                if labelled and candidate.judged:
                    found = worker.run(labelled.rendered, preprocessing)
                    if not np.isfinite(found).all():
                        raise EngineError("its outputs are not all numbers")
                    logits[candidate.name] = found
                workers[candidate.name] = worker
            except EngineError as error:
                if candidate.name == reference:
                    raise EngineError(f"the reference {reference} does not run here: {error}") from error
                problems[candidate.name] = f"{'not run here' if isinstance(error, EngineAbsent) else 'error'}: {error}"
                worker.close()
        rounds = track(range(ROUNDS), "Timing all variants in turn", ROUNDS)
        latency = measure(workers, preprocessing.shape, rounds)
        failed = latency.get(reference)
        if isinstance(failed, EngineError):
            raise EngineError(f"the reference {reference} does not run here: {failed}")
    judged = {name: scores(decision, labelled.target, found) for name, found in logits.items()} if labelled else {}
    rows = []
    for candidate in candidates:
        row = Row(
            candidate.name,
            candidate.engine,
            executed[candidate.name].precision if candidate.name in executed else candidate.precision,
            candidate.size_bytes if candidate.judged else 0,
            problems.get(candidate.name, "measured" if candidate.judged else "baseline"),
        )
        row = _with_latency(row, latency.get(candidate.name), executed.get(candidate.name))
        if labelled and candidate.name in judged and candidate.name not in problems:
            is_reference = candidate.name == reference
            target = labelled.target
            row = _with_scores(row, is_reference, judged, reference, logits, target, decision, tolerance)
        rows.append(row)
    return tuple(_with_speedups(rows, reference))


def _with_latency(row: Row, latency: Latency | EngineError | None, executed: Executed | None) -> Row:
    if latency is None or executed is None:
        return row
    if isinstance(latency, EngineError):
        return msgspec.structs.replace(row, status=f"error: {latency}")
    return msgspec.structs.replace(
        row,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        runs=latency.runs,
        device=executed.device,
        threads=executed.threads,
    )


def _with_speedups(rows: Sequence[Row], reference: str) -> list[Row]:
    base = next((row.p50_ms for row in rows if row.name == reference), None)
    eager = next((row.p50_ms for row in rows if row.status == "baseline"), None)
    return [
        msgspec.structs.replace(
            row,
            speedup_vs_reference=base / row.p50_ms if base and row.p50_ms else None,
            speedup_vs_eager=eager / row.p50_ms if eager and row.p50_ms else None,
        )
        for row in rows
    ]


def _with_scores(
    row: Row,
    is_reference: bool,
    judged: dict[str, Scores],
    reference: str,
    logits: dict[str, npt.NDArray[np.float32]],
    target: npt.NDArray[np.int8],
    decision: Decision,
    tolerance: Tolerance,
) -> Row:
    own, base = judged[row.name], judged[reference]
    changed = change(decision, logits[reference], logits[row.name])
    bound = None
    if decision.kind == "binary" and min(target.sum(axis=0)) > 1 and not is_reference:
        c = decision.positive_index
        before, after = (decision.probabilities(logits[name])[:, c] for name in (reference, row.name))
        bound = auroc_drop(target[:, c] == 1, before, after).upper_bound
    verdict = judge(tolerance, base, own, changed, len(logits[reference]))
    status = row.status
    if status == "measured":
        status = "reference" if is_reference else _status(verdict)
    return msgspec.structs.replace(
        row,
        status=status,
        auroc=own.auroc,
        auroc_drop=base.auroc - own.auroc,
        auroc_drop_bound=bound,
        accuracy=own.accuracy,
        sensitivity=own.sensitivity,
        specificity=own.specificity,
        probability_change=changed.probability_change,
        flips=changed.flips,
    )


def _status(verdict: Verdict) -> str:
    return verdict.outcome if verdict.outcome == "pass" else f"fail: {'; '.join(verdict.reasons)}"
