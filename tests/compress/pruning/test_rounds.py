"""Rounds on a tiny network: they end at the target, go on where they were killed, and refuse what cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medcompress.compress.pruning import rounds as module
from medcompress.compress.pruning.counting import count_macs, count_parameters
from medcompress.compress.pruning.options import Pruning
from medcompress.compress.pruning.rounds import Pruned, prune_in_rounds
from medcompress.compress.pruning.target import Target
from medcompress.compress.workspace import Workspace
from medcompress.runtime.errors import InputError
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from medcompress.trained.data.splits import Split, split_of

Run = Callable[..., Pruned]
QUARTER = Target("macs", 0.25)


@pytest.fixture(scope="module")
def dense(checkpoint: Path) -> Checkpoint:
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def split(dense: Checkpoint) -> Split:
    return split_of(dense.data, dense.spec.decision.classes)


def running(dense: Checkpoint, split: Split, own: Path) -> Run:
    def go(target: Target = QUARTER, folder: str = "room", **asked: Any) -> Pruned:
        room = Workspace(own / folder, {}, replace=False)
        latency = asked.pop("latency", None)
        try:
            return prune_in_rounds(room, dense, split, Pruning(target, **{"epochs": 0} | asked), latency=latency)
        finally:
            room.close()

    return go


@pytest.fixture
def run(dense: Checkpoint, split: Split, tmp_path: Path) -> Run:
    return running(dense, split, tmp_path)


@pytest.fixture(scope="module")
def whole(dense: Checkpoint, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    """Two rounds that nothing stopped."""
    return running(dense, split, tmp_path_factory.mktemp("whole"))(rounds=2)


def same(first: Pruned, second: Pruned) -> bool:
    one, two = first.checkpoint, second.checkpoint
    return one.spec == two.spec and all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_two_rounds_end_at_the_target(whole: Pruned, dense: Checkpoint):
    shape = dense.spec.preprocessing.shape
    macs = count_macs(rebuild(dense), shape)
    first, second = whole.checkpoint.spec.pruning
    assert first.asked == second.asked == "macs 0.25"
    assert first.macs[0] == macs and second.macs[0] == first.macs[1]
    assert 0.45 * macs < first.macs[1] <= 0.5 * macs
    assert 0.22 * macs < second.macs[1] == count_macs(rebuild(whole.checkpoint), shape) <= 0.25 * macs
    assert len(whole.histories) == 2 and whole.seconds > 0


def test_of_parameters_by_taylor_with_an_epoch(run: Run, dense: Checkpoint):
    found = run(Target("params", 0.4), importance="taylor", epochs=1, rounds=1)
    (done,) = found.checkpoint.spec.pruning
    assert done.importance == "taylor"
    left = count_parameters(rebuild(found.checkpoint))
    assert left <= 0.4 * count_parameters(rebuild(dense)) and done.parameters[1] == left
    assert [row["epoch"] for row in found.histories[0]] == [0, 1]


@pytest.mark.parametrize("at", [1, 2])
def test_killed_in_a_round_it_goes_on_and_ends_the_same(
    run: Run, whole: Pruned, monkeypatch: pytest.MonkeyPatch, at: int
):
    recover, prune, calls = module.recover, module.prune, []

    def killed(*args: Any, **options: Any) -> Checkpoint:
        calls.append("recover")
        if calls.count("recover") == at:
            raise KeyboardInterrupt
        return recover(*args, **options)

    def counted(*args: Any, **options: Any) -> Checkpoint:
        calls.append("prune")
        return prune(*args, **options)

    monkeypatch.setattr(module, "recover", killed)
    monkeypatch.setattr(module, "prune", counted)
    with pytest.raises(KeyboardInterrupt):
        run(rounds=2)
    assert same(run(rounds=2), whole)
    assert (calls.count("prune"), calls.count("recover")) == (2, 3), "what was finished was not done again"


def test_a_finished_run_is_read(run: Run, monkeypatch: pytest.MonkeyPatch):
    first = run(rounds=1)
    monkeypatch.setattr(module, "prune", None)
    monkeypatch.setattr(module, "recover", None)
    assert same(run(rounds=1), first)


def test_a_target_that_cannot_be_met_says_so_as_it_was_asked(run: Run):
    with pytest.raises(InputError, match=r"^--macs 0\.0001 cannot be reached: 0\.\d+ is the least that can be left$"):
        run(Target("macs", 0.0001), rounds=1)
    with pytest.raises(InputError, match=r"^--latency-ms 0\.5 cannot be reached: 1\.\d+ is the least that can be left"):
        run(
            Target("latency-ms", 0.5),
            folder="other",
            rounds=1,
            latency=lambda network: 1 + count_parameters(network) / 1e7,
        )


def test_a_target_the_last_round_would_miss_is_refused_before_the_first(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "recover", None)
    with pytest.raises(InputError, match=r"^--macs 0\.0001 cannot be reached: 0\.0\d+ is the least that can be left$"):
        run(Target("macs", 0.0001), rounds=3, epochs=5)


def test_no_group_vanishes_however_much_is_asked(run: Run, dense: Checkpoint):
    found = run(Target("params", 0.01), rounds=3)
    assert all(0 not in parameter.shape for parameter in rebuild(found.checkpoint).parameters())
    assert found.checkpoint.spec.decision == dense.spec.decision


def test_a_smaller_image_within_counts(run: Run, dense: Checkpoint):
    found = run(shrunk=(24, 24), rounds=1)
    assert found.checkpoint.spec.shrunk == (24, 24)
    whole = count_macs(rebuild(dense), dense.spec.preprocessing.shape)
    assert count_macs(rebuild(found.checkpoint), dense.spec.preprocessing.shape) <= 0.25 * whole


def test_the_dense_checkpoint_is_left_as_it_was(run: Run, dense: Checkpoint):
    before = dataclasses.replace(dense, weights={name: tensor.clone() for name, tensor in dense.weights.items()})
    run(rounds=1)
    assert dense.spec == before.spec
    assert all(torch.equal(tensor, before.weights[name]) for name, tensor in dense.weights.items())
