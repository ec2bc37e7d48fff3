"""A report as it lies on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from ...runtime.bundle import MANIFEST, open_bundle
from ...runtime.errors import InputError
from ...runtime.records import from_json
from .files import JSON
from .record import OLDEST, SCHEMA, Report


class _Versioned(msgspec.Struct):
    schema: int = 0


def read_report(path: Path) -> Report:
    """The report of a bundle, or of a ``report.json`` that was taken out of one; one of an older schema as of this one.

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
    if not OLDEST <= schema <= SCHEMA:
        mend = "update medcompress" if schema > SCHEMA else "make the bundle again with: medcompress optimize"
        raise InputError(f"{file}: is a report of schema {schema}, this medcompress knows {SCHEMA}; {mend}")
    report = from_json(data, Report, str(file))
    if schema == SCHEMA:
        return report
    # What is written of it from here on is of the present schema: its hash is no longer that of the file.
    origin = f"a report of schema {schema}, sha256 {hashlib.sha256(data).hexdigest()}"
    return msgspec.structs.replace(report, schema=SCHEMA, provenance={**report.provenance, "read from": origin})
