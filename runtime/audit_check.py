"""Checking an audit log: a line changed, removed, put in, moved or doubled. Memory does not grow with the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from .audit_chain import CLOCK_STEP_S, FIRST, MAX_LINE_BYTES, AuditHead, Link, log_files, read_link
from .errors import InputError

# A log of another kind gives a problem a line: more than this many are counted only.
_MOST_PROBLEMS = 100

ProblemKind: TypeAlias = Literal["changed", "missing", "order", "doubled", "damaged", "time", "head"]


class AuditProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        file, line: where it was seen; the line counts from 1 in its file.
        kind: ``changed``, ``missing``, ``order`` (moved, put in, or there twice), ``doubled`` (twice in a row),
            ``damaged`` (no record), ``time`` (earlier than the line before, and no set clock is noted) or ``head``.
        message: a sentence.
    """

    file: str
    line: int
    kind: ProblemKind
    message: str


class AuditCheck(msgspec.Struct, frozen=True):
    """What a log says of itself.

    Attributes:
        whole: there are no problems.
        files: that were read, in that order.
        lines: records among their lines; ``events`` counts them by kind.
        first, head: number of the first record; number and sha256 of the last.
        head_time: of the last record.
        unfinished: the last line is being written, or was broken off and no writer has started since.
        problems: the first 100 of ``problem_count``.
    """

    whole: bool
    files: tuple[str, ...]
    lines: int
    events: dict[str, int]
    first: int
    head: int
    head_sha256: str
    head_time: datetime | None
    unfinished: bool
    problem_count: int
    problems: tuple[AuditProblem, ...]


class _Line(NamedTuple):
    file: str
    number: int
    data: bytes
    link: Link | None


def audit_paths(given: Sequence[Path]) -> list[Path]:
    """The files of logs: those of a folder oldest first, a file as it was given.

    Raises:
        InputError: nothing is there, or a folder holds no log.
    """
    found: list[Path] = []
    for path in given:
        files = log_files(path) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise InputError(f"{path}: is no audit log; name the folder of audit-000001.jsonl, ..., or such files")
        found += files
    return found


def check_log(given: Sequence[Path], *, head: str = "", after: str = FIRST) -> AuditCheck:
    """Follow the chain through files, oldest first, or through folders of them.

    Args:
        given: folders or files.
        head: sha256 of a line that was the last one once, kept elsewhere: it must still be in the chain.
        after: sha256 of the line before the first one given, where older files were put away.

    Raises:
        InputError: no such file, or it cannot be read.
    """
    paths = audit_paths(given)
    walk = _Walk(head, after)
    try:
        for path in paths:
            for line in _lines(path):
                walk.take(line)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from error
    return walk.finish(tuple(map(str, paths)))


class _Walk:
    """The state of one walk along a log: the same size however long the log is."""

    def __init__(self, head: str, after: str) -> None:
        self.head, self.after = head, after
        self.last = AuditHead() if after == FIRST else None
        self.last_line: _Line | None = None
        self.first = 0
        self.head_found = not head
        self.events: dict[str, int] = {}
        self.problems: list[AuditProblem] = []
        self.count = 0
        # What has come since the last record and is none.
        self.broken: list[_Line] = []
        self.broken_lines = 0
        self.broken_hash = hashlib.sha256()

    def take(self, line: _Line) -> None:
        """The next line."""
        if line.link is None or not line.data.endswith(b"\n"):
            self.broken = [*self.broken[:1], line]
            self.broken_lines += 1
            self.broken_hash.update(line.data)
            return
        replaced = self.broken_lines
        if replaced:
            if line.link.event == "torn" and line.link.torn == self.broken_hash.hexdigest():
                replaced = 0
            else:
                self._damaged()
            self.broken, self.broken_lines, self.broken_hash = [], 0, hashlib.sha256()
        self._follow(line, line.link, replaced)

    def finish(self, files: tuple[str, ...]) -> AuditCheck:
        """What was found, after the last line."""
        unfinished = self.broken_lines == 1 and not self.broken[0].data.endswith(b"\n")
        if self.broken and not unfinished:
            self._damaged()
        last = self.last or AuditHead()
        if not self.head_found:
            self._problem(
                self.last_line,
                "head",
                "no line in the chain has the sha256 that was noted as its head: its end was cut off or written anew",
            )
        return AuditCheck(
            whole=self.count == 0,
            files=files,
            lines=sum(self.events.values()),
            events=self.events,
            first=self.first,
            head=last.number,
            head_sha256=last.sha256,
            head_time=last.time,
            unfinished=unfinished,
            problem_count=self.count,
            problems=tuple(self.problems),
        )

    def _follow(self, line: _Line, link: Link, replaced: int) -> None:
        """Hold a record against the one before it; ``replaced`` lines between them are no records."""
        # With ``after`` only the hash of the line before the first is known.
        last = self.last or AuditHead(link.number - 1 - replaced, self.after)
        digest = hashlib.sha256(line.data).hexdigest()
        expected = last.number + 1
        if link.number < expected:
            if digest == last.sha256:
                self._problem(line, "doubled", f"number {link.number} stands here a second time")
            else:
                self._problem(line, "order", f"number {link.number} stands after {last.number}: moved, or put in")
            return
        if link.number == expected and link.previous != last.sha256:
            if self.last_line is None:
                self._problem(line, "changed", f"number {link.number} does not follow the line it should begin after")
            else:
                self._problem(
                    self.last_line,
                    "changed",
                    f"number {last.number} is not what it was when number {link.number} was written after it",
                )
        elif link.number > expected and link.number != expected + replaced:
            numbers = f"number {expected} is" if link.number == expected + 1 else f"{expected} to {link.number - 1} are"
            older = "" if self.last_line else "; name the older files too, or give --after"
            self._problem(line, "missing", f"{numbers} missing before number {link.number}{older}")
        if (
            last.time
            and (link.time - last.time).total_seconds() < -CLOCK_STEP_S
            and link.event not in ("clock", "torn")
        ):
            self._problem(line, "time", f"number {link.number} is earlier than the one before it, and no clock was set")
        self.first = self.first or link.number
        self.events[link.event] = self.events.get(link.event, 0) + 1
        self.head_found = self.head_found or digest == self.head
        self.last = AuditHead(link.number, digest, last.time if link.event == "torn" else link.time)
        self.last_line = line

    def _damaged(self) -> None:
        what = "is no record" if self.broken_lines == 1 else f"begins {self.broken_lines} lines that are no records"
        self._problem(self.broken[0], "damaged", f"{what}, and none after it says that a writer was killed there")

    def _problem(self, line: _Line | None, kind: ProblemKind, message: str) -> None:
        self.count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            file, number = (line.file, line.number) if line else ("", 0)
            self.problems.append(AuditProblem(file, number, kind, message))


def _lines(path: Path) -> Iterator[_Line]:
    """The lines of a file; what is longer than a record can be comes in pieces, none of them a record."""
    number, whole = 1, True
    with path.open("rb") as file:
        while data := file.readline(MAX_LINE_BYTES):
            ended = data.endswith(b"\n")
            yield _Line(str(path), number, data, read_link(data) if whole else None)
            whole = ended
            number += ended
