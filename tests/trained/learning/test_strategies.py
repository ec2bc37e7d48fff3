"""Which layers train when, and how the rate moves."""

from __future__ import annotations

import pytest

from medcompress.runtime.errors import InputError
from medcompress.trained.data.splits import DataSource
from medcompress.trained.learning.options import TrainOptions, refuse_changed
from medcompress.trained.learning.schedules import PLATEAU_FACTOR, lowered, rate
from medcompress.trained.learning.strategies import stage_of, stages


def options(**changes: object) -> TrainOptions:
    return TrainOptions(DataSource("d"), **changes)  # type: ignore[arg-type]


def test_full_trains_everything_with_a_slower_backbone() -> None:
    (stage,) = stages(options(backbone_lr=0.1, epochs=7), 4)
    assert (stage.first, stage.epochs, stage.rates) == (0, 7, (0.1, 0.1, 0.1, 1.0))


def test_frozen_trains_the_head_alone() -> None:
    (stage,) = stages(options(strategy="frozen", weights="imagenet"), 4)
    assert stage.rates == (0, 0, 0, 1)


def test_two_stage_is_the_head_then_everything_lower() -> None:
    head, everything = stages(options(strategy="two-stage", epochs=8, backbone_lr=0.5), 3)
    assert (head.epochs, head.rates) == (2, (0, 0, 1))
    assert (everything.first, everything.epochs) == (2, 6)
    assert 0 < everything.rates[0] < everything.rates[-1] < 1


@pytest.mark.parametrize(("epochs", "groups", "unfreeze"), [(10, 6, 0), (10, 6, 2), (3, 40, 0), (7, 9, 100), (2, 3, 1)])
def test_gradual_frees_layers_from_the_head_backwards(epochs: int, groups: int, unfreeze: int) -> None:
    found = stages(options(strategy="gradual", epochs=epochs, unfreeze=unfreeze), groups)
    assert found[0].rates == (0,) * (groups - 1) + (1,)
    free = [sum(rate > 0 for rate in stage.rates) for stage in found]
    assert free == sorted(set(free))
    assert free[-1] == min(unfreeze or groups, groups - 1) + 1 if unfreeze else groups
    assert all(stage.rates == tuple(sorted(stage.rates)) for stage in found)
    covered = [epoch for stage in found for epoch in range(stage.first, stage.first + stage.epochs)]
    assert covered == list(range(epochs))
    assert all(stage_of(found, stage.first) is stage for stage in found)


@pytest.mark.parametrize("strategy", ["two-stage", "gradual"])
def test_stages_need_epochs(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"strategy {strategy} needs at least 2 epochs"):
        options(strategy=strategy, epochs=1)


def test_schedules_rise_to_their_highest_and_fall() -> None:
    for schedule, top in (("one-cycle", 0.3), ("cosine", 0.05)):
        rates = [rate(schedule, step / 1000) for step in range(1001)]
        assert max(rates) == pytest.approx(1) and rates.index(max(rates)) == pytest.approx(1000 * top, abs=1)
        assert rates[0] < 0.05 and rates[-1] == pytest.approx(0, abs=1e-9)
    assert {rate("constant", 0.1), rate("constant", 0.9), rate("plateau", 0.5)} == {1.0}


def test_the_plateau_lowers_the_rate_when_the_loss_stops_falling() -> None:
    assert lowered([]) == lowered([5, 4, 3]) == lowered([5, 4, 4.5, 3]) == 1
    assert lowered([5, 6, 6]) == PLATEAU_FACTOR
    assert lowered([5, 6, 6, 5.5, 7]) == pytest.approx(PLATEAU_FACTOR**2)


def test_a_changed_option_is_named_with_both_values() -> None:
    refuse_changed(options(epochs=3), {"epochs": 3, "seed": 0})
    with pytest.raises(InputError, match="architecture resnet50: this run was begun with resnet18"):
        refuse_changed(options(), {"architecture": "resnet50"})
    with pytest.raises(InputError, match="folder e: this run was begun with d"):
        refuse_changed(options(), {}, {"folder": "e"})
    # What a run settled for itself is not asked again.
    refuse_changed(options(size=96, flips="none"), {"size": 0, "flips": "auto"})
    with pytest.raises(InputError, match="size 48"):
        refuse_changed(options(size=96), {"size": 48})
