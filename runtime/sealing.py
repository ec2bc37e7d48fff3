"""Writing a bundle: its manifest last, and its name in one step."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from .bundle import MANIFEST, SIGNATURES
from .errors import BundleError
from .manifest import FileEntry, Manifest
from .records import to_json, write_whole


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """List and hash every file of ``folder`` and write the manifest, last. Older signatures do not hold any more.

    Raises:
        OSError: the disk is full or read-only.
    """
    files: dict[str, FileEntry] = {}
    shutil.rmtree(folder / SIGNATURES, ignore_errors=True)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = FileEntry(path.stat().st_size, digest)
    manifest = msgspec.structs.replace(manifest, files=files)
    write_whole(folder / MANIFEST, to_json(manifest))
    return manifest


def publish(sealed: Path, destination: Path) -> None:
    """Move a sealed folder to its name, in one step; an older bundle there is moved away first, then deleted.

    Killed between these two moves, it leaves the older bundle as ``.NAME.old`` and the new one where it was sealed.

    Raises:
        BundleError: the destination exists and is not a bundle.
    """
    old = destination.with_name(f".{destination.name}.old")
    if destination.exists():
        if not (destination / MANIFEST).is_file():
            raise BundleError(f"{destination}: exists and is not a bundle; give another --out")
        shutil.rmtree(old, ignore_errors=True)
        destination.rename(old)
    sealed.rename(destination)
    shutil.rmtree(old, ignore_errors=True)
