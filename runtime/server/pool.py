"""Workers that answer, and what a request may expect of them: an answer before its deadline, or none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from .bodies import Receive
from .failures import ClientGone, ServingError

T = TypeVar("T")


class Job(Generic[T]):
    """Work for one request.

    Attributes:
        queue_s: how long it waited for a worker.
        over: nobody waits for the rest of it any more.
    """

    def __init__(self, work: Callable[[Job[T]], T], deadline: float) -> None:
        self._work: Callable[[Job[T]], T] | None = work
        self._deadline = deadline
        self._submitted = time.monotonic()
        self._dropped = False
        self.queue_s = 0.0

    @property
    def over(self) -> bool:
        """Whether the deadline has passed, or the client has gone."""
        return self._dropped or time.monotonic() > self._deadline

    def run(self) -> T:
        """Do it, unless it is over."""
        work, self._work = self._work, None
        self.queue_s = time.monotonic() - self._submitted
        if work is None or self.over:
            raise ServingError("timeout", "it waited for a worker until it was too late; ask again later")
        return work(self)

    def drop(self) -> None:
        """Nobody waits for it: what has not begun never will, and what it held is let go."""
        self._dropped = True
        self._work = None


class Pool:
    """So many threads. The engines and the decoders let go of Python's lock while they compute."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="answer")
        self._running = 0
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """Jobs that are being done right now."""
        return self._running

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a job behind those that wait already.

        Raises:
            ServingError: ``stopping``: it was closed.
        """
        try:
            return self._executor.submit(self._run, job)
        except RuntimeError as error:
            raise ServingError("stopping", "the server is ending; ask again when it is back") from error

    def close(self) -> None:
        """Take no more; what waits is not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job[T]) -> T:
        with self._lock:
            self._running += 1
        try:
            return job.run()
        finally:
            with self._lock:
                self._running -= 1


async def wait_for(future: Future[T], job: Job[T], seconds: float, receive: Receive | None = None) -> T:
    """The outcome of a job.

    Args:
        seconds: to wait at most.
        receive: of the request, whose body has been read: tells when the client goes away.

    Raises:
        ServingError: ``timeout``.
        ClientGone: the connection was closed.
    """
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_until_gone(receive)) if receive else None
    try:
        waited = {answer, gone} if gone else {answer}
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            return answer.result()
        if gone in done:
            raise ClientGone
        raise ServingError("timeout", f"there was no answer within {seconds:g} s; ask again later")
    finally:
        if not answer.done():
            job.drop()
            future.cancel()
            answer.cancel()
        if gone:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
