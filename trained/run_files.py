"""The files of a training run's folder that others read: their names, and how what is stored in them is read."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import InputError
from ..runtime.records import from_json

BEST, LAST, RESUME = "best.pth", "last.pth", "resume.ckpt"
OPTIONS, WARNINGS = "options.json", "warnings.json"


def read_warnings(out: Path) -> tuple[str, ...]:
    """What was said against a run's data when it was started.

    Raises:
        InputError: they are not there, or damaged.
    """
    return from_json(stored(out / WARNINGS), tuple[str, ...], str(out / WARNINGS))


def stored(path: Path) -> bytes:
    """What a run left in one of its files; an InputError where that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); start the training again") from error
