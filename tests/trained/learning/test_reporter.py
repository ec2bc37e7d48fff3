"""How long a training still takes, by a clock that is set by hand."""

from __future__ import annotations

import math

import pytest

from medcompress.trained.learning import reporter
from medcompress.trained.learning.reporter import Pace, spoken


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(reporter.time, "monotonic", lambda: self.now)

    def epoch(self, pace: Pace, batches: int, seconds: float, end: float) -> None:
        pace.begin()
        for _ in range(batches):
            self.now += seconds
            pace.learned()
        self.now += end
        pace.judged()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_batches_and_ends_of_epochs_are_counted_apart(clock: Clock) -> None:
    pace = Pace()
    clock.epoch(pace, batches=10, seconds=2, end=5)
    assert (pace.epoch, pace.learning, pace.batches) == (25, 20, 10)
    assert pace.left(batches=30, epochs=3) == pytest.approx(75)
    clock.epoch(pace, batches=10, seconds=4, end=15)
    assert pace.left(batches=30, epochs=3) == pytest.approx(30 * 3 + 3 * 10)
    pace.begin()
    clock.now += 3
    pace.learned()
    assert pace.left(batches=0, epochs=1) == pytest.approx(10)


def test_the_deadline_is_the_end(clock: Clock) -> None:
    pace = Pace(deadline=1000 + 25 + 7)
    clock.epoch(pace, batches=10, seconds=2, end=5)
    assert pace.left(batches=1000, epochs=100) == pytest.approx(7 + 5)  # and the last validation
    assert pace.left(batches=1, epochs=1) == pytest.approx(2 + 5)
    clock.now += 60
    assert pace.left(batches=1000, epochs=100) == pytest.approx(5)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (41.4, "41 s"), (59.6, "1 min"), (200, "3 min"), (9000, "2.5 h")]
)
def test_it_is_said_as_exactly_as_it_is_known(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_nothing_is_known_before_the_first_batch(clock: Clock) -> None:
    assert Pace(math.inf).left(batches=10, epochs=1) == 0
