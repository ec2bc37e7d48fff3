"""The child's end of :class:`medcompress.benchmarks.timing.loadgen.LoadWorker`: an engine under LoadGen's load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.engines import Engine
from ...runtime.preprocessing import Preprocessing
from .loadgen import LEAST_QUERIES, LONGEST, STREAMS, LoadTest
from .worker import Handlers, serve

_SCENARIOS = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}
# A server whose queue would take this many latency bounds to empty has failed: the test ends there.
_HOPELESS = 10
_LEAST_RUNS = 3


class _System:
    """The system under test: one engine, its inputs, and the threads that answer queries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inputs: list[npt.NDArray[np.float32]] = []

    def prepare(self, inputs: str, preprocessing: dict[str, Any], workers: int, seconds: float) -> dict[str, Any]:
        """Load the inputs, and find how many of them a second so many threads answer."""
        prepare = msgspec.convert(preprocessing, Preprocessing)
        images = np.load(inputs, allow_pickle=False)
        self._inputs = [prepare.normalize(image)[None] for image in images]
        self._engine.run(self._inputs[0])
        start = time.perf_counter()

        def one(_: int) -> int:
            runs = 0
            while runs < _LEAST_RUNS or time.perf_counter() < start + seconds:
                self._engine.run(self._inputs[runs % len(self._inputs)])
                runs += 1
            return runs

        with ThreadPoolExecutor(workers) as pool:
            runs = sum(pool.map(one, range(workers)))
        return {"capacity": runs / (time.perf_counter() - start)}

    def test(self, test: dict[str, Any], folder: str) -> dict[str, Any]:
        """One test; the seconds it took."""
        import mlperf_loadgen as loadgen  # pyright: ignore[reportMissingImports, reportMissingModuleSource]

        asked = msgspec.convert(test, LoadTest)
        faults: list[Exception] = []

        def answer(sample: Any) -> None:
            try:
                if not faults:
                    self._engine.run(self._inputs[sample.index])
            except Exception as error:  # LoadGen waits for every answer: the fault is told after the test
                faults.append(error)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

        with ThreadPoolExecutor(asked.workers) as pool:
            # One after the other there is nothing to hand over, and the hand-over would be timed.
            issue = _each(answer) if asked.workers == 1 and asked.scenario != "server" else _pooled(pool, answer)
            system = loadgen.ConstructSUT(issue, _nothing)
            # LoadGen is to load every sample: the inputs lie in memory already.
            library = loadgen.ConstructQSL(len(self._inputs), len(self._inputs), _nothing, _nothing)
            start = time.perf_counter()
            # The last argument: an audit.config in the current folder is not to change the test.
            audit = str(Path(folder) / "no-audit")
            loadgen.StartTestWithLogSettings(system, library, _settings(loadgen, asked), _logs(loadgen, folder), audit)
            seconds = time.perf_counter() - start
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        if faults:
            raise faults[0]
        return {"seconds": seconds}


def _each(answer: Callable[[Any], None]) -> Callable[[Sequence[Any]], None]:
    def issue(samples: Sequence[Any]) -> None:
        for sample in samples:
            answer(sample)

    return issue


def _pooled(pool: ThreadPoolExecutor, answer: Callable[[Any], None]) -> Callable[[Sequence[Any]], None]:
    def issue(samples: Sequence[Any]) -> None:
        for sample in samples:
            pool.submit(answer, sample)

    return issue


def _nothing(*_: Any) -> None:
    pass


def _settings(loadgen: Any, test: LoadTest) -> Any:
    """LoadGen's settings; those of other scenarios than the one that runs are ignored by it.

    https://github.com/mlcommons/inference/blob/master/loadgen/test_settings.h
    """
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, _SCENARIOS[test.scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(test.seconds * 1e3)
    settings.max_duration_ms = round(test.seconds * 1e3) * LONGEST
    settings.min_query_count = LEAST_QUERIES[test.scenario]
    # Half the latency found: LoadGen makes its queries beforehand, and must not run out of them.
    settings.single_stream_expected_latency_ns = max(1, round(0.5e9 / test.capacity))
    settings.single_stream_target_latency_percentile = 0.9
    settings.multi_stream_expected_latency_ns = max(1, round(0.5e9 * STREAMS / test.capacity))
    settings.multi_stream_target_latency_percentile = 0.99
    settings.multi_stream_samples_per_query = STREAMS
    settings.offline_expected_qps = 1.2 * test.capacity
    settings.server_target_qps = test.target_qps or 1.0
    settings.server_target_latency_ns = round(test.latency_bound_ms * 1e6)
    settings.server_target_latency_percentile = 0.99
    hopeless = round(_HOPELESS * test.latency_bound_ms / 1e3 * test.capacity)
    settings.server_max_async_queries = max(LEAST_QUERIES["single-stream"], hopeless)
    return settings


def _logs(loadgen: Any, folder: str) -> Any:
    logs = loadgen.LogSettings()
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    return logs


def _load(engine: Engine) -> Handlers:
    system = _System(engine)
    return {"prepare": system.prepare, "test": system.test}


if __name__ == "__main__":
    serve(_load)
