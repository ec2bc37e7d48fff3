"""The bundle: a folder that holds a model in every form that was proven, and the evidence.

    manifest.json        this module's Manifest: what everything is, and the sha256 of every other file
    model.onnx           the FP32 reference: the artifact of record
    variants/...         the compressed forms
    calibration.json     sha256 of the pixels each INT8 form was calibrated with
    ranges.json          how the values of every tensor were distributed over those images
    golden.npz           a few inputs with each variant's outputs: the self-test of the machine that will run it
    report.json, report.html, report.md, model_card.md

A file is hashed just before it is opened: the folder is to be writable by nobody while it is in use.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from .decision import Decision
from .errors import BundleError, InputError
from .preprocessing import Preprocessing
from .records import from_json, to_json, write_whole

SCHEMA = 3
# Older manifests have fewer fields and mean the same.
_READ = (1, 2, 3)
MANIFEST = "manifest.json"
REFERENCE_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
CALIBRATION_FILE = "calibration.json"
RANGES_FILE = "ranges.json"

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
# Letters, digits, '.', '_' and '-' in at most three folders; no part starts with a dot, so none climbs out.
_SAFE_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/){0,3}[A-Za-z0-9_][A-Za-z0-9._-]*")


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One runnable form of the model.

    Attributes:
        name: ``onnxruntime-int8-vnni`` and the like.
        engine: a name of :data:`medcompress.runtime.engines.ENGINES`.
        precision: that the engine is made to execute: ``fp32``, ``bf16``, ``int8`` or ``int8-bf16``.
        files: of the bundle, the model first.
        requires: CPU features without which its answers, or its speed, are not those that were measured.
        figures: measured on the build machine, on the test split: auroc, sensitivity, p50_ms, ...
    """

    name: str
    engine: str
    precision: str
    files: tuple[str, ...]
    requires: tuple[str, ...] = ()
    figures: dict[str, float | None] = {}


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The images INT8 ranges were taken from, without their names.

    Attributes:
        seed: of the choice.
        sha256: of each image's decoded pixels (:func:`medcompress.runtime.images.pixel_hash`).
        classes: how many of each class.
    """

    seed: int
    sha256: tuple[str, ...]
    classes: dict[str, int]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes and sha256 of one file of the bundle."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bundle says of itself.

    Attributes:
        schema: of this record; newer ones are refused.
        verdict: ``pass``; ``fail``: nothing compressed was as good; ``inconclusive``: nothing was shown to be. Of the
            last two only float forms are here, unless ``accepted``.
        reason: why ``chosen`` was chosen, in a sentence.
        chosen: name of the variant to run on a machine like the one it was measured on.
        reference: name of the variant all others were compared with.
        threads: the figures were measured with, and the default of the runtime.
        spec: of the network (``medcompress.trained.spec.ModelSpec``): the runtime reads nothing from it.
        accepted: an inconclusive form was let through on the maker's word.
        lineage: checkpoint and data fingerprints, tolerance, package versions, CPU of the build machine.
        files: every other file of the bundle.
    """

    schema: int
    created: str
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str
    chosen: str
    reference: str
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)]
    decision: Decision
    preprocessing: Preprocessing
    variants: tuple[Variant, ...]
    spec: dict[str, Any]
    lineage: dict[str, Any]
    files: dict[str, FileEntry] = {}
    accepted: bool = False

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names) or not {self.chosen, self.reference} <= set(names):
            raise ValueError("the variants' names repeat, or the chosen one or the reference is not among them")
        unsafe = [name for name in self.files if not _SAFE_NAME.fullmatch(name)]
        if unsafe:
            raise ValueError(f"a file of the bundle is named {unsafe[0]!r}, which may lead outside it")
        for variant in self.variants:
            unlisted = [name for name in variant.files if name not in self.files]
            if self.files and (unlisted or not variant.files):
                raise ValueError(f"variant {variant.name} names files that are not listed: {unlisted}")

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            InputError: there is none; the message lists those there are.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(variant.name for variant in self.variants)
        raise InputError(f"the bundle has no variant {name!r}; it has: {names}")


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
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder}: {name} is not listed in its manifest")
        path = self.folder / name
        # A link could lead to a file that is swapped after it was checked, or outside the bundle.
        if any(part.is_symlink() for part in (path, *path.parents[: name.count("/")])):
            raise BundleError(f"{path}: is a link; a bundle holds plain files only, copy it again")
        try:
            if path.stat().st_size != entry.size:
                raise BundleError(f"{path}: has another size than was written; copy the bundle again")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
        if digest != entry.sha256:
            raise BundleError(f"{path}: was changed after the bundle was written; copy the bundle again")
        return path

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


def open_bundle(folder: str | Path) -> Bundle:
    """Read and validate a bundle's manifest; its other files are checked as they are read.

    Raises:
        BundleError: not a bundle, a damaged manifest, a newer schema, names that lead outside.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: is larger than a manifest can be; copy the bundle again")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder}: is not a bundle (no readable {MANIFEST}); make one with: medcompress optimize"
        ) from error
    # Only the number is read first: the fields of a newer schema are not ours to judge.
    schema = from_json(data, _Versioned, str(path), BundleError).schema
    if schema not in _READ:
        raise BundleError(
            f"{path}: has schema {schema}, this medcompress knows {SCHEMA}; "
            f"{'update medcompress' if schema > SCHEMA else 'make the bundle again'}"
        )
    manifest = from_json(data, Manifest, str(path), BundleError)
    if not manifest.files:
        raise BundleError(f"{path}: lists no files; the bundle was not finished, make it again")
    return Bundle(folder, manifest, hashlib.sha256(data).hexdigest())


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """List and hash every file of ``folder`` and write the manifest, last.

    Raises:
        OSError: the disk is full or read-only.
    """
    files: dict[str, FileEntry] = {}
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
