"""Where this machine keeps what it found out about itself. Nothing in it is of a patient."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import MachineError


def state_folder() -> Path:
    """``$MEDCOMPRESS_STATE``; under systemd (``StateDirectory=``) what it set up; else ``medcompress`` in
    ``$XDG_STATE_HOME``, by default ``~/.local/state``. It need not exist.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#RuntimeDirectory=,
    https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        MachineError: this user has no home folder.
    """
    own = os.environ.get("MEDCOMPRESS_STATE")
    # systemd joins several folders by colons.
    systemd = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if own or systemd:
        return Path(own or systemd)
    shared = os.environ.get("XDG_STATE_HOME", "")
    # "If an implementation encounters a relative path [...] it should ignore it."
    if shared and Path(shared).is_absolute():
        return Path(shared) / "medcompress"
    try:
        return Path.home() / ".local" / "state" / "medcompress"
    except RuntimeError as error:
        raise MachineError(f"this user has no home folder ({error}); set MEDCOMPRESS_STATE to a folder") from error
