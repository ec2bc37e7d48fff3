"""A bundle's variants tried on this machine, in processes of their own: do they run faithfully, and how fast?

An engine that crashes takes its process along, and engines that share one disturb each other's timing (idle thread
pools spin). One process lives at a time, so a small machine needs no more memory than the largest variant does, and
what serves meanwhile needs none. To be timed the variants take turns, a process each, and those that turn out slow have
one turn alone; to be checked they share a process, and another goes on after one that crashed.

    python -P -m medcompress.runtime.trial BUNDLE IDENTITY THREADS SECONDS HEAT VARIANT...

is such a process. It prints a :class:`Trial` a variant as JSON, each on a line of its own.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .bundle import Bundle, Variant, parse_manifest, read_manifest
from .checks import VariantCheck, check_variant
from .errors import InputError, MachineError
from .golden import Golden, read_golden
from .records import from_json
from .variants import by_preference

SECONDS = 0.2
_LEAST = 5
_TURNS = 3
# Slower than this beside the fastest is not going to be it: it has no second turn.
_NEAR = 2
_LIMIT_S = 120
# ONNX Runtime's TensorRT provider builds its plan when it is loaded for the first time here.
_BUILD_LIMIT_S = 1200


class Trial(msgspec.Struct, frozen=True):
    """One variant here.

    Attributes:
        p50_ms: of one inference, batch 1, the median of its turns' medians; None where it does not run, or was not
            timed.
    """

    check: VariantCheck
    p50_ms: float | None = None


def measure(bundle: Bundle, threads: int, *, heat: bool = False) -> tuple[Trial, ...]:
    """Try and time every variant, in the bundle's order of preference; some seconds.

    Args:
        heat: look at their heat maps too.
    """
    first = {variant.name: _turn(bundle, variant.name, threads, heat) for variant in by_preference(bundle)}
    turns = {name: [trial.p50_ms] for name, trial in first.items() if trial.p50_ms}
    fastest = min((ms for (ms,) in turns.values()), default=0.0)
    near = [name for name, (ms,) in turns.items() if ms <= _NEAR * fastest]
    for _ in range(_TURNS - 1 if len(near) > 1 else 0):
        for name in near:
            again = _turn(bundle, name, threads, heat=False).p50_ms
            if again:
                turns[name].append(again)
    return tuple(
        msgspec.structs.replace(trial, p50_ms=statistics.median(turns[name]) if name in turns else None)
        for name, trial in first.items()
    )


def check_apart(bundle: Bundle, variants: Sequence[Variant], threads: int) -> tuple[VariantCheck, ...]:
    """Hold variants against their golden vectors and maps; one that crashes its process fails, and no other.

    Raises:
        MachineError: no process can be started from here.
    """
    left, found = [variant.name for variant in variants], []
    while left:
        trials = _process(bundle, left, threads, seconds=0.0, heat=True)
        found += [trial.check for trial in trials]
        left = left[len(trials) :]
    return tuple(found)


def _turn(bundle: Bundle, name: str, threads: int, heat: bool) -> Trial:
    try:
        return _process(bundle, [name], threads, SECONDS, heat)[0]
    except MachineError as error:
        return _failed(name, str(error))


def _process(bundle: Bundle, names: Sequence[str], threads: int, seconds: float, heat: bool) -> list[Trial]:
    """What one process says of variants: of all, or up to the one it ended at."""
    # A frozen or embedding program is no interpreter: started for this, it would start itself, without end.
    if getattr(sys, "frozen", False) or not sys.executable:
        raise MachineError("cannot be tried from within a program that is no Python interpreter")
    # -P: a json.py that lies in the current folder is not to be run in place of Python's own.
    command = [sys.executable, "-P", "-m", __spec__.name, str(bundle.folder), bundle.identity, str(threads)]
    command += [str(seconds), "heat" if heat else "none", *names]
    engines = [bundle.manifest.variant(name).engine for name in names]
    limit = sum(_BUILD_LIMIT_S if engine == "onnxruntime-tensorrt" else _LIMIT_S for engine in engines)
    try:
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        said, why = error.stdout or b"", f"gave no answer in {limit} s and was stopped"
    except OSError as error:
        raise MachineError(f"no process could be started for it ({error.strerror})") from error
    else:
        said, why = ended.stdout, f"its process ended without an answer ({_words(ended.returncode)})"
    trials: list[Trial] = []
    for line in said.splitlines():
        trial = _trial(line)
        # What an engine prints meanwhile is passed over.
        if trial and len(trials) < len(names) and trial.check.name == names[len(trials)]:
            trials.append(trial)
    return trials if len(trials) == len(names) else [*trials, _failed(names[len(trials)], why)]


def _trial(line: bytes) -> Trial | None:
    try:
        return from_json(line, Trial, "")
    except InputError:
        return None


def _words(code: int) -> str:
    try:
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _failed(name: str, why: str) -> Trial:
    return Trial(VariantCheck(name, False, why))


def _try(bundle: Bundle, golden: Golden, name: str, threads: int, seconds: float, heat: bool) -> Trial:
    check, engine = check_variant(bundle, golden, bundle.manifest.variant(name), threads, heat=heat)
    if engine is None:
        return Trial(check)
    batch = bundle.manifest.preprocessing.normalize(golden.inputs[0])[None]
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while seconds and (len(taken) < _LEAST or time.perf_counter() < end):
        start = time.perf_counter_ns()
        engine.run(batch)
        taken.append((time.perf_counter_ns() - start) / 1e6)
    engine.close()
    return Trial(check, statistics.median(taken) if taken else None)


def _main(folder: Path, identity: str, threads: int, seconds: float, heat: bool, names: Sequence[str]) -> None:
    # By its identity it is the bundle whose signature was looked at where it was opened.
    bundle = parse_manifest(folder, read_manifest(folder))
    golden = read_golden(bundle) if bundle.identity == identity else None
    for name in names:
        if golden is None:
            trial = _failed(name, f"{folder} is another bundle than was opened; load it again")
        else:
            trial = _try(bundle, golden, name, threads, seconds, heat)
        sys.stdout.write("\n" + msgspec.json.encode(trial).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    folder, identity, threads, seconds, heat, *names = sys.argv[1:]
    _main(Path(folder), identity, int(threads), float(seconds), heat == "heat", names)
