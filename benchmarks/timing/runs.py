"""Two saved runs of the suites side by side: what became faster, what slower, and what is too noisy to tell.

    python -m medcompress.benchmarks.timing.runs OLD.json NEW.json [--margin PERCENT] [--json]

The samples of a round follow each other at once and share whatever the machine did just then: rounds are the
independent units, and a ratio is told with its interval (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable
time", ISMM). A run's time is the geometric mean of its rounds' medians. The interval is a hierarchical bootstrap of
the logarithm of the ratio: rounds are drawn with replacement and a drawn round keeps its samples, so only its median
is needed. To draw the samples anew too counts their noise twice (Davison and Hinkley 1997, Bootstrap Methods and their
Application, section 3.8); with two samples a round it made 95 % intervals that held 99.8 %. The percentiles are widened
for few rounds (the expanded percentile interval of Hesterberg 2014, "What teachers should know about the bootstrap",
arXiv:1411.5279).

No run sees in its own rounds how busy the machine was in the other one: beside other work the same code was "slower" by
a quarter. The share of a CPU that a benchmark got bounds it: the time it takes alone is at least that share of the time
measured. So a change must be larger than what other work can have added, together with what the halves of a run differ
by. Even so, a row that matters is measured again, with old and new in the other order.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from ...runtime.errors import InputError, MedcompressError, missing_package
from ...runtime.records import to_json
from .saved_run import Run, read_run

Verdict: TypeAlias = Literal["faster", "slower", "no difference", "too noisy to tell"]

CONFIDENCE = 0.95
DRAWS = 10_000
# Of fewer rounds neither the interval nor the two halves say much.
LEAST_ROUNDS = 5
# An interval whose upper end is that many times its lower one, and more than the change, tells nothing worth knowing.
WIDEST = 1.5


class Compared(msgspec.Struct, frozen=True):
    """One benchmark of both runs.

    Attributes:
        ratio: new over old time; above 1 is slower.
        low, high: of the ratio, at :data:`CONFIDENCE`; None of fewer than :data:`LEAST_ROUNDS` rounds.
        noise: how far the first and the second half of one run, the noisier one, are apart; 1.03 is 3 %.
        shares: CPU time over wall time in both, where it was kept.
        why: for ``too noisy to tell``.
    """

    benchmark: str
    old_ms: float
    new_ms: float
    ratio: float
    low: float | None
    high: float | None
    noise: float | None
    rounds: tuple[int, int]
    shares: tuple[float, float] | None
    verdict: Verdict
    why: str = ""


class Comparison(msgspec.Struct, frozen=True):
    """What :func:`compare` found; ``margin`` as a share (0.05 is 5 %)."""

    old: str
    new: str
    cpu: str
    margin: float
    confidence: float
    rows: tuple[Compared, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    notes: tuple[str, ...]


def compare(old: Run, new: Run, margin: float = 0.05) -> Comparison:
    """Hold every benchmark of both runs against each other.

    Rows are judged one by one, so of 20 that did not change one interval lies beside 1 by chance. To be called slower
    or faster, it must also reach out of ``margin``, and the change be larger than what the halves of one run differ by.

    Args:
        margin: a ratio within 1 / (1 + margin) to 1 + margin is no difference.

    Raises:
        InputError: they were measured on different CPUs, or have no benchmark in common.
        MachineError: scipy is not installed.
    """
    if old.cpu != new.cpu:
        raise InputError(
            f"{old.name} was measured on {old.cpu}, {new.name} on {new.cpu}: their ratio would be the machines'; "
            "measure both on one"
        )
    common = [name for name in old.medians_s if name in new.medians_s]
    if not common:
        raise InputError(f"{old.name} and {new.name} have no benchmark in common; run the same suites for both")
    return Comparison(
        old=f"{old.name}, commit {old.commit}, {old.measured}",
        new=f"{new.name}, commit {new.commit}, {new.measured}",
        cpu=old.cpu,
        margin=margin,
        confidence=CONFIDENCE,
        rows=tuple(_row(name, old, new, margin) for name in common),
        only_old=tuple(name for name in old.medians_s if name not in new.medians_s),
        only_new=tuple(name for name in new.medians_s if name not in old.medians_s),
        notes=_notes(old, new, common),
    )


def log_ratio_interval(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Interval of log(new / old) at :data:`CONFIDENCE`, from the medians of at least two rounds of each.

    Raises:
        MachineError: scipy is not installed.
    """
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise missing_package("scipy", "report") from error
    rng = np.random.default_rng(0)
    first, second = (
        np.log(rounds)[rng.integers(0, len(rounds), (DRAWS, len(rounds)))].mean(axis=1) for rounds in (old, new)
    )
    fewest = min(len(old), len(new))
    tail = NormalDist().cdf(-math.sqrt(fewest / (fewest - 1)) * stdtrit(fewest - 1, (1 + CONFIDENCE) / 2))
    low, high = np.quantile(second - first, [tail, 1 - tail])
    return float(low), float(high)


