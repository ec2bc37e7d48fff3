"""Many classes tested at once: the more tests, the more of them find something by chance."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted so that, of all that are below a level, the chance of one false one is that level.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6:65-70:
    the smallest times the number of tests, the next times one less, and so on, never falling and at most 1. It needs
    no independence of the tests. None, a test that could not be made, stays None and does not count.
    """
    order = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (value, place) in enumerate(order):
        least = max(least, min(1.0, value * (len(order) - rank)))
        adjusted[place] = least
    return adjusted
