"""Each variant of a bundle tried on this machine, in a process of its own: does it run faithfully, and how fast?

Engines that share a process disturb each other's timing (idle thread pools spin), and one that crashes takes its
process along. One process lives at a time, so a small machine needs no more memory than the largest variant does. The
variants take turns, and those that turn out slow have one turn alone.

    python -P -m medcompress.runtime.trial BUNDLE IDENTITY VARIANT THREADS

is one turn, and prints its :class:`Trial` as JSON, on the last line.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from .bundle import Bundle, open_bundle
from .errors import InputError
from .golden import read_golden
from .records import from_json
from .selftest import VariantCheck, check_variant
from .variants import by_preference

SECONDS = 0.2
_LEAST = 5
_TURNS = 3
# Slower than this beside the fastest is not going to be it: it has no second turn.
_NEAR = 2
_LIMIT_S = 120


class Trial(msgspec.Struct, frozen=True):
    """One variant here.

    Attributes:
        p50_ms: of one inference, batch 1, the median of its turns' medians; None where it does not run.
    """

    check: VariantCheck
    p50_ms: float | None = None


def measure(bundle: Bundle, threads: int) -> tuple[Trial, ...]:
    """Try every variant, in the bundle's order of preference; some seconds."""
    first = {variant.name: _turn(bundle, variant.name, threads) for variant in by_preference(bundle)}
    turns = {name: [trial.p50_ms] for name, trial in first.items() if trial.p50_ms}
    fastest = min((ms for (ms,) in turns.values()), default=0.0)
    near = [name for name, (ms,) in turns.items() if ms <= _NEAR * fastest]
    for _ in range(_TURNS - 1 if len(near) > 1 else 0):
        for name in near:
            again = _turn(bundle, name, threads).p50_ms
            if again:
                turns[name].append(again)
    return tuple(
        msgspec.structs.replace(trial, p50_ms=statistics.median(turns[name]) if name in turns else None)
        for name, trial in first.items()
    )


def _turn(bundle: Bundle, name: str, threads: int) -> Trial:
    # A frozen or embedding program is no interpreter: started for this, it would start itself, without end.
    if getattr(sys, "frozen", False) or not sys.executable:
        return _failed(name, "cannot be tried from within a program that is no Python interpreter")
    # -P: a json.py that lies in the current folder is not to be run in place of Python's own.
    command = [sys.executable, "-P", "-m", __spec__.name, str(bundle.folder), bundle.identity, name, str(threads)]
    try:
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return _failed(name, f"gave no answer in {_LIMIT_S} s and was stopped")
    except OSError as error:
        return _failed(name, f"no process could be started for it ({error.strerror})")
    try:
        return from_json((ended.stdout.splitlines() or [b""])[-1], Trial, name)
    except InputError:
        return _failed(name, f"its process ended without an answer (exit code {ended.returncode})")


def _failed(name: str, why: str) -> Trial:
    return Trial(VariantCheck(name, False, why))


def _one_turn(folder: Path, identity: str, name: str, threads: int) -> Trial:
    bundle = open_bundle(folder)
    if bundle.identity != identity:
        return _failed(name, f"{folder} is another bundle than was opened; load it again")
    golden = read_golden(bundle)
    check, engine = check_variant(bundle, golden, bundle.manifest.variant(name), threads)
    if engine is None:
        return Trial(check)
    batch = bundle.manifest.preprocessing.normalize(golden.inputs[0])[None]
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < _LEAST or time.perf_counter() < end:
        start = time.perf_counter_ns()
        engine.run(batch)
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return Trial(check, statistics.median(taken))


if __name__ == "__main__":
    found = _one_turn(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.stdout.write("\n" + msgspec.json.encode(found).decode() + "\n")
