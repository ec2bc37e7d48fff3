"""A run of the suites as pytest-benchmark saved it, its rounds put together again."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec

from ...runtime.errors import InputError

# The parameter by which the suites number their rounds.
ROUND = "round"
# Under which they keep how much of a CPU a benchmark got in a round.
SHARE = "cpu_share"


class Run(msgspec.Struct, frozen=True):
    """One saved run.

    Attributes:
        cpu: name, architecture and number of cores.
        software: versions, and the machine's name: what may differ, but not unsaid.
        medians_s: benchmark -> the median of each of its rounds, seconds, in the order they were measured.
        shares: benchmark -> CPU time over wall time, median of its rounds; where it was kept. Below 1 other work took
            the rest, or the benchmark waited; above 1 it has threads.
        about: benchmark -> what it said of its subject (bundle, engine).
    """

    name: str
    measured: str
    commit: str
    cpu: str
    software: dict[str, str]
    medians_s: dict[str, tuple[float, ...]]
    shares: dict[str, float]
    about: dict[str, dict[str, str]]


class _Stats(msgspec.Struct):
    median: Annotated[float, msgspec.Meta(gt=0)]


class _Benchmark(msgspec.Struct):
    fullname: str
    stats: _Stats
    params: dict[str, Any] | None = None
    extra_info: dict[str, Any] = {}


class _Cpu(msgspec.Struct):
    brand_raw: str = "unknown CPU"
    arch_string_raw: str = ""
    count: int = 0


class _Machine(msgspec.Struct):
    cpu: _Cpu
    node: str = ""
    system: str = ""
    release: str = ""
    python_version: str = ""
    libraries: dict[str, str] = {}


class _Commit(msgspec.Struct, frozen=True):
    id: str | None = None
    dirty: bool | None = None


class _Saved(msgspec.Struct):
    machine_info: _Machine
    benchmarks: list[_Benchmark]
    datetime: str = ""
    commit_info: _Commit = _Commit()


def read_run(path: Path) -> Run:
    """Read what ``pytest --benchmark-save`` or ``--benchmark-json`` wrote.

    Raises:
        InputError: the file is not readable, not of pytest-benchmark, or holds no benchmark.
    """
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: is not a run that pytest-benchmark saved ({error}); make one with: "
            "pytest benchmarks/suites --benchmark-enable --benchmark-save=NAME"
        ) from error
    if not saved.benchmarks:
        raise InputError(f"{path}: holds no benchmark; every one failed or was skipped: run the suites again")
    medians: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    about: dict[str, dict[str, str]] = {}
    for benchmark in saved.benchmarks:
        name = _name(benchmark)
        medians.setdefault(name, []).append(benchmark.stats.median)
        share = benchmark.extra_info.pop(SHARE, None)
        if isinstance(share, float) and share > 0:
            shares.setdefault(name, []).append(share)
        about[name] = {key: str(value) for key, value in benchmark.extra_info.items()}
    machine = saved.machine_info
    return Run(
        name=str(path),
        measured=saved.datetime[:16],
        commit=(saved.commit_info.id or "unknown")[:12] + (" (changed)" if saved.commit_info.dirty else ""),
        cpu=f"{machine.cpu.brand_raw}, {machine.cpu.arch_string_raw or 'unknown'}, {machine.cpu.count} cores",
        software={
            "machine": machine.node,
            "system": f"{machine.system} {machine.release}".strip(),
            "python": machine.python_version,
            **machine.libraries,
        },
        medians_s={name: tuple(values) for name, values in medians.items()},
        shares={name: median(values) for name, values in shares.items()},
        about=about,
    )


def _name(benchmark: _Benchmark) -> str:
    """The benchmark without its round: ``bench_engines.py::bench_variant[openvino-fp32]``."""
    params = benchmark.params or {}
    if ROUND not in params:
        return benchmark.fullname
    others = "-".join(str(value) for key, value in params.items() if key != ROUND)
    return benchmark.fullname.partition("[")[0] + (f"[{others}]" if others else "")
