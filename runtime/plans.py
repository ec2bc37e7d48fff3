"""TensorRT's plans: a model compiled for one GPU, kept where it was compiled.

A plan is code: it runs on the GPU it was made on, with the driver and TensorRT it was made with, and whoever may write
one runs what he likes. So none is shipped: a bundle carries ONNX, ``medcompress build`` makes the plan on the machine
that runs it, and it is kept in this user's state folder beside a record of what it was made from and its sha256. One
that is damaged, that others may write to, or that was made from anything else is never given to TensorRT.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from .errors import EngineError, InputError, MachineError
from .gpu import Gpu
from .plain_files import open_plain, read_plain
from .records import from_json, to_json, write_whole
from .state import state_folder

SCHEMA = 1
# Batches a plan is made for, (fewest, usual, most): one image alone, and several at once.
PROFILES = ((1, 1, 1), (2, 16, 64))
# More are not kept: those that were not loaded for the longest time go, as of the tries of ``medcompress optimize``.
_MOST_PLANS = 32
_MAX_PLAN_BYTES = 8 * 1024**3
_MAX_CACHE_BYTES = 512 * 1024**2
_MAX_RECORD_BYTES = 1024**2
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Key(msgspec.Struct, frozen=True):
    """All that a plan depends on: one made from anything else is another plan.

    Attributes:
        machine: a digest of the system's own id; empty where it has none.
        gpu, capability, driver, cuda: see :class:`medcompress.runtime.gpu.Gpu`.
        tensorrt: its version.
        model: sha256 of the ONNX file.
        precision: that was asked for.
        outputs: tensors within the model that it gives beside its own.
        profiles: batches, (fewest, usual, most) each.
    """

    machine: str
    gpu: str
    capability: str
    driver: str
    cuda: str
    tensorrt: str
    model: str
    precision: str
    outputs: tuple[str, ...] = ()
    profiles: tuple[tuple[int, int, int], ...] = PROFILES


class Record(msgspec.Struct, frozen=True):
    """What lies beside a plan.

    Attributes:
        version_compatible: made to run on later versions of TensorRT too: with the lean runtime of its own version.
        sha256, size: of the plan, in bytes.
        created: ISO 8601, UTC.
        seconds: the build took.
        precision: it was really built in, by TensorRT's account.
        layers: how many work in each precision.
        activations_bytes: of the GPU's memory that one inference at a time needs, beside the plan itself.
    """

    schema: int
    key: Key
    version_compatible: bool
    sha256: str
    size: int
    created: str
    seconds: float
    precision: str
    layers: dict[str, int]
    activations_bytes: int


def key_of(gpu: Gpu, tensorrt: str, model: bytes, precision: str, outputs: tuple[str, ...] = ()) -> Key:
    """What a plan of this ONNX model depends on here."""
    digest = hashlib.sha256(model).hexdigest()
    return Key(_machine(), gpu.name, gpu.capability, gpu.driver, gpu.cuda, tensorrt, digest, precision, outputs)


def find(key: Key) -> tuple[Record, bytes]:
    """The plan made from just this, whole as it was written; or a version-compatible one of an earlier TensorRT.

    Raises:
        EngineError: there is none, or it is damaged; the message says what differs, and to build it.
    """
    why = "no plan was built from it on this machine"
    for path, record in _records(key):
        differs = _differs(record, key)
        if differs:
            why = f"its plan was built for another {differs}"
            continue
        try:
            plan = _read(path.with_suffix(".plan"), record.sha256, _MAX_PLAN_BYTES)
            with suppress(OSError):
                os.utime(path)
            return record, plan
        except (OSError, InputError, MachineError) as error:
            why = f"its plan cannot be used ({error})"
            break
    raise EngineError(f"{why}; run: medcompress build BUNDLE")


def keep(record: Record, plan: bytes) -> Path:
    """Write a plan and its record. Those of the same model and GPU that it takes the place of go, and the oldest.

    Raises:
        MachineError: this user has no folder for it.
        OSError: it cannot be written.
    """
    folder = _folder(make=True)
    path = folder / f"{_stem(record.key)}.plan"
    # The record last: without it the plan is none.
    _write(path, plan)
    _write(path.with_suffix(".json"), to_json(record))
    for old, other in _records(record.key):
        if old.stem != path.stem and _same(other.key, record.key, *_PLACE):
            _drop(old)
    for old in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-_MOST_PLANS]:
        _drop(old)
    return path


def timing_cache(key: Key) -> bytes:
    """What earlier builds measured with this GPU, driver and TensorRT; empty where none did.

    Raises:
        InputError: it is damaged; it was thrown away.
    """
    path = _cache(key)
    try:
        digest = read_plain(path.with_suffix(".sha256"), 64).decode("ascii", "replace")
        return _read(path, digest, _MAX_CACHE_BYTES)
    except OSError:
        return b""
    except InputError:
        drop_timing_cache(key)
        raise


def keep_timing_cache(key: Key, cache: bytes) -> None:
    """Keep what a build measured; where it cannot be written the next one measures again."""
    with suppress(OSError, MachineError):
        _folder(make=True)
        path = _cache(key)
        _write(path, cache)
        _write(path.with_suffix(".sha256"), hashlib.sha256(cache).hexdigest().encode())


def drop_timing_cache(key: Key) -> None:
    """Throw it away."""
    with suppress(OSError, MachineError):
        _cache(key).unlink(missing_ok=True)
        _cache(key).with_suffix(".sha256").unlink(missing_ok=True)


# Fields by which a plan takes the place of another: it is of the same model, for the same GPU, and newer.
_PLACE = ("machine", "gpu", "capability", "model", "precision", "outputs")
_WORDS = {
    "machine": "machine",
    "gpu": "GPU",
    "capability": "compute capability",
    "driver": "driver",
    "cuda": "driver",
    "profiles": "set of batch sizes",
}


def _differs(record: Record, key: Key) -> str:
    """What a plan was made from that is not so here, with both values; empty where all is."""
    for field, word in _WORDS.items():
        was, now = getattr(record.key, field), getattr(key, field)
        if was != now:
            return (
                word if field in {"machine", "profiles"} else f"{word} ({was or 'unknown'}; here: {now or 'unknown'})"
            )
    was, now = record.key.tensorrt, key.tensorrt
    later = record.version_compatible and _numbers(was) <= _numbers(now)
    return "" if was == now or later else f"TensorRT ({was}; here: {now})"


def _records(key: Key) -> Iterator[tuple[Path, Record]]:
    """Those of this model, precision and outputs, the one that was made from just ``key`` last looked for first."""
    try:
        folder = _folder()
        paths = sorted(folder.glob(f"{key.model[:16]}-*.json"), key=lambda path: path.stem != _stem(key))
    except (OSError, MachineError):
        return
    for path in paths:
        try:
            record = from_json(read_plain(path, _MAX_RECORD_BYTES), Record, str(path))
        except (OSError, InputError):
            continue
        if record.schema == SCHEMA and _same(record.key, key, "model", "precision", "outputs"):
            yield path, record


def _same(one: Key, other: Key, *fields: str) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _read(path: Path, sha256: str, most: int) -> bytes:
    """The bytes of a file of ours, hashed after they were read.

    Raises:
        InputError: not a plain file, others may write to it, or it is not what was written.
        OSError: it cannot be read.
    """
    with open_plain(path) as file:
        if hasattr(os, "getuid"):
            for each, found in ((path, os.fstat(file.fileno())), (path.parent, path.parent.stat())):
                if found.st_mode & _OTHERS_WRITE or found.st_uid not in {0, os.getuid()}:
                    raise InputError(f"{each}: belongs to, or may be written by, other users")
        data = file.read(most)
    if not hmac.compare_digest(hashlib.sha256(data).hexdigest(), sha256):
        raise InputError(f"{path}: is not as it was written")
    return data


def _drop(path: Path) -> None:
    for suffix in (".json", ".plan"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    write_whole(path, data)
    path.chmod(0o644)


def _folder(*, make: bool = False) -> Path:
    folder = state_folder() / "plans"
    if make:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # whatever the umask: who writes a plan decides what runs
    return folder


def _stem(key: Key) -> str:
    return f"{key.model[:16]}-{hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:16]}"


def _cache(key: Key) -> Path:
    known = "\n".join((key.machine, key.gpu, key.capability, key.driver, key.cuda, key.tensorrt))
    return _folder() / f"timing-{hashlib.sha256(known.encode()).hexdigest()[:16]}.cache"


def _machine() -> str:
    """By the id systemd gives a machine, of which none but a digest is to be kept
    (https://www.freedesktop.org/software/systemd/man/latest/machine-id.html)."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        with suppress(OSError):
            return hmac.new(path.read_bytes().strip(), b"medcompress plans", "sha256").hexdigest()[:32]
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
