"""The JSON schema of report.json, for who reads it with another language.

    python -m medcompress.benchmarks.report.schema

writes ``report.schema.json`` beside this module; a test holds it against the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ...runtime.records import to_json, write_whole
from .record import SCHEMA, Report

FILE = Path(__file__).with_name("report.schema.json")


def report_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of :class:`medcompress.benchmarks.report.record.Report`."""
    made = msgspec.json.schema(Report)
    named = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"medcompress report, schema {SCHEMA}",
    }
    return named | made


if __name__ == "__main__":
    write_whole(FILE, to_json(report_schema()))
