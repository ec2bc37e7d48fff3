"""Every error medcompress raises on purpose, and the exit code each one ends a command with.

    MedcompressError
    ├── GateError        1  the gate said no: nothing compressed was shown to be as good
    ├── InputError       2  wrong usage or input
    │   ├── ImageError       an image that cannot be read, or that is refused
    │   │   └── ImageRefused     ... because it is not of the kind the model was made for
    │   ├── BundleError      a bundle that is damaged, tampered with, or too new
    │   ├── CheckpointError  a checkpoint that is not one, or is not ours
    │   └── DataError        a data set that cannot be used as asked
    └── MachineError     3  this machine lacks something: a package, a CPU feature, disk space
        └── EngineError      an inference engine that cannot run a variant here
            └── EngineAbsent     ... because it is not installed

A message is one line: what was wrong, why, how to mend it.
"""

from __future__ import annotations

import errno


class MedcompressError(Exception):
    """Base of all errors a user can mend; ``exit_code`` is a contract of the command line."""

    exit_code = 2


class GateError(MedcompressError):
    """The gate said no. The bundle that was kept, if any, holds the float model only."""

    exit_code = 1


class InputError(MedcompressError):
    """Wrong usage or wrong input."""

    exit_code = 2


class ImageError(InputError):
    """An image that cannot be read, or that is refused; the message names it.

    Attributes:
        code: what is wrong, for a program: stable, words with hyphens. ``unreadable`` where no code is nearer.
        values: the numbers and DICOM codes the message holds, by name.
    """

    def __init__(self, message: str, code: str = "unreadable", **values: str | int | float) -> None:
        super().__init__(message)
        self.code = code
        self.values = values


class ImageRefused(ImageError):
    """An image that can be read, and is not of the kind the model was made for."""


class BundleError(InputError):
    """A bundle that is damaged, was changed after it was written, or is of a newer schema."""


class CheckpointError(InputError):
    """A file that is not a checkpoint, or not one medcompress can rebuild."""


class DataError(InputError):
    """A data set that cannot be used as asked: empty, one class, leaking, unreadable."""


class MachineError(MedcompressError):
    """This machine lacks something the command needs."""

    exit_code = 3


class EngineError(MachineError):
    """An inference engine that cannot run this variant on this machine."""


class EngineAbsent(EngineError):
    """An inference engine that is not installed: an extra the user may have left out on purpose."""


def is_full_disk(error: Exception) -> bool:
    """Whether there was no room to write: the fault of none of the things that were being made."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def first_line(error: BaseException, most: int = 200) -> str:
    """What another library's error says, in one line of at most so many characters; its kind where it says nothing.

    It may hold what a file says: nothing of that draws on a terminal.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:most]
    return "".join(each if each.isprintable() else "?" for each in line)


def missing_package(package: str, extra: str) -> MachineError:
    """The error for an optional package that is not installed."""
    return MachineError(
        f"{package} is not installed, and this needs it; install it with: pip install 'medcompress[{extra}]'"
    )
