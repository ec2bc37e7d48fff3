"""Candidates that misbehave become rows; the others go on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medcompress.benchmarks.evaluation import Candidate, Labelled, evaluate
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.timing.worker import Worker
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import EngineError
from medcompress.runtime.preprocessing import Preprocessing

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_engine.py"))
DECISION = Decision("binary", ("SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY"), "SYNTHETIC-OPACITY")
PREPROCESSING = Preprocessing((8, 8))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.evaluation.ROUNDS", 1)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.01)


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((70, 8, 8), dtype=np.uint8))
    return Labelled(path, np.arange(2) == (np.arange(70) % 2)[:, None])


def fake(tmp_path: Path, name: str, **model: object) -> Candidate:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"logits": [0.0, 1.0], **model}))
    return Candidate(name, "fake", "fp32", (path,), command=FAKE)


def run(candidates: list[Candidate], labelled: Labelled | None, limit_s: float = 60):
    found = evaluate(candidates, "reference", DECISION, PREPROCESSING, labelled, Tolerance(), 1, limit_s)
    return {row.name: row for row in found}


def test_each_way_to_fail_becomes_a_row_that_says_so(tmp_path: Path, labelled: Labelled) -> None:
    names = ["load", "run", "crash", "nan", "print"]
    rows = run([fake(tmp_path, "reference"), *(fake(tmp_path, name, fail=name) for name in names)], labelled)
    assert rows["reference"].status == "reference"
    assert "told not to load" in rows["load"].status
    assert "told to fail" in rows["run"].status
    assert "SIGABRT" in rows["crash"].status
    assert "not all numbers" in rows["nan"].status
    assert rows["print"].status == "pass", "what a library prints does not spoil the answers"
    assert all(rows[name].p50_ms is None and not rows[name].passed for name in names[:4])
    assert rows["reference"].p50_ms


def test_a_hang_is_ended(tmp_path: Path, labelled: Labelled) -> None:
    started = time.monotonic()
    rows = run([fake(tmp_path, "reference"), fake(tmp_path, "hang", fail="hang")], labelled, limit_s=4)
    assert "gave no answer in 4 s" in rows["hang"].status
    assert time.monotonic() - started < 60


def test_a_reference_that_fails_ends_the_run(tmp_path: Path, labelled: Labelled) -> None:
    with pytest.raises(EngineError, match="the reference reference does not run here"):
        run([fake(tmp_path, "reference", fail="crash")], labelled)


def test_worse_answers_fail_the_gate_with_every_margin_they_break(tmp_path: Path, labelled: Labelled) -> None:
    rows = run([fake(tmp_path, "reference"), fake(tmp_path, "flipped", logits=[1.0, 0.0])], labelled)
    status = rows["flipped"].status
    assert status.startswith("fail")
    assert all(word in status for word in ("sensitivity falls by 1.0000", "changed answers is 1.0000", "moves by 0.46"))
    assert rows["flipped"].flips == 70


def test_a_cpu_that_lacks_a_feature_is_said_and_nothing_is_measured(tmp_path: Path, labelled: Labelled) -> None:
    needy = fake(tmp_path, "needy")
    needy = Candidate(needy.name, needy.engine, needy.precision, needy.files, ("a-feature-of-tomorrow",), command=FAKE)
    rows = run([fake(tmp_path, "reference"), needy], labelled)
    assert rows["needy"].status == "not run here: needs a CPU with a-feature-of-tomorrow"
    assert rows["needy"].p50_ms is None
    assert rows["needy"].auroc is None


def test_baselines_lend_their_latency_only(tmp_path: Path, labelled: Labelled) -> None:
    model = fake(tmp_path, "eager")
    baseline = Candidate(model.name, model.engine, model.precision, model.files, judged=False, command=FAKE)
    rows = run([fake(tmp_path, "reference"), baseline], labelled)
    assert rows["eager"].status == "baseline"
    assert rows["eager"].auroc is None
    assert rows["reference"].speedup_vs_eager == pytest.approx(rows["eager"].p50_ms / rows["reference"].p50_ms)


def test_without_images_there_is_latency_and_no_verdict(tmp_path: Path) -> None:
    rows = run([fake(tmp_path, "reference"), fake(tmp_path, "other")], None)
    assert {row.status for row in rows.values()} == {"measured"}
    assert all(row.p50_ms and row.auroc is None for row in rows.values())


def test_a_worker_ends_with_its_parents_pipe(tmp_path: Path) -> None:
    model = fake(tmp_path, "reference")
    worker = Worker(FAKE)
    worker.load("fake", model.files, "fp32", 1)
    child = worker._child
    assert child.stdin
    child.stdin.close()
    assert child.wait(timeout=20) == 0
