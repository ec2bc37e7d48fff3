"""The newest bundle of each model that was served here: an older one put in its place is signed as well as it is.

A signature holds for ever. So a machine remembers, for every name a model is served under, when the newest bundle was
made; the time stands in the signed manifest. Who may write the machine's state may make it forget: this is against an
old bundle on a memory stick, not against the machine's owner.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .bundle import Bundle
from .errors import BundleError, InputError, MachineError
from .records import from_json, to_json, write_whole
from .state import state_folder

NEWEST_FILE = "newest.json"


class Newest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a model's newest bundle was made, and that bundle's identity."""

    created: str
    bundle: str


def refuse_older(bundle: Bundle, name: str, *, allow: bool = False, state: Path | None = None) -> None:
    """Remember a bundle as the newest served under ``name``, or refuse it where a newer one was.

    Args:
        bundle: opened with ``trust``: an unsigned manifest's time is worth nothing.
        allow: serve the older bundle, and take it for the newest from now on.
        state: folder of this machine's state; None takes :func:`medcompress.runtime.state.state_folder`.

    Raises:
        BundleError: it is older, or says no time.
        MachineError: what is remembered cannot be read or written.
    """
    path = (state or state_folder()) / NEWEST_FILE
    created = _time(bundle)
    try:
        known = from_json(path.read_bytes(), dict[str, Newest], str(path)) if path.exists() else {}
        before = known.get(name)
        if before and not allow and created < _aware(datetime.fromisoformat(before.created)):
            raise BundleError(
                f"{bundle.folder}: was made on {created:%Y-%m-%d %H:%M}, and {name} was served here from a bundle made "
                f"on {before.created[:16].replace('T', ' ')}; bring the newer one, or allow the older one once"
            )
        now = Newest(created.isoformat(), bundle.identity)
        if now != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, to_json({**known, name: now}))
    except OSError as error:
        raise MachineError(f"{path}: cannot be used ({error.strerror}); mend its permissions") from error
    except (ValueError, InputError) as error:
        if isinstance(error, BundleError):
            raise
        raise MachineError(
            f"{path}: is damaged; delete it, and look whether the newest bundles are in place"
        ) from error


def _time(bundle: Bundle) -> datetime:
    try:
        found = datetime.fromisoformat(bundle.manifest.created)
    except ValueError as error:
        raise BundleError(f"{bundle.folder}: does not say when it was made; make it again") from error
    return _aware(found)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