def _row(name: str, old_run: Run, new_run: Run, margin: float) -> Compared:
    old, new = old_run.medians_s[name], new_run.medians_s[name]
    before, after = _centre(old), _centre(new)
    effect = after - before
    shares = None
    if name in old_run.shares and name in new_run.shares:
        shares = old_run.shares[name], new_run.shares[name]
    low = high = noise = None
    if min(len(old), len(new)) < LEAST_ROUNDS:
        verdict, why = "too noisy to tell", f"{len(old)} and {len(new)} rounds, {LEAST_ROUNDS} are needed"
    else:
        low, high = log_ratio_interval(old, new)
        noise = max(_halves_apart(old), _halves_apart(new))
        verdict, why = _judge(effect, low, high, noise, _added(shares, effect), margin)
    return Compared(
        benchmark=name,
        old_ms=math.exp(before) * 1e3,
        new_ms=math.exp(after) * 1e3,
        ratio=math.exp(effect),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        noise=None if noise is None else math.exp(noise),
        rounds=(len(old), len(new)),
        shares=shares,
        verdict=verdict,
        why=why,
    )


def _judge(effect: float, low: float, high: float, noise: float, added: float, margin: float) -> tuple[Verdict, str]:
    """All as logarithms of ratios, but ``margin``."""
    bound = math.log1p(margin)
    if -bound <= low and high <= bound and noise <= bound:
        return "no difference", ""
    if high - low > max(math.log(WIDEST), abs(effect)):
        return "too noisy to tell", f"interval wider than x{WIDEST:g}"
    if noise >= abs(effect):
        return "too noisy to tell", "halves of one run differ as much"
    if noise + added >= abs(effect):
        return "too noisy to tell", "other work took the CPU" if math.isfinite(added) else "no CPU share was kept"
    if low <= 0 <= high:
        return "too noisy to tell", f"interval holds 1 and more than {margin:.0%}; more rounds would tell"
    return ("slower" if effect > 0 else "faster"), ""


def _added(shares: tuple[float, float] | None, effect: float) -> float:
    """What other work can at most have added, as a logarithm, to the times of the run that took longer.

    Without end where no share was kept: the same code took five times as long on a crowded machine.
    """
    return -math.log(min(1.0, shares[1] if effect > 0 else shares[0])) if shares else math.inf


def _centre(medians: Sequence[float]) -> float:
    return float(np.log(medians).mean())


def _halves_apart(medians: Sequence[float]) -> float:
    """A run against itself: its early rounds and its late ones, between which the machine may have drifted."""
    half = len(medians) // 2
    return abs(_centre(medians[-half:]) - _centre(medians[:half]))


def _notes(old: Run, new: Run, common: Sequence[str]) -> tuple[str, ...]:
    """Everything but the code that is not the same in both runs."""
    notes = [f"caution: {what}" for what in _differences(old.software, new.software)]
    for name in common:
        notes += [f"caution: {name}: {what}" for what in _differences(old.about[name], new.about[name])]
    return tuple(notes)


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [
        f"{key} differs: {old.get(key, 'none')} in the old run, {new.get(key, 'none')} in the new one"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m``; returns the exit code: 0 compared, whatever was found, 2 nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="python -m medcompress.benchmarks.timing.runs",
        description="Compare two saved runs of the suites: the ratio of their times, with its interval.",
    )
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument("--margin", type=float, default=5.0, metavar="PERCENT", help="no difference within (default 5)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    given = parser.parse_args(arguments)
    if not 0 < given.margin <= 100:
        parser.error(f"--margin {given.margin:g}: give a percentage above 0, at most 100")
    try:
        found = compare(read_run(given.old), read_run(given.new), given.margin / 100)
    except MedcompressError as error:
        print(f"error: {error}", file=sys.stderr)
        if given.json:
            print(json.dumps({"error": {"code": error.exit_code, "message": str(error)}}))
        return error.exit_code
    if given.json:
        print(to_json(found).decode(), end="")
    else:
        _print(found)
    return 0


def _print(found: Comparison) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    for name in ("old ms", "new ms", "new/old", f"{found.confidence:.0%} interval", "halves", "rounds", "CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in found.rows:
        table.add_row(
            row.benchmark.rpartition("::")[2].removeprefix("bench_"),
            f"{row.old_ms:.3g}",
            f"{row.new_ms:.3g}",
            f"{row.ratio:.3f}",
            "-" if row.low is None else f"{row.low:.3f} to {row.high:.3f}",
            "-" if row.noise is None else f"{row.noise - 1:.1%}",
            f"{row.rounds[0]}, {row.rounds[1]}",
            "-" if row.shares is None else f"{row.shares[0]:.0%}, {row.shares[1]:.0%}",
            _words(row, found.margin),
        )
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:  # a pipe has no width of its own
        console.width = max(console.width, 180)
    console.print(f"old: {found.old}\nnew: {found.new}\nboth on {found.cpu}", soft_wrap=True)
    console.print(table)
    for name, side in ((found.only_old, "old"), (found.only_new, "new")):
        if name:
            console.print(f"only in the {side} run: {', '.join(name)}", soft_wrap=True)
    for note in found.notes:
        console.print(note, soft_wrap=True)


def _words(row: Compared, margin: float) -> str:
    if row.verdict == "no difference":
        return f"no difference beyond {margin * 100:g} %"
    return f"{row.verdict}: {row.why}" if row.why else row.verdict


if __name__ == "__main__":
    sys.exit(main())
