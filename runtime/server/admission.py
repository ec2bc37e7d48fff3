"""Who is let in: so many requests, so many bytes of bodies. What is beyond is told so at once, and never waits."""

from __future__ import annotations

import threading

from .failures import ServingError


class Admission:
    """Counts requests from before their body is read until their work is done. Safe to call from several threads.

    Args:
        most: requests at once.
        most_bytes: of their bodies.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._count, self._bytes = 0, 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Requests that are in."""
        return self._count

    def enter(self, size: int) -> Ticket:
        """Let a request in whose body is announced to have ``size`` bytes (0 where it is not).

        Raises:
            ServingError: ``busy``.
        """
        with self._lock:
            if self._count >= self._most:
                raise ServingError("busy", f"{self._count} requests are waiting already; ask again in a second")
            self._count += 1
        ticket = Ticket(self)
        try:
            ticket.hold(size)
        except ServingError:
            ticket.close()
            raise
        return ticket

    def move(self, requests: int, size: int) -> None:
        """Change the counts; for :class:`Ticket`."""
        with self._lock:
            if size > 0 and self._bytes + size > self._most_bytes:
                raise ServingError("busy", "the images that wait fill the memory set aside; ask again in a second")
            self._count += requests
            self._bytes += size


class Ticket:
    """One request that is in."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0
        self._open = True
        self._lock = threading.Lock()

    def hold(self, size: int) -> None:
        """Its body has at least ``size`` bytes.

        Raises:
            ServingError: ``busy``: there is no room for them.
        """
        if size > self._held:
            self._admission.move(0, size - self._held)
            self._held = size

    def close(self) -> None:
        """It is out, and its body is let go. Any number of times."""
        with self._lock:
            if self._open:
                self._open = False
                self._admission.move(-1, -self._held)
