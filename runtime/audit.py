"""Writing the audit log; :mod:`medcompress.runtime.audit_chain` says what a log is."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import filelock
import msgspec

from .audit_chain import CLOCK_STEP_S, MAX_LINE_BYTES, AuditHead, AuditRecord, Event, log_files, read_end
from .errors import MachineError
from .records import open_to_append

if TYPE_CHECKING:
    from .decision import Decision
    from .prediction import Prediction
    from .preprocessing import Preprocessing

SCHEMA = 1
ROTATE_BYTES = 64 * 1024 * 1024

_LOCK_FILE = "audit.lock"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

Outcome: TypeAlias = Literal["answered", "refused", "failed"]


class AuditLog:
    """The one writer of a log. Safe to call from several threads.

    A line that :meth:`append` returned from is on the disk: lines that are written at the same time share one
    ``fsync``, and each call waits for it. A line may so stand for an answer nobody received; no answer is without one.

    Args:
        folder: of the log; made where it is missing.
        rotate_bytes: a file this long is followed by the next.

    Raises:
        MachineError: another process writes this log, it cannot be written, or its end is damaged beyond what a kill
            can do.
    """

    def __init__(self, folder: str | Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.folder = Path(folder)
        self._rotate_bytes = rotate_bytes
        self._writing = threading.Lock()  # taken before _syncing where both are
        self._syncing = threading.Lock()
        self._durable = 0
        self._failed = ""
        self._file = -1
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.folder / _LOCK_FILE, timeout=0, thread_local=False)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise MachineError(
                f"{self.folder}: another process writes this audit log; stop it, or give each a folder of its own"
            ) from error
        except OSError as error:
            raise self._cannot("be written", error) from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def head(self) -> AuditHead:
        """The last line that was written."""
        return self._head

    def append(
        self,
        *,
        who: str,
        model: str,
        bundle: str,
        variant: str,
        input_sha256: str,
        preprocessing: str,
        outcome: Outcome,
        answer: dict[str, Any] | None = None,
        reason: str = "",
        time_ms: float,
    ) -> None:
        """Write one image's line, and wait until it is on the disk. Arguments: see :class:`AuditRecord`.

        Raises:
            ValueError: ``input_sha256`` is none, ``reason`` is not one word (a message could hold a name), or the
                line would be longer than 64 KiB.
            MachineError: the disk is full or broken; nothing was written.
        """
        if not _SHA256.fullmatch(input_sha256):
            raise ValueError("input_sha256 is 64 hexadecimal digits: the image is known by nothing else")
        if reason and not _KIND.fullmatch(reason):
            raise ValueError("reason is one word, the kind of a refusal: a message may hold a name")
        fields = {
            "who": who,
            "model": model,
            "bundle": bundle,
            "variant": variant,
            "input_sha256": input_sha256,
            "preprocessing": preprocessing,
            "answer": answer,
            "reason": reason,
            "time_ms": round(time_ms, 3),
        }
        with self._writing:
            number = self._write(outcome, **fields)
        self._sync(number)

    def close(self) -> None:
        """Close the file and let another process write the log."""
        with self._writing, self._syncing:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            self._failed = self._failed or "it was closed"
            self._lock.release()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        """Find the last whole line, mark what was broken off after it, and say that a writer started."""
        files = log_files(self.folder)
        self._path = files[-1] if files else self.folder / "audit-000001.jsonl"
        self._clocks = _clocks()
        try:
            end = read_end(self.folder)
            self._file = open_to_append(self._path)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise self._cannot("be read", error) from error
        self._head = end.head
        if end.unended:
            self._put(b"\n")
        if end.broken:
            # One write: a kill in the middle of it leaves broken lines again, one more of them.
            newline = b"" if end.broken.endswith(b"\n") else b"\n"
            self._line("torn", self._clocks[0], newline, torn=hashlib.sha256(end.broken + newline).hexdigest())
        if end.head.time is not None and (back := self._clocks[0] - end.head.time.timestamp()) < -CLOCK_STEP_S:
            self._line("clock", self._clocks[0], seconds=round(back, 3))
        self._sync(self._write("opened", schema=SCHEMA, medcompress=version("medcompress")))

    def _write(self, event: Event, **fields: Any) -> int:
        """One line, after a line of its own where the clock was set; returns its number."""
        wall, steady = _clocks()
        seconds = (wall - self._clocks[0]) - (steady - self._clocks[1])
        if abs(seconds) > CLOCK_STEP_S:
            self._line("clock", wall, seconds=round(seconds, 3))
        # Only now: where that line could not be written, the next one must still say it.
        self._clocks = (wall, steady)
        if self._size >= self._rotate_bytes:
            self._rotate()
        return self._line(event, wall, **fields)

    def _line(self, event: Event, wall: float, before: bytes = b"", **fields: Any) -> int:
        now = datetime.fromtimestamp(wall, UTC)
        record = AuditRecord(self._head.number + 1, self._head.sha256, now, event, **fields)
        line = msgspec.json.encode(record) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a line of the audit log has at most {MAX_LINE_BYTES} bytes, this one {len(line)}")
        self._put(before + line)
        self._head = AuditHead(record.number, hashlib.sha256(line).hexdigest(), now)
        return record.number

    def _put(self, data: bytes) -> None:
        """Write all of it, or nothing."""
        if self._failed:
            raise MachineError(f"{self.folder}: the audit log is not written any more ({self._failed}); start again")
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            try:
                os.ftruncate(self._file, self._size)
            except OSError as worse:  # a part of a line stays: the next start marks it
                self._failed = f"{worse.strerror}"
            raise self._cannot("be written", error) from error
        self._size += len(data)

    def _sync(self, number: int) -> None:
        """Wait until line ``number`` is on the disk; whoever comes first takes the others' lines along."""
        with self._syncing:
            if self._durable >= number:
                return
            if self._failed:
                raise MachineError(f"{self.folder}: a line may not be on the disk ({self._failed}); start again")
            reached = self._head.number
            try:
                os.fsync(self._file)
            except OSError as error:
                # After a failed fsync the kernel may call the lost pages clean: no later one can be believed.
                self._failed = f"{error.strerror}"
                raise self._cannot("be kept on the disk", error) from error
            self._durable = reached

    def _rotate(self) -> None:
        self._sync(self._head.number)
        with self._syncing:
            path = self.folder / f"audit-{int(self._path.stem[6:]) + 1:06}.jsonl"
            try:
                file = open_to_append(path)
            except OSError as error:
                raise self._cannot("be written", error) from error
            os.close(self._file)
            self._file, self._path, self._size = file, path, 0

    def _cannot(self, what: str, error: OSError) -> MachineError:
        how = "free some space on its disk, or mend its permissions"
        return MachineError(f"{self.folder}: the audit log cannot {what} ({error.strerror}); {how}")


def preprocessing_mark(preprocessing: Preprocessing) -> str:
    """What stands in the log of a preprocessing: its version, and the sha256 of its record as JSON."""
    digest = hashlib.sha256(msgspec.json.encode(preprocessing)).hexdigest()
    return f"{preprocessing.version}:{digest}"


def answer_of(prediction: Prediction, decision: Decision) -> dict[str, Any]:
    """What stands in the log of an answer: its labels, and of every class the probability and the threshold."""
    thresholds = {name: decision.threshold_of(c) for c, name in enumerate(decision.classes)}
    if decision.kind == "binary":
        thresholds = {decision.positive: decision.threshold}
    return {
        "labels": prediction.labels,
        "probabilities": {name: round(p, 6) for name, p in prediction.probabilities.items()},
        "thresholds": {name: value for name, value in thresholds.items() if value is not None},
    }


def _clocks() -> tuple[float, float]:
    """The wall clock, and one that nobody sets and that goes on while the machine sleeps, where there is such a one."""
    steady = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time(), time.monotonic() if steady is None else time.clock_gettime(steady)
