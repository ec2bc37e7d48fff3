"""Two saved runs side by side, on runs whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.timing.runs import compare, log_ratio_interval, main
from medcompress.benchmarks.timing.saved_run import Run, read_run

ROUNDS = 10
CPU = {"brand_raw": "Test CPU", "arch_string_raw": "x86_64", "count": 2, "hz_actual": [2_500_000_000, 0]}


def _run(**medians_s: Any) -> Run:
    medians = {name: tuple(values) for name, values in medians_s.items()}
    return Run(
        "run.json", "2026-01-01", "abc", "cpu", {}, medians, dict.fromkeys(medians, 1.0), {name: {} for name in medians}
    )


def _rounds(rng: np.random.Generator, ms: float, between: float, samples: int = 50) -> list[float]:
    """Medians of rounds, each slowed by what the machine did then; samples have a tail of slow ones."""
    slowed = ms / 1e3 * np.exp(rng.normal(0, between, ROUNDS))
    return np.median(slowed[:, None] * np.exp(rng.gamma(1, 0.05, (ROUNDS, samples))), axis=1).tolist()


def _saved(path: Path, medians: Mapping[str, list[float]], cpu: Mapping[str, Any] = CPU, **machine: Any) -> Path:
    """As pytest-benchmark writes it: an entry a round, all of a round before the next."""
    benchmarks = [
        {
            "group": "g",
            "name": f"bench_{name}[round{number}-one]",
            "fullname": f"benchmarks/suites/bench_x.py::bench_{name}[round{number}-one]",
            "params": {"round": number, "kind": "one"},
            "param": f"round{number}-one",
            "extra_info": {"cpu_share": 1.0},
            "stats": {"median": values[number], "mean": values[number], "rounds": 5},
        }
        for number in range(max(map(len, medians.values()), default=0))
        for name, values in medians.items()
        if number < len(values)
    ]
    document = {
        "machine_info": {"node": "here", "python_version": "3.11.7", "cpu": dict(cpu), **machine},
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "benchmarks": benchmarks,
        "datetime": "2026-01-01T10:00:00",
        "version": "5.1.0",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("truth", [0.5, 0.9, 1.2, 2.0])
def test_a_known_ratio_is_recovered_and_named(truth: float) -> None:
    rng = np.random.default_rng(1)
    old, new = _rounds(rng, 10, 0.01), _rounds(rng, 10 * truth, 0.01)
    row = compare(_run(x=old), _run(x=new)).rows[0]
    assert row.low is not None and row.high is not None
    assert row.ratio == pytest.approx(truth, rel=0.02)
    assert row.low < truth < row.high
    assert row.verdict == ("slower" if truth > 1 else "faster")


def test_equal_runs_are_told_to_be_equal_where_the_machine_is_quiet() -> None:
    rng = np.random.default_rng(2)
    row = compare(_run(x=_rounds(rng, 3, 0.01)), _run(x=_rounds(rng, 3, 0.01))).rows[0]
    assert row.verdict == "no difference"


def test_a_sure_change_within_the_margin_is_no_difference_until_the_margin_is_narrower() -> None:
    rng = np.random.default_rng(3)
    old, new = _run(x=_rounds(rng, 3, 0.003)), _run(x=_rounds(rng, 3.09, 0.003))
    assert compare(old, new).rows[0].verdict == "no difference"
    assert compare(old, new, margin=0.01).rows[0].verdict == "slower"


@pytest.mark.parametrize("samples", [2, 50])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(samples: int) -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        low, high = log_ratio_interval(_rounds(rng, 1, 0.04, samples=samples), _rounds(rng, 1.5, 0.04, samples=samples))
        hits += low <= np.log(1.5) <= high
    # Standard error of the share: 1.3 points.
    assert 0.92 <= hits / 300 <= 0.985


def test_pooled_samples_would_cover_far_too_seldom() -> None:
    """Why rounds are the units: the same bootstrap over samples, as if they were independent."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(50):
        pools = []
        for _ in range(2):
            slowed = np.repeat(np.exp(rng.normal(0, 0.04, ROUNDS)), 10)
            pools.append(slowed * np.exp(rng.gamma(1, 0.05, slowed.size)))
        low, high = log_ratio_interval(pools[0].tolist(), pools[1].tolist())
        hits += low <= 0 <= high
    assert hits < 40


def test_code_that_did_not_change_is_seldom_called_faster_or_slower() -> None:
    rng = np.random.default_rng(6)
    runs = [_run(**{f"x{i}": _rounds(rng, 1, 0.06) for i in range(300)}) for _ in range(2)]
    verdicts = [row.verdict for row in compare(runs[0], runs[1]).rows]
    assert sum(verdict in {"faster", "slower"} for verdict in verdicts) <= 0.05 * 200


def test_a_run_that_drifts_as_far_as_the_change_tells_nothing() -> None:
    steady = [0.0100, 0.0101, 0.0100, 0.0101, 0.0100, 0.0101, 0.0100, 0.0101]
    drifting = [0.0101, 0.0102, 0.0101, 0.0102, 0.0122, 0.0121, 0.0122, 0.0121]
    row = compare(_run(x=steady), _run(x=drifting)).rows[0]
    assert row.low is not None and row.low > 1
    assert row.noise == pytest.approx(1.197, abs=0.01)
    assert (row.verdict, row.why) == ("too noisy to tell", "halves of one run differ as much")


