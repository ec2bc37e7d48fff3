"""Answers the images a node has taken, one at a time, away from the threads that talk to its peers."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..audit import AuditLog, Outcome, answer_of, preprocessing_mark
from ..errors import ImageError, ImageRefused, MachineError
from ..prediction import Prediction
from ..predictor import Predictor
from ..records import write_whole
from .answering import encode_answer, predict_explained
from .spool import Job, Spool

# Answers begun and not finished before an image is reported as not answerable: a decoder that crashes on one image
# would otherwise take the node down at every start.
TRIES = 2
# Seconds before a disk that could not be written is tried again; and those no image takes.
_PAUSE, _STUCK = 10.0, 600.0


def _reason(error: Exception) -> str:
    return f"its results cannot be written ({error.strerror})" if isinstance(error, OSError) else str(error)


class _Unwritten(Exception):
    """The audit log cannot be written."""


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
        audit: gets a line before a result is written; None for none.
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
        audit: AuditLog | None,
        log: Callable[[str], None],
        delivered: Callable[[], None],
    ) -> None:
        self._predictor, self._spool, self._out, self._clinical = predictor, spool, out, clinical
        self._most, self._audit, self._log, self._delivered = most, audit, log, delivered
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._count, self._lock = 0, threading.Lock()
        self._stopping = threading.Event()
        self._begun = float("inf")  # when the image under way was begun
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether images are answered, and none takes longer than any can."""
        return self._thread.is_alive() and time.monotonic() - self._begun < _STUCK

    def start(self) -> None:
        """Begin, with what an earlier node left."""
        left = self._spool.recover()
        for job in left:
            for unfinished in self._out.glob(f".{job.receipt}-*.tmp"):
                unfinished.unlink()
            self._count += 1
            self._jobs.put(job)
        if left:
            self._log(f"{len(left)} image(s) of an earlier run are answered first")
        self._thread.start()

    def take(self, data: bytes, sender: str) -> str:
        """Keep an image and answer it in its turn; it is on the disk when this returns its receipt.

        Raises:
            Full: as many wait as may.
            OSError: the disk cannot be written.

        Args:
            data: the DICOM file.
            sender: the AE title it came from.
        """
        with self._lock:
            if self._count >= self._most:
                raise Full
            self._count += 1
        try:
            job = self._spool.take(data, sender)
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
                self._begun = time.monotonic()
                self._spool.begin(job)
                self._finish(job)
            except (OSError, _Unwritten) as error:
                # No fault of the image: nothing is lost, and senders are told to wait once enough of them do.
                self._log(f"{job.receipt}: {_reason(error)}; tried again in {_PAUSE:.0f} s")
                self._retry(job, failed=False)
            except Exception as error:  # a fault of ours, or of the engine: not one image may stop the others
                self._log(f"{job.receipt}: {type(error).__name__} while answering")
                if job.tries < TRIES:
                    self._retry(job, failed=True)
                else:  # not even a refusal can be written
                    self._spool.refuse(job.path)
                    self._forget()
                    self._log(f"{job.receipt}: set aside, without a report")
            finally:
                self._begun = float("inf")

    def _finish(self, job: Job) -> None:
        """Answer one image, deliver the results, forget it. Done twice, it gives the same files: they go by receipt."""
        start = time.perf_counter()
        results, said = self._answer(job, start)
        for kind, data in results.items():
            write_whole(self._out / f"{job.receipt}-{kind}.dcm", data)
        self._spool.finish(job)
        self._forget()
        self._log(f"{job.receipt}: {said} after {time.perf_counter() - start:.3f} s")
        self._delivered()

    def _answer(self, job: Job, start: float) -> tuple[dict[str, bytes], str]:
        bundle, data = self._predictor.bundle, job.path.read_bytes()
        options: dict[str, Any] = {"clinical": self._clinical, "receipt": job.receipt}
        if job.tries >= TRIES:
            reason, kind = "the program failed on the image, and it is not tried again", "fault"
        else:
            try:
                found = predict_explained(self._predictor, data)
                results = encode_answer(data, found, bundle, **options)
                self._note(job, data, start, "answered", found, "")
                missing = self._predictor.variant.explanation is not None and found.heat is None
                return results, "answered, without a heat map" if missing else "answered"
            except ImageError as error:
                reason = f"the image {str(error).removeprefix('image bytes: ')}"
                kind = "refused" if isinstance(error, ImageRefused) else "unreadable"
        results = encode_answer(data, reason, bundle, **options)
        self._note(job, data, start, "failed" if kind == "fault" else "refused", None, kind)
        return results, f"no answer: {reason}"

    def _note(
        self, job: Job, data: bytes, start: float, outcome: Outcome, found: Prediction | None, reason: str
    ) -> None:
        """The audit log's line of one image; without it no result is delivered."""
        if self._audit is None:
            return
        manifest = self._predictor.bundle.manifest
        try:
            self._audit.append(
                who=f"dicom:{job.sender}",
                model=self._predictor.bundle.folder.name,
                bundle=self._predictor.bundle.identity,
                variant=found.variant if found else self._predictor.variant.name,
                input_sha256=hashlib.sha256(data).hexdigest(),
                preprocessing=preprocessing_mark(manifest.preprocessing),
                outcome=outcome,
                answer=answer_of(found, manifest.decision) if found else None,
                reason=reason,
                time_ms=(time.perf_counter() - start) * 1e3,
            )
        except MachineError as error:
            raise _Unwritten(str(error)) from error

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
