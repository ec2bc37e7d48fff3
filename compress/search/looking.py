"""Network after network: how far each is followed, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from ...benchmarks.networks import Trial
from ...benchmarks.progress import stage as say
from ...runtime.errors import DataError, InputError, first_line, is_full_disk
from ...trained.checkpoint import Checkpoint
from ..workspace import Workspace
from .journal import Journal
from .judging import FAR
from .known import Looked, quickest, slower
from .points import Point, sizes_of
from .rungs import LONG, SHORT, Bench, Learned, Timed, learn, look_at_dense, prune_and_time

# Of the epochs, the short recovery has such a part.
_SHORTER = 6
# To this share a long recovery brings a shortfall down at best, until one has shown better.
_GAIN = 0.2
_MINUTE = 60


class Looking:
    """The search's state: what was found in this workspace, and what an epoch takes.

    Args:
        workspace: a room of its own.
    """

    def __init__(self, workspace: Workspace, bench: Bench) -> None:
        self._workspace, self._bench = workspace, bench
        say("Searching for the fastest network that is good enough")
        self._dense, self._outputs = look_at_dense(workspace, bench)
        self._short = min(bench.epochs, max(1, bench.epochs // _SHORTER))
        self._long = bench.epochs - self._short
        self._journal = Journal(workspace.folder / "journal.log", sizes_of(bench.dense), bench.seed)
        self._stopped: list[Trial] = []
        # Seconds an epoch takes; not known before the first recovery, which ends at the deadline at the latest.
        self._pace = 0.0
        say(f"  dense: {self._dense.p50_ms:.2f} ms ({self._dense.form})")

    def on(self) -> None:
        """Look at one network after the other, until the time is over or nothing is left."""
        while time.monotonic() < self._bench.deadline and self._has_room_for(self._short):
            proposed = self._journal.next()
            if proposed is None:
                say("  nothing is left to look at")
                return
            trial, point = proposed
            found = self._look_at(point)
            if found.trial.state == "stopped":
                # Not told: it is where a search with more time goes on.
                self._stopped += [found.trial]
                say(f"  {point.name}: {found.trial.outcome}")
                return
            self._journal.tell(trial, found)
            left = max(0.0, self._bench.deadline - time.monotonic()) / _MINUTE
            say(f"  {point.name}: {found.trial.outcome}; {left:.0f} min left")

    def polished(self, most: int) -> list[Looked]:
        """The fastest of those that are good enough, recovered for longer where there is time."""
        found = sorted(
            (each for each in self._journal.looked if each.passes), key=lambda each: each.trial.p50_ms or FAR
        )
        return [self._polish(each) for each in found[:most]]

    def trials(self, polished: Sequence[Looked]) -> tuple[Trial, ...]:
        """All that were looked at, the dense network first."""
        latest = {each.point: each for each in [*self._journal.looked, *polished]}
        dense, figures = self._dense, self._dense.figures
        first = Trial(
            name="dense",
            macs_share=1.0,
            looks_at=self._size(Point(1.0)),
            form=dense.form,
            outcome="judged",
            seconds=dense.seconds,
            epochs=0,
            p50_ms=dense.p50_ms,
            size_bytes=dense.size_bytes,
            auroc=figures.auroc,
            auroc_low=figures.auroc_low,
            auroc_high=figures.auroc_high,
            drop_bound=figures.auroc_drop_bound,
            flips=figures.flips,
        )
        return (first, *(each.trial for each in latest.values()), *self._stopped)

    def _look_at(self, point: Point) -> Looked:
        timed: Timed | None = None
        learned: list[Learned] = []

        def looked(outcome: str, shortfall: float, rung: str = "") -> Looked:
            trial = self._trial(point, timed, learned, rung, outcome)
            return Looked(point, trial, shortfall, learned[0].figures.shortfall if learned else None, rung)

        room = self._workspace.room(point.name)
        try:
            start, timed = prune_and_time(room, self._bench, point)
            say(f"  {point.name}: {100 * timed.macs_share:.2g} % of the MACs, {timed.p50_ms:.2f} ms ({timed.form})")
            limit = quickest(self._journal.looked)
            if slower(timed.p50_ms, limit):
                return looked(f"slower: another is good enough and takes {limit:.2f} ms", 0.0)
            for name, epochs in ((SHORT, self._short), (LONG, self._long)):
                if not (room.has(name) or self._has_room_for(epochs)):
                    return looked("stopped: the time was over", FAR)
                start, done = self._learn(room, point, name, start, epochs)
                learned.append(done)
                best = _best(learned)
                if best.figures.passes:
                    return looked("judged", best.figures.shortfall, _rung(learned))
                if time.monotonic() >= self._bench.deadline:
                    return looked("stopped: the time was over", FAR)
                why = self._hopeless(best.figures.shortfall) if name == SHORT else best.figures.worst
                if why or not self._long:
                    return looked(f"short: {best.figures.worst}", best.figures.shortfall, _rung(learned))
        except DataError:
            raise
        except Exception as error:  # torch, exporters and engines raise what they like: it costs this network
            if is_full_disk(error):
                raise
            failed = looked(f"error: {first_line(error)}", FAR)
            unreachable = timed is None and isinstance(error, InputError)
            return msgspec.structs.replace(failed, unreachable=unreachable)
        raise AssertionError

    def _learn(
        self, room: Workspace, point: Point, name: str, start: Checkpoint, epochs: int
    ) -> tuple[Checkpoint, Learned]:
        count = f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"
        title = f"  {point.name}: learning from the dense network, {count}"
        known = room.has(name)
        checkpoint, found = learn(room, self._bench, self._outputs, name, start, title, epochs)
        if not known:
            self._pace = found.seconds / max(1, found.epochs)
        figures = found.figures
        say(f"  {point.name}: {figures.words}; worst: {figures.worst}, {figures.shortfall:.1f} of what is allowed")
        return checkpoint, found

    def _fits(self, epochs: int) -> bool:
        """Whether so many epochs end in time."""
        return time.monotonic() + self._pace * epochs <= self._bench.deadline

    def _has_room_for(self, epochs: int) -> bool:
        """Whether so many fit, and do not cost the fastest found so far the long recovery that there is time for."""
        found = [each for each in self._journal.looked if each.passes]
        best = min(found, key=lambda each: each.trial.p50_ms or FAR, default=None)
        lacks = self._long if best is not None and best.trial.epochs <= self._short else 0
        return self._fits(epochs) and (self._fits(epochs + lacks) or not self._fits(lacks))

    def _hopeless(self, early: float) -> bool:
        """Whether a shortfall after the short recovery is one that none has made good.

        Successive halving among those that were followed to the end (Jamieson and Talwalkar, Non-stochastic Best Arm
        Identification, AISTATS 2016), but of those that are good enough the fastest is wanted: no half of them is kept,
        but those whose start was better than that of any that failed.
        """
        whole = [each for each in self._journal.looked if each.early and each.trial.epochs > self._short]
        if any(each.early is not None and each.early <= early for each in whole if not each.passes):
            return True
        gain = min([_GAIN, *(each.shortfall / each.early for each in whole if each.early)])
        return early * gain > 1

    def _polish(self, looked: Looked) -> Looked:
        room = self._workspace.room(looked.point.name)
        fitting = max((count for count in range(self._long + 1) if self._fits(count)), default=0)
        if looked.trial.epochs > self._short or not (room.has(LONG) or fitting):
            return looked
        try:
            start, timed = prune_and_time(room, self._bench, looked.point)
            learned = []
            for name, epochs in ((SHORT, self._short), (LONG, fitting)):
                start, done = self._learn(room, looked.point, name, start, epochs)
                learned.append(done)
        except DataError:
            raise
        except Exception as error:  # it was good enough before
            if is_full_disk(error):
                raise
            say(f"  {looked.point.name}: not recovered further ({first_line(error)})")
            return looked
        rung = _rung(learned)
        trial = self._trial(looked.point, timed, learned, rung, "judged")
        return Looked(looked.point, trial, _best(learned).figures.shortfall, looked.early, rung)

    def _trial(self, point: Point, timed: Timed | None, learned: Sequence[Learned], rung: str, outcome: str) -> Trial:
        figures = _best(learned).figures if learned else None
        return Trial(
            name=point.name,
            macs_share=timed.macs_share if timed else point.share,
            looks_at=self._size(point),
            form=timed.form if timed else "",
            outcome=outcome,
            seconds=(timed.seconds if timed else 0.0) + sum(each.seconds for each in learned),
            epochs=sum(each.epochs for each in learned),
            p50_ms=timed.p50_ms if timed else None,
            size_bytes=timed.size_bytes if timed else None,
            auroc=figures.auroc if figures else None,
            auroc_low=figures.auroc_low if figures else None,
            auroc_high=figures.auroc_high if figures else None,
            drop_bound=figures.auroc_drop_bound if figures else None,
            flips=figures.flips if figures else None,
        )

    def _size(self, point: Point) -> tuple[int, int]:
        spec = self._bench.dense.spec
        return point.size or spec.shrunk or spec.preprocessing.size


def _best(learned: Sequence[Learned]) -> Learned:
    """The nearest to passing; of those as near the one that learned for longer."""
    return min(reversed(learned), key=lambda each: each.figures.shortfall)


def _rung(learned: Sequence[Learned]) -> str:
    return LONG if _best(learned) is not learned[0] else SHORT
