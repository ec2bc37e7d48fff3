from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from medcompress.benchmarks.tolerance import OperatingPoint, Subgroups, Tolerance, read_tolerance, registered
from medcompress.runtime.errors import InputError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tolerance.yaml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = written(tmp_path, "auroc_drop: 0.02\nflips: 0\n")
    assert read_tolerance(path)[0] == Tolerance(auroc_drop=0.02, flips=0)


def test_everything_can_be_said_in_a_file(tmp_path: Path) -> None:
    text = r"""
    threshold: {sensitivity: 0.95}
    temperature: refit
    subgroups:
      - {column: age, bands: [18, 65]}
      - {name: pathogen, pattern: '_(bacteria|virus)_'}
    """
    found, _ = read_tolerance(written(tmp_path, text))
    assert found.threshold == OperatingPoint(sensitivity=0.95)
    assert found.subgroups == (
        Subgroups("age", bands=(18, 65)),
        Subgroups(pattern="_(bacteria|virus)_", name="pathogen"),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("aurocdrop: 0.02", "unknown field `aurocdrop`"),
        ("flips: 2", "<= 1"),
        ("flips: -1", ">= 0"),
        ("flips: yes", "got `bool`"),
        ("flips: .nan", "flips"),
        ("- 1", "array"),
        ("flips: [", "is not a tolerance"),
        ("", "is empty"),
        ("confidence: 1", "< 1"),
        ("minimum: 0", ">= 1"),
        ("draws: 5", ">= 100"),
        ("threshold: yuden", "yuden"),
        ("threshold: 1.0", "< 1"),
        ("threshold: {sensitivity: 0.9, cost: 2}", "one of"),
        ("threshold: {}", "one of"),
        ("subgroups: [{column: age, pattern: x}]", "column or by a pattern"),
        ("subgroups: [{column: age, bands: [65, 18]}]", "rising"),
        ("subgroups: [{pattern: x}]", "name"),
        ("subgroups: [{column: age}, {column: age}]", "same name"),
        ("subgroups: [{column: age, bands: [.nan]}]", "rising"),
        ("threshold: {cost: .inf}", "<= 1"),
        ("flips: 0.01\nflips: 0.5", "twice"),
        ("!!python/object/apply:os.system ['true']", "is not a tolerance"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line_that_says_why(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(InputError, match=r"tolerance\.yaml") as raised:
        read_tolerance(written(tmp_path, text))
    assert word in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_tolerance(tmp_path / "none.yaml")


def test_margins_written_after_the_results_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "flips: 0\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))  # 2023-11-14T22:13:20
    _, found = read_tolerance(path)
    assert found.written == "2023-11-14T22:13:20+00:00"
    assert replace(found, measured="2023-11-15T00:00:00+00:00").before
    assert not replace(found, measured="2023-11-14T22:00:00+00:00").before


def test_of_margins_without_a_file_only_the_defaults_are_old() -> None:
    assert replace(registered(Tolerance()), measured="2023-11-14T22:00:00+00:00").before
    given = replace(registered(Tolerance(flips=0.5)), measured="2023-11-14T22:00:00+00:00")
    assert not given.before
    assert given.sha256 != registered(Tolerance()).sha256


def test_the_hash_is_of_the_file(tmp_path: Path) -> None:
    first = read_tolerance(written(tmp_path, "flips: 0\n"))[1].sha256
    assert first != read_tolerance(written(tmp_path, "flips: 0.0\n"))[1].sha256


def test_margins_that_hold_nothing_are_cautioned_against() -> None:
    assert Tolerance().cautions == ()
    told = " ".join(Tolerance(flips=1, minimum=2, confidence=0.5).cautions)
    assert all(word in told for word in ("flips", "minimum 2", "confidence 0.5"))
