"""Of comparable units the least important go, so many of a group that engines like what is left, and never all."""

from __future__ import annotations

import itertools

import pytest
import torch

from medcompress.compress.pruning.channels import Group
from medcompress.compress.pruning.selection import select


def group(name: str, units: int, scope: str = "conv", heads: bool = False) -> Group:
    return Group(name, (scope,), tuple((unit,) for unit in range(units)), heads, None)


def scores(*groups: Group, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {each.name: torch.rand(len(each.units), generator=generator) + 0.1 for each in groups}
    return {name: found / found.mean() for name, found in drawn.items()}


def test_the_least_important_of_all_groups_of_a_scope_go():
    one, two, other = group("one", 8), group("two", 8), group("other", 8, "linear")
    found = {
        "one": torch.tensor([1.0, 9, 2, 9, 9, 3, 4, 9]),
        "two": torch.full((8,), 9.0),
        "other": torch.arange(8.0),
    }
    gone = select([one, two, other], found, 0.25)
    assert sorted(gone["one"]) == [0, 2, 5, 6] and "two" not in gone
    assert sorted(gone["other"]) == [0, 1]


def test_the_least_important_within_a_group_go_when_the_number_is_rounded():
    one = group("one", 16)
    gone = select([one], {"one": torch.arange(16.0).flip(0)}, 0.3)
    assert sorted(gone["one"]) == [12, 13, 14, 15], "5 of 16 would go, in steps of 4 it is 4"


@pytest.mark.parametrize(
    ("units", "step"), [(1, 1), (2, 1), (7, 1), (8, 2), (15, 2), (16, 4), (31, 4), (32, 8), (33, 8), (500, 8)]
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.62, 0.9, 1.0])
def test_what_is_left_is_a_multiple_and_never_nothing(units: int, step: int, share: float):
    one = group("one", units)
    left = units - len(select([one], scores(one), share).get("one", ()))
    assert step <= left <= units
    assert left == units or left % step == 0


@pytest.mark.parametrize("heads", [1, 3, 6, 12, 48])
def test_heads_go_one_by_one_and_one_stays(heads: int):
    one = group("one", heads, heads=True)
    found = scores(one)
    for gone in range(1, heads):
        assert len(select([one], found, gone / heads).get("one", ())) == gone
    assert len(select([one], found, 1.0).get("one", ())) == heads - 1


def test_a_group_none_of_whose_units_go_keeps_a_number_that_is_no_multiple():
    one, two = group("one", 35), group("two", 64)
    found = {"one": torch.full((35,), 2.0), "two": torch.linspace(0.1, 1, 64)}
    assert select([one, two], found, 0.2).keys() == {"two"}


def test_units_that_matter_the_same_do_not_all_go_at_once():
    one, two = group("one", 64), group("two", 64)
    found = {name: torch.ones(64) for name in ("one", "two")}
    assert sum(map(len, select([one, two], found, 0.25).values())) == 32


def test_more_share_takes_what_less_took_and_more():
    groups = [group("one", 64), group("two", 24), group("three", 9), group("four", 3, heads=True)]
    found = scores(*groups)
    series = [select(groups, found, share / 50) for share in range(51)]
    for less, more in itertools.pairwise(series):
        for name, units in less.items():
            assert set(units) <= set(more[name])
    assert series[0] == {}
    assert {name: len(units) for name, units in series[-1].items()} == {"one": 56, "two": 20, "three": 7, "four": 2}


def test_one_group_alone_and_groups_without_importance():
    one, two = group("one", 8), group("two", 8)
    assert select([one, two], scores(one, two), 0.5, only="two").keys() == {"two"}
    assert select([one, two], scores(one), 1.0).keys() == {"one"}
    assert select([one, two], {}, 1.0) == {}
