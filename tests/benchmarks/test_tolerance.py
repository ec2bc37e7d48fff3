from __future__ import annotations

from pathlib import Path

import pytest

from medcompress.benchmarks.statistics.metrics import Change, Scores
from medcompress.benchmarks.tolerance import Tolerance, judge, read_tolerance
from medcompress.runtime.errors import InputError

BASE = Scores(0.95, 0.9, ((0.9, 0.9),))
STILL = Change(0.0, 0)


def test_the_identical_model_passes() -> None:
    assert judge(Tolerance(0, 0, 0, 0, 0), BASE, BASE, STILL, 100).outcome == "pass"


@pytest.mark.parametrize(
    ("candidate", "changed", "word"),
    [
        (Scores(0.94, 0.9, ((0.9, 0.9),)), STILL, "AUROC"),
        (Scores(0.95, 0.9, ((0.88, 0.9),)), STILL, "sensitivity"),
        (Scores(0.95, 0.9, ((0.9, 0.88),)), STILL, "specificity"),
        (BASE, Change(0.0, 3), "changed answers"),
        (BASE, Change(0.3, 0), "probability"),
        (Scores(float("nan"), 0.9, ((0.9, 0.9),)), STILL, "AUROC"),
        (BASE, Change(float("nan"), 0), "probability"),
    ],
)
def test_each_margin_is_held_alone(candidate: Scores, changed: Change, word: str) -> None:
    verdict = judge(Tolerance(), BASE, candidate, changed, 100)
    assert verdict.outcome == "fail"
    assert len(verdict.reasons) == 1
    assert word in verdict.reasons[0]


def test_better_is_never_a_failure() -> None:
    assert judge(Tolerance(), BASE, Scores(0.99, 0.99, ((0.99, 0.99),)), Change(0.1, 1), 100).outcome == "pass"


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "tolerance.yaml"
    path.write_text("auroc_drop: 0.02\nflips: 0\n")
    assert read_tolerance(path) == Tolerance(auroc_drop=0.02, flips=0)


@pytest.mark.parametrize(
    "text", ["aurocdrop: 0.02", "flips: 2", "flips: -1", "flips: yes", "- 1", "flips: [", "flips: .nan"]
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tolerance.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"tolerance\.yaml"):
        read_tolerance(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_tolerance(tmp_path / "none.yaml")
