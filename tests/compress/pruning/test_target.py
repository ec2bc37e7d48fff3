"""The target is met from below, as near as the steps allow; what cannot be met is told in the user's unit."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from medcompress.compress.pruning.channels import Channels
from medcompress.compress.pruning.counting import count_macs, count_parameters
from medcompress.compress.pruning.importance import scores_of
from medcompress.compress.pruning.selection import select
from medcompress.compress.pruning.target import Kind, Target, measure_of, rounds_to, solve
from medcompress.runtime.errors import InputError, MedcompressError
from medcompress.trained.checkpoint import Checkpoint, rebuild

Made = Callable[..., Checkpoint]


def left(network: nn.Module, shape: tuple[int, ...], target: Target, **options: object) -> float:
    """What is left when it is solved, as a share or in milliseconds."""
    measure = measure_of(target, shape, options.pop("latency", None))  # type: ignore[arg-type]
    unit = target.wanted(measure(network)) / target.value
    scores = scores_of(Channels(copy.deepcopy(network), shape).groups, "magnitude", network)
    wanted = target.wanted(measure(network))
    gone = solve(network, shape, scores, wanted, measure, asked=str(target), unit=unit, **options)  # type: ignore[arg-type]
    Channels(network, shape, **options).take(gone)  # type: ignore[arg-type]
    return measure(network) / unit


@pytest.mark.parametrize(("kind", "value"), [("macs", 0.1), ("macs", 0.9), ("params", 0.25)])
def test_shares_are_met_within_two_percent_and_never_exceeded(made: Made, kind: Kind, value: float):
    found = left(rebuild(made("timm/regnety_002")), (3, 64, 64), Target(kind, value))
    assert 0.98 * value <= found <= value


@pytest.mark.parametrize(
    ("architecture", "value"), [("timm/test_resnet", 0.3), ("timm/test_vit", 0.6), ("timm/test_efficientnet", 0.45)]
)
def test_coarse_networks_are_met_from_below_as_near_as_single_groups_allow(made: Made, architecture: str, value: float):
    size = 160 if "vit" in architecture else 64
    found = left(rebuild(made(architecture, size)), (3, size, size), Target("macs", value))
    assert 0.9 * value <= found <= value


def test_the_least_is_told_in_the_users_unit_and_can_be_asked_for(made: Made):
    network, shape = rebuild(made("timm/test_resnet")), (3, 64, 64)
    for kind in ("macs", "params"):
        with pytest.raises(InputError, match=rf"^--{kind} 0\.001 cannot be reached: 0\.0\d+ is the least") as caught:
            left(copy.deepcopy(network), shape, Target(kind, 0.001))
        least = float(str(caught.value).split("reached: ")[1].split()[0])
        found = left(copy.deepcopy(network), shape, Target(kind, least))
        assert 0.8 * least < found <= least


def test_latency_is_measured_and_told_in_milliseconds(made: Made):
    network, shape = rebuild(made("timm/test_resnet")), (3, 64, 64)

    def latency(each: nn.Module) -> float:
        return 2 + 10 * count_macs(each, shape) / 1e7

    dense = latency(network)
    target = Target("latency-ms", round(0.6 * dense, 3))
    assert 0.95 * target.value <= left(copy.deepcopy(network), shape, target, latency=latency) <= target.value
    with pytest.raises(InputError, match=r"^--latency-ms 1 cannot be reached: [23].* is the least that can be left$"):
        left(copy.deepcopy(network), shape, Target("latency-ms", 1), latency=latency)
    assert left(network, shape, Target("latency-ms", 2 * dense), latency=latency) == dense, "met already"


def test_a_measure_with_steps_is_still_met_from_below(made: Made):
    """An engine's blocks: every layer costs what the next 16 channels would."""
    network, shape = rebuild(made("timm/test_resnet")), (3, 64, 64)

    def staircase(each: nn.Module) -> float:
        layers = [layer for layer in each.modules() if isinstance(layer, nn.Conv2d)]
        return sum(-(-layer.in_channels // 16) * -(-layer.out_channels // 16) for layer in layers)

    dense = staircase(network)
    for share in (0.3, 0.5, 0.7):
        found = left(copy.deepcopy(network), shape, Target("latency-ms", share * dense), latency=staircase)
        assert 0.7 * share * dense <= found <= share * dense


def test_less_is_left_of_a_smaller_target(made: Made):
    network, shape = rebuild(made("timm/test_efficientnet")), (3, 64, 64)
    found = [left(copy.deepcopy(network), shape, Target("macs", value)) for value in (0.9, 0.6, 0.4)]
    assert all(more > less for more, less in itertools.pairwise(found))


def test_more_share_leaves_less(made: Made):
    network, shape = rebuild(made("timm/test_vit", 160)), (3, 160, 160)
    groups = Channels(copy.deepcopy(network), shape).groups
    scores = scores_of(groups, "magnitude", network)
    found = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        tried = copy.deepcopy(network)
        Channels(tried, shape).take(select(groups, scores, share))
        found.append((count_macs(tried, shape), count_parameters(tried)))
    assert all(more[0] > less[0] and more[1] > less[1] for more, less in itertools.pairwise(found))


def test_what_is_kept_raises_the_least_that_can_be_left(made: Made):
    network, shape = rebuild(made("timm/test_resnet")), (3, 64, 64)
    before = copy.deepcopy(network)
    left(network, shape, Target("macs", 0.6), keep=["layer3.*"])
    for name, layer in network.named_modules():
        if name.startswith("layer3") and isinstance(layer, nn.Conv2d):
            assert layer.out_channels == before.get_submodule(name).out_channels
    with pytest.raises(InputError, match="cannot be reached"):
        left(before, shape, Target("macs", 0.07), keep=["layer3.*"])


class _Functional(nn.Module):
    """Reads its stream by a weight no layer is called for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.unseen, self.last = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = (x + self.outer(self.inner(x).relu())).mean((2, 3))
        with torch.no_grad():
            gate = nn.functional.linear(x, self.unseen.weight)
        return self.last(x * gate.sigmoid())


def test_groups_without_which_the_network_does_not_run_are_named(made: Made):
    torch.manual_seed(0)
    network, shape = _Functional().eval(), (3, 8, 8)
    with pytest.raises(MedcompressError, match=r"at (outer|first) \(.*\); leave out what it cannot: --keep \S+ \(\*"):
        left(copy.deepcopy(network), shape, Target("macs", 0.5))
    assert left(network, shape, Target("macs", 0.8), keep=["first", "outer"]) <= 0.8


@pytest.mark.parametrize(
    ("kind", "value"),
    [("macs", 0), ("macs", 1), ("params", -0.1), ("macs", 25), ("macs", float("nan")), ("latency-ms", 0),
     ("latency-ms", float("nan")), ("latency-ms", float("inf"))],
)  # fmt: skip
def test_targets_that_are_none_are_refused(kind: Kind, value: float):
    with pytest.raises(InputError, match=f"--{kind} .*: give a number"):
        Target(kind, value)


def test_every_round_leaves_the_same_share_of_what_the_one_before_left():
    assert rounds_to(1, 16, 2) == pytest.approx([4, 1])
    assert rounds_to(3, 12, 1) == pytest.approx([3])
