"""A report as it lies on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...runtime.bundle import MANIFEST, open_bundle
from ...runtime.errors import InputError
from ...runtime.records import from_json
from .files import JSON
from .record import SCHEMA, Report


class _Versioned(msgspec.Struct):
    schema: int = 0


def read_report(path: Path) -> Report:
    """The report of a bundle, or of a ``report.json`` that was taken out of one.

    Raises:
        InputError: not a report, or one of another schema; of a bundle: changed since it was written.
    """
    file = open_bundle(path).check(JSON) if path.is_dir() and (path / MANIFEST).exists() else path
    if file.is_dir():
        file = file / JSON
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a bundle or its report.json") from error
    schema = from_json(data, _Versioned, str(file)).schema
    if schema != SCHEMA:
        mend = "update medcompress" if schema > SCHEMA else "make the bundle again with: medcompress optimize"
        raise InputError(f"{file}: is a report of schema {schema}, this medcompress knows {SCHEMA}; {mend}")
    return from_json(data, Report, str(file))
