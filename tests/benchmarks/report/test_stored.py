"""A report on disk: of this schema, and of the one before it."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from medcompress.benchmarks.report.files import write_report
from medcompress.benchmarks.report.record import OLDEST, SCHEMA
from medcompress.benchmarks.report.stored import read_report
from medcompress.runtime.errors import InputError
from medcompress.runtime.records import to_json

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
# As medcompress wrote it when that was the schema; shortened.
OLD = Path(__file__).with_name("schema2.json")


def test_the_last_schema_is_read_and_rendered(tmp_path: Path) -> None:
    assert json.loads(OLD.read_bytes())["schema"] == OLDEST < SCHEMA
    report = read_report(OLD)
    assert report.schema == SCHEMA
    assert report.steps == report.overflows == ()
    assert report.reference_row.p50_low_ms is not None and report.reference_row.p99_low_ms is None
    write_report(tmp_path, report, {})
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for shown in (page, text):
        assert "12.01 (11.96 to 12.07)" in shown
        assert hashlib.sha256(OLD.read_bytes()).hexdigest() in shown, "which file the figures came from"
        assert hashlib.sha256((tmp_path / "report.json").read_bytes()).hexdigest() in shown
        assert "How the INT8 form was found" not in shown


def test_what_is_written_of_it_is_of_this_schema(tmp_path: Path) -> None:
    report = read_report(OLD)
    write_report(tmp_path, report, {})
    assert read_report(tmp_path / "report.json") == report


def test_a_report_of_before_the_networks_is_read(tmp_path: Path) -> None:
    made = MADE.laddered()
    older = {name: part for name, part in json.loads(to_json(made)).items() if name not in ("networks", "trials")}
    path = tmp_path / "report.json"
    path.write_bytes(to_json(older | {"schema": 3}))
    report = read_report(path)
    assert report.schema == SCHEMA and report.networks == report.trials == ()
    assert report.steps == made.steps and "a report of schema 3" in report.provenance["read from"]


def test_networks_and_trials_come_back_as_they_were(tmp_path: Path) -> None:
    made = MADE.pruned()
    write_report(tmp_path, made, {})
    assert read_report(tmp_path) == made


@pytest.mark.parametrize("schema", [OLDEST - 1, SCHEMA + 1])
def test_another_schema_is_refused(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(OLD.read_bytes()) | {"schema": schema}))
    with pytest.raises(InputError, match=f"is a report of schema {schema}"):
        read_report(path)
