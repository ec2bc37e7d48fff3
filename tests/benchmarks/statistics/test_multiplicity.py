from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from medcompress.benchmarks.statistics.multiplicity import holm


def test_a_worked_example() -> None:
    # By hand: 4 x 0.005, 3 x 0.01, then 2 x 0.03, and 0.04, which may not fall below it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("count", [1, 2, 14, 200])
def test_statsmodels_says_the_same(count: int) -> None:
    values = np.random.default_rng(count).random(count) ** 3
    values[: count // 4] = values[0]
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1].tolist())


def test_what_could_not_be_tested_does_not_count() -> None:
    assert holm([None, 0.02, None, 0.03]) == pytest.approx([None, 0.04, None, 0.04])
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


def test_nothing_is_surer_than_possible() -> None:
    assert holm([0.6, 0.9, 1.0]) == [1.0, 1.0, 1.0]
