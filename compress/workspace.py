"""Stages on disk: a killed run goes on from its last finished stage, and leaves no half bundle."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import msgspec

from ..benchmarks.progress import stage as say
from ..runtime.bundle import MANIFEST
from ..runtime.errors import InputError, MachineError
from ..runtime.records import from_json, to_json, write_whole

T = TypeVar("T")

_KEY = "run.json"
_DONE = "done.json"


class Workspace:
    """The folder ``NAME.partial`` beside the bundle it will become; one run at a time works in it.

    Each stage is a folder that appears under its own name only once the stage is finished. The folder belongs to
    one ``key`` (checkpoint, data, options, versions): with another key the stages are made anew.
    """

    def __init__(self, destination: Path, key: dict[str, Any], *, replace: bool) -> None:
        """Open or make it.

        Raises:
            InputError: the destination exists (and ``replace`` is not given), or is not a bundle.
            MachineError: another run works on the same bundle, or the disk cannot be written.
        """
        if destination.exists() and not replace:
            raise InputError(f"{destination}: exists; give another --out, or --force to replace the bundle there")
        if destination.exists() and not (destination / MANIFEST).is_file():
            raise InputError(f"{destination}: exists and is not a bundle; give another --out")
        self._made: set[str] = set()  # or told of, in this run
        self.folder = destination.with_name(f"{destination.name}.partial")
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _KEY).is_file():
            raise InputError(f"{self.folder}: exists and is not a stopped run; move it, or give another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise MachineError(
                f"{destination}: another run is making this bundle; wait for it, or give --out"
            ) from error
        own = hashlib.sha256(msgspec.json.encode(key, order="deterministic")).hexdigest()
        recorded = self.folder / _KEY
        if not recorded.is_file() or recorded.read_text(encoding="ascii").strip() != own:
            for entry in self.folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            write_whole(recorded, own.encode())

    def stage(self, name: str, title: str, kind: type[T], action: Callable[[Path], T]) -> tuple[Path, T]:
        """Do a stage, or take what it left when it was finished before.

        Args:
            name: of its folder.
            title: said on stderr.
            kind: of the record it results in (JSON-able).
            action: gets an empty folder to write to.

        Returns:
            its folder and its record.
        """
        folder = self.folder / name
        if self.has(name):
            if name not in self._made:
                say(f"{title}: done before")
                self._made.add(name)
            return folder, from_json((folder / _DONE).read_bytes(), kind, str(folder / _DONE))
        say(title)
        unfinished = self.folder / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        record = action(unfinished)
        write_whole(unfinished / _DONE, to_json(record))
        unfinished.rename(folder)
        self._made.add(name)
        return folder, record

    def room(self, name: str) -> Workspace:
        """A folder in it with stages of its own."""
        inner = copy.copy(self)
        inner.folder = self.folder / name
        inner.folder.mkdir(exist_ok=True)
        inner._made = set()
        return inner

    def has(self, name: str) -> bool:
        """Whether a stage is finished."""
        return (self.folder / name / _DONE).is_file()

    def remove(self) -> None:
        """Delete it: the bundle is made."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let another run in."""
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
