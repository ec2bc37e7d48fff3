"""A file that a manifest lists: checked by its size and sha256, and whether it stayed so while others opened it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import BundleError
from .manifest import FileEntry
from .plain_files import keeps_weights_elsewhere, mark, open_plain, read_plain


@contextmanager
def checked(folder: Path, entries: Sequence[tuple[str, FileEntry]]) -> Iterator[list[Path]]:
    """The paths of files, for others to open inside the block.

    Raises:
        BundleError: one is missing, a link, or changed since the bundle was written; and at the end of the block, where
            one was written to or exchanged between its hash and that end: what was opened is then not to be used.
    """
    before = [_look(folder, *each) for each in entries]
    paths = [path for path, _ in before]
    found: list[Exception] = []
    # While an engine loads: 9 ms of a ResNet-50 in INT8 on one core, and none on two.
    search = threading.Thread(target=_search, args=(found, paths))
    search.start()
    try:
        yield paths
    finally:
        # What the engine made of such a file, its own refusal too, counts for nothing.
        search.join()
        _refuse_changed(before, found)


def check(folder: Path, name: str, entry: FileEntry) -> Path:
    """The path of a file that was whole a moment ago.

    Raises:
        BundleError: missing, a link, or changed since the bundle was written.
    """
    path, _ = _look(folder, name, entry)
    _refuse_weights_elsewhere([path])
    return path


def read(folder: Path, name: str, entry: FileEntry) -> bytes:
    """The bytes of a file: those that were hashed, whoever writes to it meanwhile.

    Raises:
        BundleError: as :func:`check`.
    """
    path = folder / name
    _refuse_links(path, name)
    try:
        data = read_plain(path, entry.size)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"{path}: was changed after the bundle was written; copy the bundle again")
    return data


def _look(folder: Path, name: str, entry: FileEntry) -> tuple[Path, tuple[int, ...]]:
    """A whole file's path, and how it looked while it was hashed."""
    path = folder / name
    _refuse_links(path, name)
    try:
        with open_plain(path) as file:
            seen = mark(file)
            if os.fstat(file.fileno()).st_size != entry.size:
                raise BundleError(f"{path}: has another size than was written; copy the bundle again")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
    if digest != entry.sha256:
        raise BundleError(f"{path}: was changed after the bundle was written; copy the bundle again")
    return path, seen


def _search(found: list[Exception], paths: Sequence[Path]) -> None:
    try:
        _refuse_weights_elsewhere(paths)
    except Exception as error:  # raised again by the thread that waits
        found.append(error)


def _refuse_changed(before: Sequence[tuple[Path, tuple[int, ...]]], found: Sequence[Exception]) -> None:
    for path, seen in before:
        try:
            with open_plain(path) as file:
                now = mark(file)
        except OSError as error:
            raise BundleError(f"{path}: was taken away while it was opened ({error.strerror})") from error
        if now != seen:
            raise BundleError(f"{path}: was changed while it was opened; let nobody write to a bundle in use")
    # After the others: what the search met in a file that was exchanged meanwhile says nothing of the bundle.
    if found:
        raise found[0]


def _refuse_weights_elsewhere(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            elsewhere = path.suffix == ".onnx" and keeps_weights_elsewhere(path)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
        if elsewhere:
            raise BundleError(f"{path}: keeps weights in other files, which no hash covers; make the bundle again")


def _refuse_links(path: Path, name: str) -> None:
    # A link could lead to a file that is swapped after it was checked, or outside the bundle.
    if any(part.is_symlink() for part in (path, *path.parents[: name.count("/")])):
        raise BundleError(f"{path}: is a link; a bundle holds plain files only, copy it again")
