"""Answers the images a node has taken, one at a time, away from the threads that talk to its peers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ImageError
from ..predictor import Predictor
from ..records import write_whole
from .answering import encode_answer, encode_refusal, read_header
from .spool import Job, Spool

# Answers begun and not finished before an image is reported as not answerable: a decoder that crashes on one image
# would otherwise take the node down at every start.
TRIES = 2
# Seconds before a disk that could not be written is tried again.
_PAUSE = 10.0


class Full(Exception):
    """As many images wait as may."""


class Worker:
    """A thread that answers what is put into it. Every image gets exactly one report, of its answer or of its refusal.

    Args:
        predictor: that answers.
        spool: where the images lie.
        out: folder for the results.
        most: images that may wait.
        clinical: see :func:`medcompress.runtime.dicom.report.make_report`.
        log: takes a line at a time.
        delivered: called after results were written.
    """

    def __init__(
        self,
        predictor: Predictor,
        spool: Spool,
        out: Path,
        *,
        most: int,
        clinical: bool,
        log: Callable[[str], None],
        delivered: Callable[[], None],
    ) -> None:
        self._predictor, self._spool, self._out, self._clinical = predictor, spool, out, clinical
        self._most, self._log, self._delivered = most, log, delivered
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._count, self._lock = 0, threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier node left."""
        left = self._spool.recover()
        for job in left:
            self._count += 1
            self._jobs.put(job)
        if left:
            self._log(f"{len(left)} image(s) of an earlier run are answered first")
        self._thread.start()

    def take(self, data: bytes) -> str:
        """Keep an image and answer it in its turn; it is on the disk when this returns its receipt.

        Raises:
            Full: as many wait as may.
            OSError: the disk cannot be written.
        """
        with self._lock:
            if self._count >= self._most:
                raise Full
            self._count += 1
        try:
            job = self._spool.take(data)
        except OSError:
            self._forget()
            raise
        self._jobs.put(job)
        return job.receipt

    def stop(self, timeout: float) -> None:
        """End after the image under way; the others stay on the disk for the next start."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            try:
                self._spool.begin(job)
                self._finish(job)
            except OSError as error:
                # No fault of the image: nothing is lost, and senders are told to wait once enough of them do.
                self._log(f"{job.receipt}: a result cannot be written ({error.strerror}); tried again")
                self._retry(job, failed=False)
            except Exception as error:  # a fault of ours, or of the engine: not one image may stop the others
                self._log(f"{job.receipt}: {type(error).__name__} while answering")
                if job.tries < TRIES:
                    self._retry(job, failed=True)
                else:  # not even a refusal can be written
                    self._spool.refuse(job.path)
                    self._forget()
                    self._log(f"{job.receipt}: set aside, without a report")

    def _finish(self, job: Job) -> None:
        """Answer one image, deliver the results, forget it. Done twice, it gives the same files: they go by receipt."""
        start = time.perf_counter()
        results, said = self._answer(job)
        for kind, data in results.items():
            write_whole(self._out / f"{job.receipt}-{kind}.dcm", data)
        self._spool.finish(job)
        self._forget()
        self._log(f"{job.receipt}: {said} after {time.perf_counter() - start:.3f} s")
        self._delivered()

    def _answer(self, job: Job) -> tuple[dict[str, bytes], str]:
        bundle = self._predictor.bundle
        source = read_header(job.path)
        reason = "the program failed on it, and it is not tried again"
        if job.tries < TRIES:
            try:
                found = self._predictor.predict(job.path)
                results = encode_answer(source, found, bundle, None, clinical=self._clinical, receipt=job.receipt)
                return results, "answered"
            except ImageError as error:
                reason = str(error).removeprefix(f"{job.path}: ")
        results = encode_refusal(source, reason, bundle, clinical=self._clinical, receipt=job.receipt)
        return results, f"no answer: {reason}"

    def _retry(self, job: Job, *, failed: bool) -> None:
        try:
            self._spool.put_back(job, failed=failed)
        except OSError as error:  # it is still on the disk, where the next start finds it
            self._log(f"{job.receipt}: left for the next start ({error.strerror})")
            self._forget()
            return
        if not failed:
            self._stopping.wait(_PAUSE)
        self._jobs.put(job)

    def _forget(self) -> None:
        with self._lock:
            self._count -= 1
