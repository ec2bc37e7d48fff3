"""Which of the forms that were measured is the one to run, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ..benchmarks.evaluation import Row
from .recipes import REFERENCE, Recipe

# Below these the figures say little of any model, let alone of two: the reader is told first.
LEAST_AUROC = 0.6
LEAST_IMAGES_A_CLASS = 30
# Medians of interleaved rounds differ by so much between two runs on a shared machine.
SAME_SPEED = 0.1


def choose(rows: Sequence[Row], recipes: Sequence[Recipe]) -> tuple[Literal["pass", "fail"], str, str]:
    """(verdict, chosen, reason): the fastest row that passed; of those as fast, the one most like the reference.

    The verdict is ``fail`` when no form below FP32 passed, though INT8 was asked for or some such form was measured:
    the float model is kept.
    """
    base = next(row for row in rows if row.name == REFERENCE)
    compressed = {recipe.name for recipe in recipes if recipe.precision != "fp32"}
    below = [row for row in rows if row.name in compressed]
    asked = any(recipe.emitted for recipe in recipes)
    tried = [row for row in below if asked or not row.status.startswith("not run here")]
    passed = [row for row in rows if row.passed and row.p50_ms is not None]
    refused = [row for row in tried if not row.passed]
    limit = min(row.p50_ms or float("inf") for row in passed) * (1 + SAME_SPEED)
    as_fast = [row for row in passed if (row.p50_ms or float("inf")) <= limit]
    fastest = min(as_fast, key=lambda row: (row.flips or 0, row.probability_change or 0.0, row.p50_ms))
    if tried and not any(row.passed for row in tried):
        worst = "; ".join(f"{row.name}: {row.status.removeprefix('fail: ')}" for row in tried)
        return "fail", fastest.name, f"No compressed form passed, the FP32 model is kept. {worst}."
    speed = (base.p50_ms or 0) / (fastest.p50_ms or float("inf"))
    rank = "the fastest" if len(as_fast) == 1 else "the most faithful of the fastest"
    reason = (
        f"{fastest.name} is {rank} of {len(passed)} forms that passed: {fastest.p50_ms:.2f} ms, {speed:.1f} times as "
        f"fast as {REFERENCE}, {100 * fastest.size_bytes / base.size_bytes:.0f} % of its size."
    )
    if refused:
        reason += f" Refused: {', '.join(row.name for row in refused)}."
    return "pass", fastest.name, reason


def caution(rows: Sequence[Row], images: Mapping[str, int]) -> str:
    """What keeps the figures from meaning much, in a sentence; empty where nothing does.

    Args:
        images: held-out images of each class.
    """
    auroc = next(row for row in rows if row.name == REFERENCE).auroc
    few = [f"{count} of {name}" for name, count in images.items() if count < LEAST_IMAGES_A_CLASS]
    said = []
    if auroc is not None and auroc < LEAST_AUROC:
        said.append(f"the model itself hardly tells the classes apart (AUROC {auroc:.3f})")
    if few:
        said.append(f"the held-out images are few ({', '.join(few)})")
    return f"CAUTION: {' and '.join(said)}, so passing says little. " if said else ""
