"""From a file to the tensor, and the part of it that follows decoding and resizing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.timing.latency import SECONDS
from medcompress.runtime.preprocessing import Preprocessing

pytestmark = pytest.mark.benchmark(group="preprocess", max_time=SECONDS)

SIZE = (224, 224)


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def bench_tensor(benchmark: BenchmarkFixture, picture: Callable[[str], Path], colour: Literal["grey", "rgb"]) -> None:
    tensor = benchmark(Preprocessing(SIZE, colour=colour), picture("jpeg"))
    assert tensor.shape == (3, *SIZE)


def bench_normalize(benchmark: BenchmarkFixture, picture: Callable[[str], Path]) -> None:
    preprocessing = Preprocessing(SIZE)
    tensor = benchmark(preprocessing.normalize, preprocessing.render(picture("jpeg")))
    assert tensor.shape == (3, *SIZE)
