"""Opening a bundle's files: plain files only, so that nothing is read from a device, waited for at a pipe, or followed
out of the folder."""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path

from .errors import BundleError

# Neither follows a link that takes the file's place after it was looked at, nor waits for a pipe's other end.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CHUNK = 1 << 20
# An entry of a tensor's ``external_data`` (onnx.proto, StringStringEntryProto) with the key ``location``: field 1, of
# eight bytes, in any length a varint may be written with.
_LOCATION = b"location"
_EXTERNAL = re.compile(rb"(?:\x0a|\x8a\x80{0,8}\x00)(?:\x08|\x88\x80{0,8}\x00)location")
_SEAM = 32


def open_plain(path: Path) -> io.BufferedReader:
    """Open a plain file to read.

    Raises:
        BundleError: a link, a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    # Looked at first: to open a device may do something already.
    _refuse_special(path, path.lstat().st_mode)
    file = os.open(path, _FLAGS)
    try:
        _refuse_special(path, os.fstat(file).st_mode)
        return io.BufferedReader(io.FileIO(file, "rb"))
    except BaseException:
        os.close(file)
        raise


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a plain file.

    Raises:
        BundleError: not a plain file, or longer than ``most`` bytes.
        OSError: it cannot be read.
    """
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BundleError(f"{path}: is larger than {most} bytes, which none made by medcompress is; copy it again")
    return data


def keeps_weights_elsewhere(path: Path) -> bool:
    """Whether tensors of an ONNX model may lie in other files.

    ONNX Runtime (1.32) and OpenVINO (2026.4) refuse such files outside the model's folder, and read any inside it,
    which no manifest need list.

    Raises:
        BundleError: not a plain file.
        OSError: it cannot be read.
    """
    seen, tail = False, b""
    with open_plain(path) as file:
        while not seen and (chunk := file.read(_CHUNK)):
            seen = _LOCATION in chunk or _LOCATION in tail + chunk[:_SEAM]
            tail = chunk[-_SEAM:]
        if not seen:
            return False
        # The word may stand in any name: only then is the file read as a whole.
        file.seek(0)
        return _EXTERNAL.search(file.read()) is not None


def mark(file: io.BufferedReader) -> tuple[int, ...]:
    """What differs between two looks at a file where it was written to or another put in its place."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "no plain file"
        raise BundleError(f"{path}: is {what}; a bundle holds plain files only, copy it again")
