"""What an engine's own thread does, and what becomes of those who wait for it."""

from __future__ import annotations

import threading
import time

import pytest

from medcompress.runtime.engines.own_thread import OwnThread
from medcompress.runtime.errors import EngineError


def test_all_is_done_in_one_thread_one_after_the_other() -> None:
    own = OwnThread("test")
    inside, seen = [], []

    def work() -> str:
        inside.append(1)
        seen.append((threading.current_thread().name, len(inside)))
        time.sleep(0.001)
        inside.pop()
        return "done"

    callers = [threading.Thread(target=own.call, args=(work, 10)) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert own.call(work, 10) == "done"
    assert seen == [("test", 1)] * 6
    own.end("it was closed")


def test_what_it_raises_reaches_whoever_called() -> None:
    own = OwnThread("test")
    for error in (KeyError("a"), TimeoutError("its own"), EngineError("no")):

        def work(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            own.call(work, 10)
        assert caught.value is error
    assert own.call(lambda: 1, 10) == 1
    own.end("it was closed")
    with pytest.raises(EngineError, match="it was closed"):
        own.call(lambda: 1, 3600)


def test_one_that_does_not_return_is_waited_for_once() -> None:
    own, released = OwnThread("test"), threading.Event()
    with pytest.raises(EngineError, match=r"no answer in 0\.05 s"):
        own.call(released.wait, 0.05)
    with pytest.raises(EngineError, match="no answer"):
        own.call(lambda: 1, 3600)
    released.set()
    own.end("it was closed")
