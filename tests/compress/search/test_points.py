"""Which networks there are to choose among, and what is known of those that were not looked at."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from medcompress.benchmarks.networks import Trial
from medcompress.compress.search.known import Looked, told_of
from medcompress.compress.search.points import Point, Size, first_points, sizes_of

from .conftest import checkpoint_of

SIZES: dict[Size, float] = {None: 0.9, (36, 36): 0.5}


def looked(point: Point, outcome: str, p50_ms: float | None = 1.0, shortfall: float = 0.5) -> Looked:
    trial = Trial(point.name, point.share, (48, 48), "form", p50_ms, None, 1, None, None, None, None, 0, outcome, 1.0)
    return Looked(point, trial, shortfall)


def test_sizes_are_multiples_of_eight_and_less_work(phantoms: Path) -> None:
    sizes = sizes_of(checkpoint_of("medcompress/small_cnn", phantoms, 64))
    assert list(sizes) == [None, (56, 56), (48, 48), (40, 40), (32, 32)]
    shares = list(sizes.values())
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.95 / 4, rel=0.05)


def test_a_network_of_so_many_patches_has_one_size(phantoms: Path) -> None:
    assert list(sizes_of(checkpoint_of("timm/gmlp_ti16_224", phantoms, 64))) == [None]


def test_a_transformer_takes_whole_patches(phantoms: Path) -> None:
    assert list(sizes_of(checkpoint_of("timm/test_vit", phantoms, 160))) == [None, (144, 144), (96, 96), (80, 80)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_first_points_are_of_the_sizes_there_are(count: int) -> None:
    sizes: list[Size] = [None, (56, 56), (48, 48), (40, 40), (32, 32)][:count]
    points = first_points(sizes)
    assert {point.size for point in points} <= set(sizes)
    assert len(set(points)) == len(points)


def test_names_are_of_two_digits() -> None:
    assert Point.near(0.03449, (96, 96)).name == "macs3.4-96px"


@pytest.mark.parametrize(
    ("share", "size", "known"),
    [
        (0.2, None, True),  # more work than one that passes and is as slow as can be used
        (0.105, None, True),  # the same but for a channel
        (0.05, None, False),
        (0.019, None, True),  # less than one that was not good enough
        (0.019, (36, 36), False),  # at another size nothing follows
        (0.2, (36, 36), False),
        (0.4, (36, 36), True),  # so much more work is slower anyway
        (0.6, (36, 36), True),  # there is not so much to leave
    ],
)
def test_what_follows_from_others(share: float, size: Size, known: bool) -> None:
    others = [looked(Point(0.1), "judged"), looked(Point(0.02), "short: flips", 0.4, 3.0)]
    assert (told_of(Point(share, size), others, SIZES) is not None) is known


def test_what_cannot_be_pruned_so_far_cannot_further() -> None:
    failed = looked(Point(0.02), "error: cannot be pruned to 100", None)
    others = [msgspec.structs.replace(failed, unreachable=True)]
    assert told_of(Point(0.01), others, SIZES) is not None
    assert told_of(Point(0.04), others, SIZES) is None
    assert told_of(Point(0.01, (36, 36)), others, SIZES) is None
    smaller = [msgspec.structs.replace(others[0], point=Point(0.02, (36, 36)))]
    assert told_of(Point(0.01), smaller, SIZES) is not None


@pytest.mark.parametrize("p50_ms", [1.0, None])
def test_one_that_failed_otherwise_says_nothing_of_smaller_ones(p50_ms: float | None) -> None:
    others = [looked(Point(0.1), "error: diverged", p50_ms)]
    assert told_of(Point(0.1), others, SIZES) is not None
    assert told_of(Point(0.05), others, SIZES) is None
