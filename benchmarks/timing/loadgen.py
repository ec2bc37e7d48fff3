"""One load test by MLPerf's LoadGen, in a process of its own: what is asked of it, and what its log says.

https://github.com/mlcommons/inference/tree/master/loadgen; the rules:
https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...runtime.errors import EngineError, missing_package
from ...runtime.preprocessing import Preprocessing
from .worker import Worker

Scenario = Literal["single-stream", "multi-stream", "server", "offline"]

COMMAND = (sys.executable, "-P", "-m", "medcompress.benchmarks.timing.loadgen_child")
# Of one multi-stream query, as in MLPerf.
STREAMS = 8
# The fewest queries LoadGen's early stopping needs: for a p90 64, for a p99 662 (459 if none is late). It bounds the
# percentile with 99 % confidence (inference_rules.adoc, appendix "Early Stopping").
LEAST_QUERIES: dict[Scenario, int] = {"single-stream": 64, "multi-stream": 662, "server": 662, "offline": 64}
# A test that has not met its least queries after this many times the seconds asked for ends there, and is invalid.
LONGEST = 10
_PREFIX = ":::MLLOG "


class LoadTest(msgspec.Struct, frozen=True):
    """What LoadGen is asked to do.

    Attributes:
        seconds: the test takes at least.
        workers: threads that take queries, each running batches of one on the same engine.
        capacity: samples a second the engine managed before the test, from which LoadGen plans its queries.
        target_qps, latency_bound_ms: for ``server`` only: mean rate of the Poisson arrivals, and the bound of the p99.
    """

    scenario: Scenario
    seconds: float
    workers: int
    capacity: float
    target_qps: float = 0.0
    latency_bound_ms: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """What LoadGen's log says of a test.

    Attributes:
        seconds: that the test took, to the last answer.
        valid, why: LoadGen's own verdict, and its reasons where it is invalid.
        mean_ms, p50_ms, p90_ms, p99_ms: latency of a query (multi-stream: of all its samples).
        early_stopping_ms: bound, with 99 % confidence, of the scenario's percentile; None without enough queries.
        late: queries over the latency bound (server).
        scheduled_qps, completed_qps: server; samples_per_second: offline.
    """

    loadgen: str
    queries: int
    samples: int
    seconds: float
    valid: bool
    why: str
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    early_stopping_ms: float | None = None
    late: int = 0
    scheduled_qps: float | None = None
    completed_qps: float | None = None
    samples_per_second: float | None = None


def require_loadgen() -> None:
    """Raise MachineError where LoadGen is not installed."""
    if find_spec("mlperf_loadgen") is None:
        raise missing_package("mlcommons-loadgen", "loadgen")


class LoadWorker(Worker):
    """The parent's end of a process that holds one engine and puts LoadGen's load on it. Use as a context manager.

    Raises (all methods):
        EngineError: the child reported an error, died, or gave no answer in time.
    """

    def __init__(self, seconds: float) -> None:
        # Loading, the longest test, and the queue that is still to be answered when its last query was sent.
        super().__init__(COMMAND, limit_s=120 + 2 * LONGEST * seconds)

    def prepare(self, inputs: Path, preprocessing: Preprocessing, workers: int, seconds: float) -> float:
        """Normalise an .npy file of rendered images (uint8) and warm up; samples a second with so many workers."""
        prepare = msgspec.to_builtins(preprocessing)
        answer = self._ask(do="prepare", inputs=str(inputs), preprocessing=prepare, workers=workers, seconds=seconds)
        return answer["capacity"]

    def test(self, test: LoadTest, folder: Path) -> Outcome:
        """Run one test; LoadGen's logs stay in ``folder``."""
        folder.mkdir(parents=True)
        answer = self._ask(do="test", test=msgspec.to_builtins(test), folder=str(folder))
        return read_log(folder / "mlperf_log_detail.txt", test.scenario, answer["seconds"])


def read_log(path: Path, scenario: Scenario, seconds: float) -> Outcome:
    """Read LoadGen's detailed log: a JSON object a line, of which the last of each key counts.

    Raises:
        EngineError: the log holds no result.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        records = [json.loads(line.removeprefix(_PREFIX)) for line in lines if line.startswith(_PREFIX)]
        log = {record["key"]: record["value"] for record in records}
        return _outcome(log, scenario, seconds)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"LoadGen left no result in its log ({type(error).__name__}: {error})") from error


def _outcome(log: dict[str, Any], scenario: Scenario, seconds: float) -> Outcome:
    query = "_query" if scenario == "multi-stream" else ""
    per_query = "_per_query" if scenario == "multi-stream" else ""
    p50, p90, p99 = (log[f"result_{percent}.00_percentile{per_query}_latency_ns"] / 1e6 for percent in (50, 90, 99))
    # In LoadGen's names ss and ms are the scenarios; both are nanoseconds.
    bound = {"single-stream": "early_stopping_latency_ss", "multi-stream": "early_stopping_latency_ms"}.get(scenario)
    queries = int(log["result_query_count"])
    return Outcome(
        loadgen=str(log["loadgen_version"]).split()[0],
        queries=queries,
        samples=queries * int(log["effective_samples_per_query"]),
        seconds=seconds,
        valid=log["result_validity"] == "VALID",
        why="" if log["result_validity"] == "VALID" else _why(log),
        mean_ms=log[f"result_mean{query}_latency_ns"] / 1e6,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        early_stopping_ms=(log[bound] / 1e6 or None) if bound else None,
        late=int(log.get("result_overlatency_query_count", 0)),
        scheduled_qps=log.get("result_scheduled_samples_per_sec"),
        completed_qps=log.get("result_completed_samples_per_sec"),
        samples_per_second=log.get("result_samples_per_second"),
    )


def _why(log: dict[str, Any]) -> str:
    reasons = [log.get("result_invalid_reason", "")]
    if not log["early_stopping_met"]:
        reasons.append(log["early_stopping_result"])
    if not log["result_min_queries_met"]:
        reasons.append("Give it more seconds.")
    words = " ".join(reasons).replace(" * ", " ").split()
    return " ".join(words) or "LoadGen gives no reason"
