"""Files that are not our checkpoints: what they are, told without running anything in them."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..runtime.errors import CheckpointError, first_line

# The first number in a torch file of before 2020 (torch.serialization.MAGIC_NUMBER), as pickled.
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
# What a file of tensors imports: anything else is an object of some class.
_PLAIN = re.compile(r"torch\.\w+|torch\._utils\.\w+|torch\.storage\.\w+|collections\.OrderedDict")
_MAX_PICKLE_BYTES = 64 * 1024 * 1024
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}


def read_torch(path: Path) -> Any:
    """What a torch file holds, on the CPU, if it is tensors and plain Python values only.

    Raises:
        CheckpointError: missing, empty, damaged, or holding anything that would need code to be run.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the checkpoint in it, such as best.pth")
    if size == 0:
        raise CheckpointError(f"{path}: is empty (0 bytes); copy it again, or train again")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if start[:2] == b"PK":
        _refuse_bomb(path)
    elif _LEGACY_MAGIC not in start:
        raise _refuse_other(path, start)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says so too when a file is cut off, so what it refuses is looked up in the file itself.
        names = [name for name in pickle_globals(path) if not _PLAIN.fullmatch(name)]
        if not names:
            raise CheckpointError(f"{path}: is damaged or cut off ({first_line(error, 120)}); copy it again") from error
        raise CheckpointError(
            f"{path}: holds pickled Python objects ({', '.join(names[:3])}), never opened: a pickle can run any "
            "code; save the weights alone with torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # A damaged file makes torch raise whatever its reader meets first.
        raise CheckpointError(f"{path}: is damaged or cut off ({first_line(error, 120)}); copy it again") from error


def _refuse_bomb(path: Path) -> None:
    """The pickle in a torch file names tensors and is small; one that unpacks to gigabytes is an attack."""
    try:
        with zipfile.ZipFile(path) as archive:
            large = [e for e in archive.infolist() if e.filename.endswith(".pkl") and e.file_size > _MAX_PICKLE_BYTES]
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return  # torch says what is wrong with it
    if large or unpacked > 100 * path.stat().st_size:
        raise CheckpointError(f"{path}: unpacks to far more than a checkpoint holds; it is not opened")


def refuse_foreign(path: Path, payload: Any) -> CheckpointError:
    """The error for a readable torch file that some other tool wrote."""
    tensors = find_tensors(payload)
    if not tensors:
        return CheckpointError(f"{path}: is a torch file without weights; give the best.pth of medcompress train")
    return CheckpointError(
        f"{path}: holds {len(tensors)} tensors but no ModelSpec (architecture, classes, preprocessing), so "
        "medcompress cannot rebuild the network; train it with: medcompress train"
    )


def describe_foreign(path: Path, payload: Any) -> dict[str, Any]:
    """Facts about a readable torch file of another tool: keys, tensors, parameters, types, prefix."""
    tensors = find_tensors(payload)
    prefixes = {name.split(".", 1)[0] for name in tensors if "." in name}
    wrapped = [prefix for prefix in ("module", "model", "_orig_mod", "net", "backbone") if prefixes == {prefix}]
    return {
        "kind": "torch file of another tool",
        "keys": [str(key) for key in payload][:20] if isinstance(payload, Mapping) else [],
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "prefix": f"{wrapped[0]}." if wrapped else "",
        "reason": str(refuse_foreign(path, payload)),
    }


def find_tensors(payload: Any, depth: int = 2) -> dict[str, torch.Tensor]:
    """The tensors of a ``state_dict``, bare or under one key of a dictionary; empty if there are none."""
    if not isinstance(payload, Mapping) or not depth:
        return {}
    tensors = {str(name): value for name, value in payload.items() if isinstance(value, torch.Tensor)}
    inner = [find_tensors(value, depth - 1) for value in payload.values() if isinstance(value, Mapping)]
    return max([tensors, *inner], key=len)


def pickle_globals(path: Path) -> list[str]:
    """The ``module.name`` of everything a pickle would import, in order, read without running it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
                if sum(entry.file_size for entry in entries) > _MAX_PICKLE_BYTES:
                    return []
                data = b"".join(archive.read(entry) for entry in entries)
        else:
            data = path.read_bytes()
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError):
        return []
    return list(dict.fromkeys(_globals(data)))


def _globals(data: bytes) -> Iterator[str]:
    """Globals of the pickles that follow one another in ``data``, up to the first byte that is no pickle."""
    strings: list[str] = []
    memo: dict[int, str] = {}
    position, last = 0, ""
    while position < len(data):
        end = position
        try:
            for opcode, argument, offset in pickletools.genops(data[position:]):
                if opcode.name in _STRINGS:
                    last = str(argument)
                    strings.append(last)
                elif opcode.name == "MEMOIZE":
                    memo[len(memo)] = last
                elif opcode.name in ("BINGET", "LONG_BINGET") and argument in memo:
                    strings.append(memo[argument])
                elif opcode.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                    if strings[-2]:
                        yield f"{strings[-2]}.{strings[-1]}"
                    last = ""
                else:
                    last = last if opcode.name == "MEMOIZE" else ""
                end = position + (offset or 0) + 1
        except Exception:  # Not a pickle from here on; genops raises many kinds.
            return
        if end <= position:
            return
        position = end


def _refuse_other(path: Path, start: bytes) -> CheckpointError:
    names = pickle_globals(path)
    libraries = list(dict.fromkeys(name.partition(".")[0] for name in names))
    if start[:1] == b"\x80" or names:
        made_by = f" of {', '.join(libraries[:4])}" if libraries else ""
        return CheckpointError(
            f"{path}: is a Python pickle{made_by}, not a torch checkpoint, never opened: a pickle can run any code; "
            "give the best.pth of medcompress train"
        )
    return CheckpointError(f"{path}: is not a torch file; give the best.pth of medcompress train")
