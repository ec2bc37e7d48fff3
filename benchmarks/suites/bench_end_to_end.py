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
    predictor = load(bundle.folder, variant=bundle.manifest.chosen, guard="flag")  # the picture is drawn by formula
    try:
        answer = benchmark(predictor.predict, picture(kind))
    finally:
        predictor.close()
    benchmark.extra_info["variant"] = answer.variant
    assert answer.probabilities


def bench_predict_explained(benchmark: BenchmarkFixture, bundle: Bundle, picture: Callable[[str], Path]) -> None:
    """With its heat map; to be held against the same picture without, ``bench_predict[jpeg]``."""
    chosen = bundle.manifest.variant(bundle.manifest.chosen)
    if chosen.explanation is None:
        pytest.skip("the bundle holds no explanation; give --bundle one that medcompress optimize made")
    predictor = load(bundle.folder, variant=chosen.name, guard="flag")
    try:
        answer = benchmark(predictor.predict, picture("jpeg"), explain=True)
    finally:
        predictor.close()
    benchmark.extra_info["variant"] = answer.variant
    assert answer.heat is not None
