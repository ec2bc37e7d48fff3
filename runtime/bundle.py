"""The bundle: a folder that holds a model in every form that was proven, and the evidence.

    manifest.json        this module's Manifest: what everything is, and the sha256 of every other file
    model.onnx           the FP32 reference: the artifact of record
    variants/...         the compressed forms
    calibration.json     sha256 of the pixels each INT8 form was calibrated with
    ranges.json          how the values of every tensor were distributed over those images
    explanations/...     what heat maps are made with
    golden.npz           a few inputs with each variant's outputs: the self-test of the machine that will run it
    guard.npz            what the input guard learned of the training images
    report.json, report.html, report.md, model_card.md

    signatures/...       of manifest.json, see :mod:`medcompress.runtime.signing`: the only files it does not list

A file is hashed just before it is opened: the folder is to be writable by nobody while it is in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from .errors import BundleError
from .manifest import READ, SCHEMA, Calibration, Explanation, FileEntry, Manifest, Variant
from .plain_files import keeps_weights_elsewhere, mark, open_plain, read_plain
from .records import from_json

# The records are :mod:`medcompress.runtime.manifest`'s, and known here too: a bundle is opened for them.
__all__ = [
    "CALIBRATION_FILE",
    "GOLDEN_FILE",
    "GUARD_FILE",
    "MANIFEST",
    "RANGES_FILE",
    "REFERENCE_FILE",
    "SCHEMA",
    "SIGNATURES",
    "TRUST",
    "Bundle",
    "Calibration",
    "Explanation",
    "FileEntry",
    "Manifest",
    "Variant",
    "open_bundle",
    "parse_manifest",
    "read_manifest",
]

MANIFEST = "manifest.json"
REFERENCE_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
GUARD_FILE = "guard.npz"
CALIBRATION_FILE = "calibration.json"
RANGES_FILE = "ranges.json"
SIGNATURES = "signatures"

# Of the environment: the public key, or the folder of keys, every bundle must be signed with.
TRUST = "MEDCOMPRESS_TRUST"

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class _Versioned(msgspec.Struct):
    schema: int


class Bundle(msgspec.Struct, frozen=True):
    """An opened bundle: its folder, its manifest, and the manifest's own sha256, which identifies it."""

    folder: Path
    manifest: Manifest
    identity: str

    def check(self, name: str) -> Path:
        """The path of a listed file, after its size and sha256 were checked.

        Raises:
            BundleError: not listed, missing, a link, or changed since the bundle was written.
        """
        path, _ = self._look(name)
        self._refuse_weights_elsewhere([path])
        return path

    @contextmanager
    def checked(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """The paths of listed files, for others to open inside the block.

        Raises:
            BundleError: as :meth:`check`; and at the end of the block, where a file was written to or exchanged
                between its hash and that end: what was opened is then not to be used.
        """
        before = [self._look(name) for name in names]
        paths = [path for path, _ in before]
        found: list[Exception] = []
        # While an engine loads: 9 ms of a ResNet-50 in INT8 on one core, and none on two.
        search = threading.Thread(target=_kept, args=(found, self._refuse_weights_elsewhere, paths))
        search.start()
        try:
            yield paths
        finally:
            # What the engine made of such a file, its own refusal too, counts for nothing.
            search.join()
            self._refuse_changed(before, found)

    @staticmethod
    def _refuse_changed(before: Sequence[tuple[Path, tuple[int, ...]]], found: Sequence[Exception]) -> None:
        if found:
            raise found[0]
        for path, seen in before:
            try:
                with open_plain(path) as file:
                    now = mark(file)
            except OSError as error:
                raise BundleError(f"{path}: was taken away while it was opened ({error.strerror})") from error
            if now != seen:
                raise BundleError(f"{path}: was changed while it was opened; let nobody write to a bundle in use")

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a listed file: those that were hashed, whoever writes to it meanwhile.

        Raises:
            BundleError: as :meth:`check`, or longer than ``most`` bytes.
        """
        entry = self._entry(name)
        path = self.folder / name
        self._refuse_links(name)
        if entry.size > most:
            raise BundleError(f"{path}: is larger than {most} bytes, which none made by medcompress is")
        try:
            data = read_plain(path, entry.size)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{path}: was changed after the bundle was written; copy the bundle again")
        return data

    def _look(self, name: str) -> tuple[Path, tuple[int, ...]]:
        """A checked file's path, and how it looked while it was hashed."""
        entry = self._entry(name)
        path = self.folder / name
        self._refuse_links(name)
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

    @staticmethod
    def _refuse_weights_elsewhere(paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                elsewhere = path.suffix == ".onnx" and keeps_weights_elsewhere(path)
            except OSError as error:
                raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
            if elsewhere:
                raise BundleError(f"{path}: keeps weights in other files, which no hash covers; make the bundle again")

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder}: {name} is not listed in its manifest")
        return entry

    def _refuse_links(self, name: str) -> None:
        # A link could lead to a file that is swapped after it was checked, or outside the bundle.
        path = self.folder / name
        if any(part.is_symlink() for part in (path, *path.parents[: name.count("/")])):
            raise BundleError(f"{path}: is a link; a bundle holds plain files only, copy it again")

    def check_files(self) -> None:
        """Hash every file.

        Raises:
            BundleError: the first file that is missing or changed.
        """
        for name in self.manifest.files:
            self.check(name)

    def size(self, variant: Variant) -> int:
        """Bytes on disk of what the variant needs."""
        return sum(self.manifest.files[name].size for name in variant.files)


def open_bundle(folder: str | Path, *, trust: str | Path | None = None) -> Bundle:
    """Read and validate a bundle's manifest; its other files are checked as they are read.

    Args:
        folder: of the bundle.
        trust: a public key, or a folder of them: only a bundle signed with one of them is opened. None takes the
            environment's ``MEDCOMPRESS_TRUST``; where that is not set either, signatures are not looked at.

    Raises:
        BundleError: not a bundle, a damaged manifest, a newer schema, names that lead outside, or not signed with a
            trusted key.
        InputError: ``trust`` holds no public key.
        MachineError: there is a key to check with and nothing to check it.
    """
    folder = Path(folder)
    data = read_manifest(folder)
    trust = trust or os.environ.get(TRUST)
    if trust:
        from .signing import check_signature

        check_signature(folder, data, Path(trust))
    return parse_manifest(folder, data)


def read_manifest(folder: Path) -> bytes:
    """The bytes of a bundle's manifest.

    Raises:
        BundleError: there is none that can be read.
    """
    try:
        return read_plain(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(
            f"{folder}: is not a bundle (no readable {MANIFEST}); make one with: medcompress optimize"
        ) from error


def parse_manifest(folder: Path, data: bytes) -> Bundle:
    """Validate the bytes of a manifest.

    Raises:
        BundleError: see :func:`open_bundle`.
    """
    path = folder / MANIFEST
    # Only the number is read first: the fields of a newer schema are not ours to judge.
    schema = from_json(data, _Versioned, str(path), BundleError).schema
    if schema not in READ:
        raise BundleError(
            f"{path}: has schema {schema}, this medcompress knows {SCHEMA}; "
            f"{'update medcompress' if schema > SCHEMA else 'make the bundle again'}"
        )
    manifest = from_json(data, Manifest, str(path), BundleError)
    try:
        json.loads(data, object_pairs_hook=_refuse_twice)
    except ValueError as error:
        raise BundleError(
            f"{path}: {error}, and another reader may take the other one; make the bundle again"
        ) from error
    if not manifest.files:
        raise BundleError(f"{path}: lists no files; the bundle was not finished, make it again")
    return Bundle(folder, manifest, hashlib.sha256(data).hexdigest())


def _kept(found: list[Exception], check: Callable[[Sequence[Path]], None], paths: Sequence[Path]) -> None:
    try:
        check(paths)
    except Exception as error:  # raised again by the thread that waits
        found.append(error)


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"holds {next(key for key in keys if keys.count(key) > 1)!r} twice")
