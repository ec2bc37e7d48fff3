"""What is measured of a server under load, as records."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Done(NamedTuple):
    """So many answers, in so many seconds."""

    answers: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class Saturation(msgspec.Struct, frozen=True):
    """Answers a second, medians over rounds taken in turn.

    Attributes:
        of_predictor, of_engine: the server's share, median of the rounds' own.
        server_cpu_ms, predictor_cpu_ms: CPU time an answer takes, which a busy machine changes least.
        loader_cpu: CPU seconds a second that the loading process took meanwhile.
    """

    server: float
    predictor: float
    engine: float
    of_predictor: float
    of_engine: float
    server_cpu_ms: float
    predictor_cpu_ms: float
    loader_cpu: float


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds from a request's due time to its answer.

    Attributes:
        p99_of_median: tail to median; ``ideal``: the same of a perfect queue, met by the same arrivals, whose workers
            take one and the same time for every request and lose none between two: what random arrivals alone cost.
    """

    rate: float
    requests: int
    failed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_of_median: float
    ideal: float


class Crowd(msgspec.Struct, frozen=True):
    """``statuses``: of every request; ``broken``: connections that ended without an answer."""

    clients: int
    statuses: dict[str, int]
    broken: int
    unanswered: int
    longest_wait_s: float
    rss_before_mb: float
    rss_after_mb: float


class Mixed(msgspec.Struct, frozen=True):
    """``wrong``: answers other than the offline prediction; ``let_in``: hostile requests that were answered."""

    seconds: float
    answered: int
    wrong: int
    hostile: int
    let_in: int
    broken: int
    statuses: dict[str, int]
    rss_start_mb: float
    rss_end_mb: float
    growth: float


class Served(msgspec.Struct, frozen=True):
    """What was asked for of it."""

    variant: str
    workers: int
    saturation: Saturation | None = None
    half_load: Spread | None = None
    crowd: Crowd | None = None
    mixed: Mixed | None = None
