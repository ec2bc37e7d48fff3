"""A thread of an engine's own, which its callers wait for only so long.

A GPU that is lost in the middle of a run may never answer, and most libraries know no limit: what is called in here
holds up its own thread, and whoever called goes on. It also suits what a library makes for each thread anew: ONNX
Runtime captures its CUDA graphs so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import EngineError

T = TypeVar("T")


class OwnThread:
    """Does what it is given, one after the other. After a call that did not return it takes no other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._turn = threading.Lock()
        self._refuses = ""
        # Not waited for at the end of the process either.
        threading.Thread(target=_serve, args=(self._given,), daemon=True, name=name).start()

    def call(self, work: Callable[[], T], limit_s: float) -> T:
        """What ``work`` gives, or raises.

        Raises:
            EngineError: it does not return in so many seconds, or an earlier one did not; or the thread was ended.
        """
        with self._turn:
            if self._refuses:
                raise EngineError(self._refuses)
            done: Future[T] = Future()
            self._given.put((work, done))
            try:
                return done.result(limit_s)
            except TimeoutError:
                if done.done():  # the work's own
                    raise
                self._refuses = f"the GPU gave no answer in {limit_s:g} s; look at nvidia-smi, or restart the machine"
                raise EngineError(self._refuses) from None

    def end(self, why: str) -> None:
        """Let the thread end, once it has nothing more to do; ``why`` is what later calls are told."""
        with self._turn:
            self._refuses = self._refuses or why
            self._given.put(None)


def _serve(given: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
    while task := given.get():
        work, done = task
        try:
            done.set_result(work())
        except BaseException as error:  # whoever called raises it
            done.set_exception(error)
        del task, work, done  # what they hold is not to live until the next one comes
