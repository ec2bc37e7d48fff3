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
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from . import listed_files
from .errors import BundleError, first_line
from .manifest import READ, SCHEMA, Calibration, Explanation, FileEntry, Manifest, Variant
from .plain_files import read_plain
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

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class _Versioned(msgspec.Struct):
    schema: int


class Bundle(msgspec.Struct, frozen=True):
    """An opened bundle: its folder, its manifest, and the manifest's own sha256, which identifies it.

    Attributes:
        signer: name of the trusted key it was found signed with; empty where no key was asked for.
    """

    folder: Path
    manifest: Manifest
    identity: str
    signer: str = ""

    def check(self, name: str) -> Path:
        """The path of a listed file, after its size and sha256 were checked; to be opened, see :meth:`checked`.

        Raises:
            BundleError: not listed, missing, a link, or changed since the bundle was written.
        """
        return listed_files.check(self.folder, name, self._entry(name))

    def checked(self, names: Sequence[str]) -> AbstractContextManager[list[Path]]:
        """The paths of listed files, for others to open inside the block.

        Raises:
            BundleError: as :meth:`check`; and at the end of the block, where a file was written to or exchanged
                between its hash and that end: what was opened is then not to be used.
        """
        return listed_files.checked(self.folder, [(name, self._entry(name)) for name in names])

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a listed file: those that were hashed, whoever writes to it meanwhile.

        Raises:
            BundleError: as :meth:`check`, or longer than ``most`` bytes.
        """
        entry = self._entry(name)
        if entry.size > most:
            raise BundleError(f"{self.folder / name}: is larger than {most} bytes, which none made by medcompress is")
        return listed_files.read(self.folder, name, entry)

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder}: {name} is not listed in its manifest")
        return entry

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
    if not trust:
        return parse_manifest(folder, data)
    from .signing import check_signature

    signer = check_signature(folder, data, Path(trust))
    return msgspec.structs.replace(parse_manifest(folder, data), signer=signer)


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
        json.loads(data, object_pairs_hook=_refuse_ambiguous)
    except ValueError as error:
        raise BundleError(f"{path}: {first_line(error)}; make the bundle again") from error
    if not manifest.files:
        raise BundleError(f"{path}: lists no files; the bundle was not finished, make it again")
    return Bundle(folder, manifest, hashlib.sha256(data).hexdigest())


def _refuse_ambiguous(pairs: list[tuple[str, Any]]) -> None:
    """Of each object within: a key given twice, and what would draw on a terminal or begin a line of its own."""
    if len({key for key, _ in pairs}) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"holds {twice!r} twice, and another reader may take the other one")
    texts = [text for key, value in pairs for text in (key, *(value if isinstance(value, list) else [value]))]
    odd = next((text for text in texts if isinstance(text, str) and _CONTROL.search(text)), None)
    if odd is not None:
        raise ValueError(f"holds control characters, in {odd[:40]!a}")