def test_a_change_that_other_work_explains_tells_nothing() -> None:
    rng = np.random.default_rng(8)
    old, new = (_run(x=_rounds(rng, ms, 0.01)) for ms in (10, 14))
    assert compare(old, new).rows[0].verdict == "slower"
    crowded = msgspec.structs.replace(new, shares={"x": 0.7})
    row = compare(old, crowded).rows[0]
    assert (row.verdict, row.why) == ("too noisy to tell", "other work took the CPU")
    assert compare(crowded, old).rows[0].verdict == "too noisy to tell"
    assert compare(old, msgspec.structs.replace(new, shares={"x": 0.99})).rows[0].verdict == "slower"
    assert compare(old, msgspec.structs.replace(new, shares={})).rows[0].why == "no CPU share was kept"


def test_a_large_change_is_seen_through_wide_intervals() -> None:
    rng = np.random.default_rng(9)
    row = compare(_run(x=_rounds(rng, 1, 0.3)), _run(x=_rounds(rng, 6, 0.3))).rows[0]
    assert row.low is not None and row.high is not None and row.high / row.low > 1.5
    assert row.verdict == "slower"


def test_an_interval_without_end_tells_nothing() -> None:
    rng = np.random.default_rng(7)
    row = compare(_run(x=_rounds(rng, 1, 0.5)), _run(x=_rounds(rng, 1, 0.5))).rows[0]
    assert row.verdict == "too noisy to tell"
    assert "interval wider" in row.why


def test_few_rounds_are_not_judged() -> None:
    row = compare(_run(x=[0.01] * 4), _run(x=[0.02] * 10)).rows[0]
    assert (row.ratio, row.low, row.verdict) == (pytest.approx(2), None, "too noisy to tell")
    assert "4 and 10 rounds" in row.why


def test_rounds_are_put_together_and_lone_benchmarks_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _saved(tmp_path / "old.json", {"kept": [0.01] * 6, "gone": [0.01] * 6})
    new = _saved(tmp_path / "new.json", {"kept": [0.02] * 6, "come": [0.01] * 6})
    assert read_run(old).medians_s["benchmarks/suites/bench_x.py::bench_kept[one]"] == (0.01,) * 6
    assert main([str(old), str(new)]) == 0
    shown = capsys.readouterr().out
    assert "kept[one]" in shown and "2.000" in shown and "slower" in shown
    assert "only in the old run: benchmarks/suites/bench_x.py::bench_gone[one]" in shown
    assert "only in the new run: benchmarks/suites/bench_x.py::bench_come[one]" in shown
    assert "Test CPU, x86_64, 2 cores" in shown and "0123456789ab (changed)" in shown


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = _saved(tmp_path / "old.json", {"x": [0.01] * 6})
    assert main([str(old), str(_saved(tmp_path / "new.json", {"x": [0.01] * 6})), "--json", "--margin", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["margin"] == pytest.approx(0.02)
    assert document["rows"][0]["verdict"] == "no difference"


def test_runs_of_two_cpus_are_refused_and_a_clock_that_moved_is_not_one(tmp_path: Path) -> None:
    old = _saved(tmp_path / "old.json", {"x": [0.01] * 6})
    turbo = _saved(tmp_path / "turbo.json", {"x": [0.01] * 6}, {**CPU, "hz_actual": [3_000_000_000, 0]})
    other = _saved(tmp_path / "other.json", {"x": [0.01] * 6}, {**CPU, "brand_raw": "Another CPU"})
    assert main([str(old), str(turbo)]) == 0
    assert main([str(old), str(other)]) == 2


def test_other_software_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = _saved(tmp_path / "old.json", {"x": [0.01] * 6}, libraries={"onnxruntime": "1.20"})
    new = _saved(tmp_path / "new.json", {"x": [0.01] * 6}, libraries={"onnxruntime": "1.21"})
    assert main([str(old), str(new)]) == 0
    assert "caution: onnxruntime differs: 1.20 in the old run, 1.21 in the new one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "cannot be read"),
        ("", "is not a run"),
        ("[1, 2", "is not a run"),
        ('{"verdict": "pass"}', "is not a run"),
        ('{"machine_info": {"cpu": {}}, "benchmarks": []}', "holds no benchmark"),
        ('{"machine_info": {"cpu": {}}, "benchmarks": [{"fullname": "x", "stats": {"median": 0}}]}', "is not a run"),
        ('{"machine_info": {"cpu": {}}, "benchmarks": [{"fullname": "x", "stats": {"median": NaN}}]}', "is not a run"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(
    content: str | None, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = _saved(tmp_path / "good.json", {"x": [0.01] * 6}), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    assert main([str(good), str(bad), "--json"]) == 2
    captured = capsys.readouterr()
    assert part in captured.err and captured.err.count("\n") == 1
    assert json.loads(captured.out)["error"]["code"] == 2


def test_runs_without_a_common_benchmark_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (_saved(tmp_path / f"{name}.json", {name: [0.01] * 6}) for name in ("one", "two"))
    assert main([str(one), str(two)]) == 2
    assert "no benchmark in common" in capsys.readouterr().err
