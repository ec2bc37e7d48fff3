"""From a file to an answer with the bundle's chosen variant: decode, resize, normalize, run, decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.timing.latency import SECONDS
from medcompress.runtime import load
from medcompress.runtime.bundle import Bundle

pytestmark = pytest.mark.benchmark(group="end to end", max_time=SECONDS)


@pytest.mark.parametrize("kind", ["jpeg", "png", "png16"])
def bench_predict(benchmark: BenchmarkFixture, bundle: Bundle, picture: Callable[[str], Path], kind: str) -> None:
    predictor = load(bundle.folder, variant=bundle.manifest.chosen)
    try:
        answer = benchmark(predictor.predict, picture(kind))
    finally:
        predictor.close()
    benchmark.extra_info["variant"] = answer.variant
    assert answer.probabilities
