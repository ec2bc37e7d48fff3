"""One attempt at an INT8 form: made, run on validation images by its own engine, timed, and held against the goal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ...benchmarks.candidate import Candidate
from ...benchmarks.data.labelled import Labelled
from ...benchmarks.evaluation import Answers, Logits
from ...benchmarks.row import Row
from ...benchmarks.timing.latency import Latency, measure
from ...benchmarks.timing.worker import Worker
from ...benchmarks.tolerance import Tolerance
from ...benchmarks.trace import Step
from ...benchmarks.weighing import weigh
from ...runtime.decision import Decision
from ...runtime.errors import EngineError
from ...runtime.preprocessing import Preprocessing

# Rounds of a quarter of a second each, for a step and the float form beside it.
_ROUNDS = 4
_REFERENCE, _FORM = "reference", "form"


# Of so many images one may be an odd one, far outside the calibrated ranges, whose logits tell nothing any more.
_ODD_ONE_IN = 500


class Goal(msgspec.Struct, frozen=True):
    """What a form is to reach on the validation images.

    Attributes:
        auroc_drop: reference minus form.
        flips: share of the images whose answer changes.
        probability_change: largest change of any probability.
        logit_change: largest change of any logit, of all but one image in 500.
    """

    auroc_drop: float
    flips: float
    probability_change: float
    logit_change: float


def goal_of(tolerance: Tolerance) -> Goal:
    """Tighter than the gate's margins: the form is chosen by these images, and judged by others, with intervals.

    By default an AUROC loss of 0.002, 1 % of the answers, a probability by 0.125, and a logit by 1.0, which is what
    moves a probability by at most 0.25: the logistic function is nowhere steeper than 1/4.
    """
    most = tolerance.probability_change
    return Goal(tolerance.auroc_drop / 5, tolerance.flips / 3, most / 2, 4 * most)


@dataclass(frozen=True)
class Yardstick:
    """What all attempts at one form are measured with.

    Attributes:
        images: validation images.
        reference: the FP32 model's raw outputs on them.
        rival: the engine's float form of the lowest precision, timed in turn with every attempt.
    """

    preprocessing: Preprocessing
    decision: Decision
    tolerance: Tolerance
    images: Labelled
    reference: Logits
    threads: int
    rival: Candidate


class Figures(msgspec.Struct, frozen=True):
    """Of one attempt, see :class:`medcompress.benchmarks.trace.Step`.

    Attributes:
        short: what misses the goal; empty where nothing does.
        refused: the gate itself would refuse it, if these were its images.
    """

    auroc_drop: float | None
    flips: int
    logit_change: float
    logit_error: float
    p50_ms: float
    float_p50_ms: float
    short: str
    refused: bool

    @property
    def pays(self) -> bool:
        """Whether it is faster than the float form."""
        return self.p50_ms < self.float_p50_ms


@contextmanager
def loaded(candidate: Candidate, threads: int) -> Iterator[Worker]:
    """A worker that holds the candidate.

    Raises:
        EngineError: it cannot be loaded, runs in another precision, or its process died.
    """
    with Worker(candidate.command) as worker:
        executed = worker.load(candidate.engine, candidate.files, candidate.precision, threads)
        if executed.precision != candidate.precision:
            raise EngineError(f"runs in {executed.precision}, and {candidate.precision} was asked for")
        yield worker


def assess(candidate: Candidate, yardstick: Yardstick) -> Figures:
    """Run it on the validation images and time it.

    Raises:
        EngineError: it does not run.
    """
    with loaded(candidate, yardstick.threads) as worker, loaded(yardstick.rival, yardstick.threads) as rival_worker:
        logits = worker.run(yardstick.images.rendered, yardstick.preprocessing)
        if not np.isfinite(logits).all():
            raise EngineError("its outputs are not all numbers")
        timed = measure({"rival": rival_worker, "form": worker}, yardstick.preprocessing.shape, range(_ROUNDS))
    for found in timed.values():
        if isinstance(found, EngineError):
            raise found
    rival, own = (found.p50_ms for found in timed.values() if isinstance(found, Latency))
    change = np.abs(logits - yardstick.reference).max(axis=1)
    names = (_REFERENCE, _FORM)
    answers = Answers(
        tuple(Row(name, candidate.engine, candidate.precision, 0, "measured") for name in names),
        {"test": dict(zip(names, (yardstick.reference, logits), strict=True))},
    )
    # Without draws: no interval of the bootstrap is a criterion.
    tolerance = msgspec.structs.replace(yardstick.tolerance, draws=0)
    rows, _ = weigh(answers, _REFERENCE, yardstick.decision, yardstick.images, None, tolerance, hashed=False)
    form = rows[1]
    counted = np.sort(change)[: len(change) - len(change) // _ODD_ONE_IN]
    figures = Figures(
        auroc_drop=form.auroc_drop,
        flips=form.flips or 0,
        logit_change=float(counted.max()),
        # A logit that is off by more than 1 is wrong, and by how much says nothing.
        logit_error=float(np.sqrt((np.minimum(change, 1) ** 2).mean())),
        p50_ms=own,
        float_p50_ms=rival,
        short="",
        refused=form.state == "fail",
    )
    return msgspec.structs.replace(figures, short=_short(figures, form, len(logits), yardstick))


def _short(figures: Figures, form: Row, images: int, yardstick: Yardstick) -> str:
    goal = goal_of(yardstick.tolerance)
    if form.state == "fail":
        return form.status.partition(": ")[2]
    if figures.auroc_drop is not None and figures.auroc_drop > goal.auroc_drop:
        return f"AUROC falls by {figures.auroc_drop:.4f}, goal {goal.auroc_drop:.2g}"
    if figures.flips > goal.flips * images:
        return f"{figures.flips} of {images} answers change, goal {100 * goal.flips:.2g} %"
    if form.probability_change is not None and form.probability_change > goal.probability_change:
        return f"a probability moves by {form.probability_change:.3f}, goal {goal.probability_change:.3g}"
    if figures.logit_change > goal.logit_change:
        return f"a logit moves by {figures.logit_change:.2f}, goal {goal.logit_change:.2g}"
    return ""


def step_of(form: str, title: str, figures: Figures, images: int, started: float) -> Step:
    """As a line of the trace; ``kept`` is for the ladder to say."""
    return Step(
        form=form,
        title=title,
        outcome=f"short: {figures.short}" if figures.short else "reached",
        kept=False,
        images=images,
        seconds=time.monotonic() - started,
        auroc_drop=figures.auroc_drop,
        flips=figures.flips,
        logit_change=figures.logit_change,
        logit_error=figures.logit_error,
        p50_ms=figures.p50_ms,
        float_p50_ms=figures.float_p50_ms,
    )


def failed(form: str, title: str, why: str, images: int, started: float) -> Step:
    """As a line of the trace: it could not be made, or did not run."""
    return Step(form, title, f"error: {why}", False, images, time.monotonic() - started)


def part_of(images: Labelled, reference: Logits, count: int, folder: Path) -> tuple[Labelled, Logits]:
    """At most ``count`` of the images, evenly over their order and so in the proportions of their classes."""
    if len(images) <= count:
        return images, reference
    chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
    return pick(images, reference, chosen, folder / "part.npy")


def pick(images: Labelled, reference: Logits, chosen: np.ndarray, npy: Path) -> tuple[Labelled, Logits]:
    """Some of the images, rendered anew into ``npy``."""
    np.save(npy, np.load(images.rendered, mmap_mode="r", allow_pickle=False)[chosen])
    samples = tuple(images.samples[place] for place in chosen)
    return Labelled(npy, images.target[chosen], samples), reference[chosen]
