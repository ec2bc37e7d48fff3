"""One inference of each variant of a bundle, batch 1. One engine lives at a time: idle pools of another would spin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.timing.latency import SECONDS
from medcompress.runtime.bundle import Bundle
from medcompress.runtime.engines import load_engine
from medcompress.runtime.errors import EngineError

pytestmark = pytest.mark.benchmark(group="engines", max_time=SECONDS)


def bench_variant(benchmark: BenchmarkFixture, bundle: Bundle, picture: Callable[[str], Path], variant: str) -> None:
    manifest = bundle.manifest
    form = manifest.variant(variant)
    batch = manifest.preprocessing(picture("jpeg"))[None]
    try:
        engine = load_engine(form.engine, [bundle.check(name) for name in form.files], form.precision, manifest.threads)
    except EngineError as error:
        pytest.skip(f"{variant}: {error}")
    try:
        logits = benchmark(engine.run, batch)
        executed = engine.executed
    finally:
        engine.close()
    benchmark.extra_info["executed"] = f"{executed.engine} {executed.precision}, {executed.threads} thread(s)"
    assert np.isfinite(logits).all()
