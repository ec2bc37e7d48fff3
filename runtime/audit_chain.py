"""The audit log: who asked what of which model, when, and what came out; a chain of lines none of which can be changed.

A log is a folder of ``audit-000001.jsonl``, ``audit-000002.jsonl``, ...: one JSON object a line, UTF-8, each with

    number      1, 2, 3, ... through all files
    previous    sha256 of the line before it, as it stands in the file with its newline; of the first, 64 zeros
    time        UTC, and event: opened, answered, refused, failed, torn or clock

and what the event needs (:class:`AuditRecord`). No pixels, no names, no names of files: an image is known by the sha256
of its file's bytes. Nothing but sha256sum is needed to check a line: ``sed -n 7p audit-000001.jsonl | sha256sum`` is
what line 8 holds as ``previous``. All of it, oldest file first::

    import hashlib, json, sys
    number, digest, broken = 0, "0" * 64, b""
    for name in sys.argv[1:]:
        for line in open(name, "rb"):
            try:
                record = json.loads(line)
            except ValueError:  # broken off by a kill: the line after it must hold its hash as "torn"
                broken += line
                continue
            if broken:
                assert record.get("torn") == hashlib.sha256(broken).hexdigest(), f"after {number}: no record"
            assert record["number"] == number + 1, f"{record['number']} stands after {number}"
            assert record["previous"] == digest, f"{number} was changed"
            number, digest, broken = number + 1, hashlib.sha256(line).hexdigest(), b""
    print(number, digest, "then a line that was broken off" if broken else "")

A chain without a key shows that a line was changed, removed, put in or moved. It cannot show that the last lines were
cut off, nor that everything from some line on was written anew by somebody who may write the file. For that the head
(the last line's number and hash, ``medcompress audit head``) is noted elsewhere from time to time, and given to
``medcompress audit verify --head``.
"""

from __future__ import annotations

import hashlib
import io
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from .errors import MachineError

FIRST = "0" * 64
MAX_LINE_BYTES = 64 * 1024
# Further apart than this from what the steady clock says, the wall clock was set.
CLOCK_STEP_S = 1.0
# What the end of a file is searched in for its last whole line.
_TAIL_BYTES = 16 * MAX_LINE_BYTES

Event: TypeAlias = Literal["opened", "answered", "refused", "failed", "torn", "clock"]


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line.

    Attributes:
        number, previous: its place in the chain.
        time: when it was written, UTC.
        event: ``answered``, ``refused`` (the image) or ``failed`` (the machine): one image each. ``opened``: a writer
            started. ``torn``: the lines before this one, back to the last whole one, were broken off when a writer was
            killed. ``clock``: the wall clock was set.
        who: the account, token or station that asked; never a patient.
        model, bundle, variant: that answered; ``bundle`` is the sha256 of its manifest.
        input_sha256: of the bytes of the image's file.
        preprocessing: see :func:`preprocessing_mark`.
        answer: labels, probabilities and threshold.
        reason: the kind of a refusal or failure, a word.
        time_ms: from the request to the answer.
        schema, medcompress: of ``opened``: this module's form, the package's version.
        torn: sha256 of the broken lines, newlines included.
        seconds: the wall clock was set forward by; negative where back.
    """

    number: int
    previous: str
    time: datetime
    event: Event
    who: str = ""
    model: str = ""
    bundle: str = ""
    variant: str = ""
    input_sha256: str = ""
    preprocessing: str = ""
    answer: dict[str, Any] | None = None
    reason: str = ""
    time_ms: float | None = None
    schema: int = 0
    medcompress: str = ""
    torn: str = ""
    seconds: float | None = None


class AuditHead(msgspec.Struct, frozen=True):
    """The last line: its number, the sha256 of its bytes, its time (None before the first line)."""

    number: int = 0
    sha256: str = FIRST
    time: datetime | None = None


class LogEnd(msgspec.Struct, frozen=True):
    """How a log ends.

    Attributes:
        head: the last whole line.
        broken: the bytes after it, which are no record: a killed writer left them.
        unended: the last whole line lacks its newline, and nothing else.
    """

    head: AuditHead
    broken: bytes = b""
    unended: bool = False


def log_files(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    return sorted(folder.glob("audit-[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"))


def read_end(folder: Path) -> LogEnd:
    """The end of a log, from its last megabyte.

    Raises:
        MachineError: there is no record in it.
        OSError: a file cannot be read.
    """
    broken = b""
    for path in reversed(log_files(folder)):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = io.BytesIO(file.read(_TAIL_BYTES)).readlines()
        while lines:
            line = lines.pop()
            if link := read_link(line):
                whole = line.removesuffix(b"\n") + b"\n"
                head = AuditHead(link.number, hashlib.sha256(whole).hexdigest(), link.time)
                return LogEnd(head, broken, unended=whole != line)
            broken = line + broken
        if size > _TAIL_BYTES:
            raise MachineError(
                f"{path}: its last megabyte holds no line of an audit log; look at it with: medcompress audit verify, "
                "and move the folder away to begin a new log"
            )
    return LogEnd(AuditHead(), broken)


class Link(msgspec.Struct, frozen=True):
    """What the chain needs of a line; the rest is not looked at, so that newer logs can be checked too."""

    number: int
    previous: str
    # One without a time zone cannot be held against another: no writer leaves such a one.
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    event: str
    torn: str = ""


def read_link(line: bytes) -> Link | None:
    """A line as part of the chain, or None: it is no record."""
    try:
        return msgspec.json.decode(line, type=Link)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
