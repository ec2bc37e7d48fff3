"""Candidates that misbehave become rows; the others go on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.evaluation import answer, read_logits, save_logits
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.timing.worker import Worker
from medcompress.runtime.errors import EngineError
from medcompress.runtime.preprocessing import Preprocessing

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_engine.py"))
PREPROCESSING = Preprocessing((8, 8))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.evaluation.ROUNDS", 1)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.01)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((70, 8, 8), dtype=np.uint8))
    return path


def fake(tmp_path: Path, name: str, **model: object) -> Candidate:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"logits": [0.0, 1.0], **model}))
    return Candidate(name, "fake", "fp32", (path,), command=FAKE)


def run(candidates: list[Candidate], images: Path | None, limit_s: float = 60) -> dict[str, Row]:
    parts = {"test": images} if images else {}
    found = answer(candidates, "reference", PREPROCESSING, parts, 1, limit_s)
    return {row.name: row for row in found.rows}


def test_each_way_to_fail_becomes_a_row_that_says_so(tmp_path: Path, images: Path) -> None:
    names = ["load", "run", "crash", "nan", "print"]
    rows = run([fake(tmp_path, "reference"), *(fake(tmp_path, name, fail=name) for name in names)], images)
    assert rows["reference"].status == "measured"
    assert "told not to load" in rows["load"].status
    assert "told to fail" in rows["run"].status
    assert "SIGABRT" in rows["crash"].status
    assert "not all numbers" in rows["nan"].status
    assert rows["print"].status == "measured", "what a library prints does not spoil the answers"
    assert all(rows[name].p50_ms is None and not rows[name].passed for name in names[:4])
    assert rows["reference"].p50_ms


def test_a_hang_is_ended(tmp_path: Path, images: Path) -> None:
    started = time.monotonic()
    rows = run([fake(tmp_path, "reference"), fake(tmp_path, "hang", fail="hang")], images, limit_s=4)
    assert "gave no answer in 4 s" in rows["hang"].status
    assert time.monotonic() - started < 60


def test_a_reference_that_fails_ends_the_run(tmp_path: Path, images: Path) -> None:
    with pytest.raises(EngineError, match="the reference reference does not run here"):
        run([fake(tmp_path, "reference", fail="crash")], images)


def test_the_answers_of_every_part_are_kept_and_survive_the_disk(tmp_path: Path, images: Path) -> None:
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((3, 8, 8), dtype=np.uint8))
    forms = [fake(tmp_path, "reference"), fake(tmp_path, "broken", fail="run")]
    found = answer(forms, "reference", PREPROCESSING, {"test": images, "val": other}, 1)
    save_logits(tmp_path / "logits.npz", found.logits)
    stored = read_logits(tmp_path / "logits.npz")
    assert {part: list(each) for part, each in stored.items()} == {"test": ["reference"], "val": ["reference"]}
    assert stored["test"]["reference"].shape == (70, 2)
    assert stored["val"]["reference"].shape == (3, 2)


def test_outputs_of_another_shape_are_no_answers(tmp_path: Path, images: Path) -> None:
    rows = run([fake(tmp_path, "reference"), fake(tmp_path, "wide", logits=[0.0, 1.0, 2.0])], images)
    assert rows["wide"].status == "error: its outputs are (70, 3), the reference's (70, 2)"


def test_a_cpu_that_lacks_a_feature_is_said_and_nothing_is_measured(tmp_path: Path, images: Path) -> None:
    needy = fake(tmp_path, "needy")
    needy = Candidate(needy.name, needy.engine, needy.precision, needy.files, ("a-feature-of-tomorrow",), command=FAKE)
    rows = run([fake(tmp_path, "reference"), needy], images)
    assert rows["needy"].status == "not run here: needs a CPU with a-feature-of-tomorrow"
    assert rows["needy"].p50_ms is None
    assert rows["needy"].auroc is None


def test_baselines_lend_their_latency_only(tmp_path: Path, images: Path) -> None:
    model = fake(tmp_path, "eager")
    baseline = Candidate(model.name, model.engine, model.precision, model.files, judged=False, command=FAKE)
    rows = run([fake(tmp_path, "reference"), baseline], images)
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
