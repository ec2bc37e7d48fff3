"""The bound of the AUROC on many cases, and everything that is found out about one variant of many findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.data.labelled import Labelled
from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.evaluation import Answers
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.statistics.delong import auroc_loss
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.benchmarks.weighing import weigh
from medcompress.runtime.decision import Decision

pytestmark = pytest.mark.benchmark(group="statistics")

CASES, IMAGES, FINDINGS = 100_000, 10_000, 14


def bench_delong(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)
    target = (np.arange(CASES) % 2).astype(np.int8)[:, None]
    reference = rng.standard_normal((CASES, 1)) + 2 * target
    variant = reference + 0.1 * rng.standard_normal((CASES, 1))
    patients = [str(case) for case in range(CASES)]
    found = benchmark.pedantic(auroc_loss, (target, reference, variant, [0], patients), rounds=1, warmup_rounds=1)
    assert found is not None and found.bound is not None


def bench_weigh(benchmark: BenchmarkFixture) -> None:
    """10,000 images of 5,000 patients, 14 findings, 2,000 draws: the reference and a variant that flips no answer."""
    rng = np.random.default_rng(0)
    target = (rng.random((IMAGES, FINDINGS)) < 0.3).astype(np.int8)
    logits = (rng.standard_normal(target.shape) + 2 * target - 1).astype(np.float32)
    logits += np.sign(logits) * np.float32(0.1)
    variant = logits + rng.uniform(-0.05, 0.05, logits.shape).astype(np.float32)
    samples = tuple(
        Sample(Path("none"), tuple(row), f"patient-{place // 2}") for place, row in enumerate(target.tolist())
    )
    decision = Decision("multilabel", tuple(f"finding-{c}" for c in range(FINDINGS)))
    rows = tuple(Row(name, "onnxruntime", "int8", 1, "measured") for name in ("reference", "variant"))
    answers = Answers(rows, {"test": {"reference": logits, "variant": variant}})
    test = Labelled(Path("none"), target, samples)
    arguments = (answers, "reference", decision, test, None, Tolerance())
    _, evidence = benchmark.pedantic(weigh, arguments, rounds=1)
    assert evidence[1].verdict.outcome == "pass"
