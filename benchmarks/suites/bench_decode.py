"""From a file to pixels: :func:`medcompress.runtime.images.read_image`, every pixel decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.timing.latency import SECONDS
from medcompress.runtime.images import read_image

pytestmark = pytest.mark.benchmark(group="decode", max_time=SECONDS)


@pytest.mark.parametrize("kind", ["jpeg", "png", "png16"])
def bench_decode(benchmark: BenchmarkFixture, picture: Callable[[str], Path], kind: str) -> None:
    image = benchmark(read_image, picture(kind))
    assert image.mode == "L"
