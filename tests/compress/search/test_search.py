"""The search: what it tries, what it leaves out, and that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from medcompress.benchmarks.tolerance import Tolerance
from medcompress.compress.search import journal, looking, rungs
from medcompress.compress.search.points import Point
from medcompress.trained.checkpoint import Checkpoint, rebuild
from medcompress.trained.learning.classifier import Diverged

from .conftest import Search

MakeSearch = Callable[..., Search]
STRICT = Tolerance(auroc_drop=0, sensitivity_drop=0, specificity_drop=0, ece_rise=0, flips=0, minimum=1)


def test_the_fastest_of_those_that_pass_go_on(make_search: MakeSearch) -> None:
    search = make_search()
    search.real = True
    found, trials = search(networks=5, most=2)
    assert trials[0].name == "dense" and trials[0].macs_share == 1
    assert [each.name for each in trials[1:4]] == ["macs25", "macs10", "macs4"]
    times = [each.p50_ms for each in trials[1:] if each.state == "judged" and each.p50_ms]
    assert [each.trial.p50_ms for each in found] == sorted(times)[:2]
    # Each that passed is clearly faster than those that passed before it.
    assert all(later * 1.1 <= earlier for earlier, later in pairwise(times))
    assert all(each.epochs == 0 for each in trials if each.state == "slower")
    assert len({each.name for each in trials}) == len(trials) == len(search.timed)


def test_what_goes_on_was_recovered(make_search: MakeSearch) -> None:
    search = make_search()
    search.real = True
    found, _ = search(networks=2, epochs=2)
    for each in found:
        assert each.checkpoint.spec.pruning and each.pruning.name == each.trial.name == "macs25"
        rebuild(each.checkpoint)
        assert [row["epoch"] for row in each.pruned.histories[0]][:2] == [0, 1]
    assert search.recovered == [1, 1]


def test_past_the_deadline_there_is_the_dense_network_alone(make_search: MakeSearch) -> None:
    search = make_search()
    found, trials = search(networks=0)
    assert not found and [each.name for each in trials] == ["dense"]
    assert search.recovered == []
    _, trials = search(networks=2)
    assert [each.name for each in trials] == ["dense", "macs25"]


def test_the_same_seed_looks_at_the_same_networks(make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "first_points", lambda _: [Point(0.25)])
    search = make_search()
    one = search("one", networks=4)[1]
    search.timed.clear()
    other = search("other", networks=4)[1]
    assert len(one) > 2  # the sampler's own are among them
    assert one == other


@pytest.mark.parametrize("place", ["before", "within"])
def test_a_killed_search_goes_on(make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    search = make_search()
    whole = search("whole", networks=4)[1]
    search.timed.clear()
    search.recovered.clear()
    search.real = place == "within"
    recover = rungs.recover

    def killed(*args: Any, **options: Any) -> Checkpoint:
        if len(search.recovered) == 1:
            if place == "within":
                recover(*args, **options)  # its own files are there, the stage is not
            raise KeyboardInterrupt
        return recover(*args, **options)

    monkeypatch.setattr(rungs, "recover", killed)
    with pytest.raises(KeyboardInterrupt):
        search("run", networks=4)
    assert len(search.timed) == 3
    monkeypatch.setattr(rungs, "recover", recover)
    found, trials = search("run", networks=4)
    # What was timed before the kill was not timed again, and the sampler goes on as it would have.
    assert len(search.timed) == len(trials) == 4
    assert [each.name for each in trials] == [each.name for each in whole]
    assert found and not list(search.folder.rglob("*.training"))


def test_a_journal_that_was_cut_off_is_read(make_search: MakeSearch) -> None:
    search = make_search(tolerance=STRICT)
    search(networks=2)
    path = search.folder / "run.partial" / "search" / "journal.log"
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker_')
    path.with_name("journal.log.lock").symlink_to(path)
    assert len(search(networks=3)[1]) == 3


def test_an_ended_search_is_not_begun_again(make_search: MakeSearch) -> None:
    search = make_search()
    found, trials = search()
    again, trials_again = search(networks=100)
    assert trials_again == trials and [each.trial for each in again] == [each.trial for each in found]
    assert len(search.timed) == 3


def test_a_broken_network_costs_itself_alone(make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    search = make_search()
    recover = rungs.recover

    def diverging(*args: Any, **options: Any) -> Checkpoint:
        found = recover(*args, **options)
        if len(search.recovered) == 2:
            raise Diverged("training diverged in epoch 1")
        return found

    monkeypatch.setattr(rungs, "recover", diverging)
    search.broken = 1.0
    found, trials = search(networks=5)
    outcomes = {each.name: each.outcome for each in trials}
    assert outcomes["macs10"] == "error: training diverged in epoch 1"
    assert outcomes["macs4"] == "error: the exporter does not know this"
    assert found and all((each.trial.p50_ms or 0) >= 1 for each in found)


def test_a_hopeless_network_gets_no_long_recovery(make_search: MakeSearch) -> None:
    search = make_search(tolerance=STRICT)
    found, trials = search(networks=4, epochs=6)
    assert not found
    assert {each.state for each in trials[1:3]} == {"short"}
    assert set(search.recovered) == {1}


def test_a_network_of_one_size_keeps_it(make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "sizes_of", lambda _: {None: 0.9})
    search = make_search("timm/test_vit", 160)
    _, trials = search(networks=2)
    assert len(trials) == 2
    assert {each.looks_at for each in trials} == {(160, 160)}


def test_the_best_are_recovered_for_longer_where_there_is_time(make_search: MakeSearch) -> None:
    search = make_search()
    found, trials = search(networks=3, epochs=6)
    # Time stands still: one short and one long recovery of each that goes on.
    assert sorted(search.recovered) == [1, 1, 5, 5]
    assert all(each.trial.epochs == 6 and each.trial in trials for each in found)
