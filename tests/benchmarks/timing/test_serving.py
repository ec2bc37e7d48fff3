"""What random arrivals alone do to the tail of a queue: the yardstick of a server under half load."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest

from medcompress.benchmarks.timing.serving_load import ideal


def test_the_perfect_queue_is_that_of_queueing_theory() -> None:
    assert ideal([0.0, 10.0, 20.0], 1, 1.0) == 1
    assert ideal([0.0] * 101, 1, 1.0) == pytest.approx(100 / 51)
    assert ideal([0.0] * 2, 2, 1.0) == 1, "each has a worker of its own"
    # At half load, two workers: one in a hundred still waits more than a service time and a half.
    draw = random.Random(0)
    arrivals = list(accumulate(draw.expovariate(1.0) for _ in range(20_000)))
    assert 2.4 < ideal(arrivals, 2, 1.0) < 2.8
    assert ideal(arrivals, 1, 0.5) > ideal(arrivals, 4, 2.0)
