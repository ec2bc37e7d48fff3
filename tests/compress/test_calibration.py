from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medcompress.benchmarks.data.samples import Sample, one_hot
from medcompress.compress.calibration import choose, require_enough
from medcompress.runtime.errors import DataError


def samples(count: int, label: int, images_a_patient: int = 1) -> list[Sample]:
    target = one_hot(label, 2)
    return [Sample(Path(f"{label}-{i:04d}.png"), target, f"{label}-{i // images_a_patient}") for i in range(count)]


def test_classes_keep_their_proportions() -> None:
    chosen = choose([*samples(300, 0), *samples(900, 1)], seed=0, count=300)
    assert Counter(sample.label for sample in chosen) == {0: 75, 1: 225}
    assert len(set(chosen)) == len(chosen)


def test_a_small_set_is_taken_whole_and_a_rare_class_is_kept() -> None:
    train = [*samples(40, 0), *samples(1, 1)]
    assert set(choose(train, seed=0, count=300)) == set(train)
    assert {sample.label for sample in choose([*samples(5000, 0), *samples(2, 1)], seed=0, count=300)} == {0, 1}


def test_patients_come_before_second_images() -> None:
    chosen = choose(samples(900, 0, images_a_patient=3), seed=0, count=300)
    assert len({sample.patient for sample in chosen}) == 300


def test_the_choice_follows_the_seed_and_not_the_order() -> None:
    train = [*samples(500, 0), *samples(500, 1)]
    assert set(choose(train, 0, 300)) == set(choose(train[::-1], 0, 300)) != set(choose(train, 1, 300))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        require_enough(samples(15, 0))
