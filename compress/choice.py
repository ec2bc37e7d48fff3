"""Which of the forms that were measured is the one to run, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..benchmarks.evidence import Evidence, nearest
from ..benchmarks.row import Row
from ..benchmarks.verdict import Outcome
from .recipes import REFERENCE, Recipe

# Medians of interleaved rounds differ by so much between two runs on a shared machine.
SAME_SPEED = 0.1


class Choice(msgspec.Struct, frozen=True):
    """What follows for the bundle.

    Attributes:
        verdict: ``pass``: some form below FP32 is shown to be as good. ``inconclusive``: none is, of one more patients
            might show it. ``fail``: none. Where no such form was asked for or could run here: ``pass``.
        accepted: an inconclusive form was let through on the maker's word.
        chosen: name of the form to run; the float model where nothing was let through.
        kept: names of the forms the bundle holds.
        reason: in a sentence or two.
    """

    verdict: Outcome
    accepted: bool
    chosen: str
    kept: tuple[str, ...]
    reason: str


def choose(
    rows: Sequence[Row],
    evidence: Sequence[Evidence],
    recipes: Sequence[Recipe],
    *,
    accept_inconclusive: bool = False,
    off: Mapping[str, float] | None = None,
) -> Choice:
    """The fastest row that was let through; of those as fast, the one most like the reference.

    Args:
        off: by how much the probabilities of each form are off on the validation images: the images the rows are of
            have no part in the choice.
    """
    off = off or {}
    base = next(row for row in rows if row.name == REFERENCE)
    compressed = {recipe.name for recipe in recipes if recipe.compressed}
    asked = any(recipe.quantized or recipe.network for recipe in recipes)
    tried = [row for row in rows if row.name in compressed and (asked or row.state != "not run here")]
    open_ = [row for row in tried if row.state == "inconclusive"]
    verdict: Outcome = "pass"
    if tried and not any(row.passed for row in tried):
        verdict = "inconclusive" if open_ else "fail"
    within = {each.variant for each in evidence if each.verdict.within}
    acceptable = [row for row in open_ if row.name in within and accept_inconclusive]
    accepted = verdict == "inconclusive" and bool(acceptable)
    let_through = [row for row in rows if row.p50_ms is not None and (row.passed or (accepted and row in acceptable))]
    if verdict != "pass" and not accepted:
        let_through = [row for row in let_through if row.name not in compressed]
    limit = min(row.p50_ms or float("inf") for row in let_through) * (1 + SAME_SPEED)
    as_fast = [row for row in let_through if (row.p50_ms or float("inf")) <= limit]
    fastest = min(as_fast, key=lambda row: (off.get(row.name, 0.0), row.p50_ms))
    kept = tuple(row.name for row in let_through)
    if verdict != "pass" and not accepted:
        told = "is shown to be as good" if open_ else "passed"
        reason = f"No compressed form {told}, the FP32 model is kept."
        best = nearest([each for each in evidence if each.variant in compressed])
        if best:
            reason += f" Nearest came {best.variant}: {best.verdict.reason}."
        else:
            reason += f" {tried[0].name}: {tried[0].status}."
        return Choice(verdict, False, fastest.name, kept, reason)
    speed = (base.p50_ms or 0) / (fastest.p50_ms or float("inf"))
    others = [row for row in let_through if row.name != REFERENCE]
    if fastest.name == REFERENCE:
        reason = f"None of the {len(others)} other forms that passed is faster than {REFERENCE}, which is kept."
    else:
        rank = "the fastest" if len(as_fast) == 1 else "the most faithful of the fastest"
        reason = (
            f"{fastest.name} is {rank} of {len(others)} forms that {'were let through' if accepted else 'passed'}: "
            f"{fastest.p50_ms:.2f} ms, {speed:.1f} times as fast as {REFERENCE}, "
            f"{100 * fastest.size_bytes / base.size_bytes:.0f} % of its size."
        )
    if accepted and fastest in open_:
        reason += f" It is not shown to be as good, and was accepted on the maker's word: {_why(fastest)}."
    left = [row for row in tried if row not in let_through]
    for told, here in (("Refused", True), ("Not run here", False)):
        names = [row.name for row in left if (row.state != "not run here") == here]
        if names:
            reason += f" {told}: {', '.join(names)}."
    return Choice(verdict, accepted, fastest.name, kept, reason)


def _why(row: Row) -> str:
    return row.status.partition(": ")[2]
