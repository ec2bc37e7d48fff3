"""From the start of a fresh process to its first answer: medcompress, and the bare libraries without a check."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from medcompress.benchmarks.timing import cold_start
from medcompress.runtime.bundle import Bundle

pytestmark = pytest.mark.benchmark(group="cold start")

# A round's median leaves out the first process, which may find the files outside the page cache.
PROCESSES = 3


@pytest.mark.parametrize("kind", ["medcompress", "bare"])
def bench_first_answer(benchmark: BenchmarkFixture, bundle: Bundle, picture: Callable[[str], Path], kind: str) -> None:
    manifest = bundle.manifest
    reference, image = manifest.variant(manifest.reference), str(picture("jpeg"))
    height, width = manifest.preprocessing.size
    arguments = {
        "medcompress": [cold_start.MEDCOMPRESS, str(bundle.folder), reference.name, image],
        "bare": [
            *(cold_start.BARE, str(bundle.check(reference.files[0])), image),
            *(str(width), str(height), str(manifest.threads)),
        ],
    }[kind]
    started: list[subprocess.Popen[str]] = []

    def first_answer() -> str:
        child = cold_start.start(arguments)
        started.append(child)
        assert child.stdout is not None
        return child.stdout.readline()

    try:
        peak_kib = benchmark.pedantic(first_answer, teardown=lambda: started[-1].wait(), rounds=PROCESSES)
    finally:
        for child in started:
            with child:  # waits for it, also where nothing is measured and so nothing torn down
                pass
    assert float(peak_kib) > 0
