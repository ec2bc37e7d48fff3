"""Reading and writing the project's JSON records (manifest, report, spec) with one kind of error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import InputError, first_line

T = TypeVar("T")


def from_json(data: bytes | str, kind: type[T], name: str, error: type[InputError] = InputError) -> T:
    """Decode and validate ``data``; ``name`` stands in the message of ``error``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        raise error(f"{name}: is not a valid {kind.__name__} ({first_line(why, 500)})") from why


def to_json(record: Any) -> bytes:
    """Indented JSON, keys in the order of the record's fields, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a reader sees the old content or the new, never a part.

    The data reach the disk before the name does, so a power cut leaves no empty file either.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_to_append(path: Path) -> int:
    """Open a file to append to; a new one's name is on the disk when this returns."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return file
