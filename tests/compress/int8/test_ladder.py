"""The ladder on a real, small network: what it tries, in which order, what it keeps, and what it remembers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.data.labelled import Labelled
from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.timing.latency import latency_of
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.compress.export import export
from medcompress.compress.int8 import attempt
from medcompress.compress.int8 import ladder as module
from medcompress.compress.int8.attempt import Yardstick, goal_of, loaded
from medcompress.compress.int8.ladder import Ladder
from medcompress.compress.int8.plan import Plan
from medcompress.compress.int8.sources import Sources
from medcompress.compress.recipes import RECIPES, REFERENCE
from medcompress.compress.workspace import Workspace
from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing

SIDE = 24
PREPROCESSING = Preprocessing((SIDE, SIDE))
DECISION = Decision("binary", ("clear", "opacity"), "opacity")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form takes as long as the float one: what is kept is not to depend on how busy the machine is."""
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr(attempt, "measure", lambda workers, *_: {name: latency_of([1.0]) for name in workers})


class Lopsided(nn.Module):
    """A depthwise convolution whose channels differ by a factor of thousands: one grid for all loses the small ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 2)
        with torch.no_grad():
            factors = torch.logspace(0, 3.5, 16)
            self.first.weight *= factors[:, None, None, None]
            self.first.bias *= factors
            self.depthwise.weight /= factors[:, None, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.last(torch.relu(self.depthwise(nn.functional.silu(self.first(x))))))
        return 20 * self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, SIDE, SIDE), np.uint8)


@pytest.fixture(scope="module")
def reference(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    export(Lopsided().eval(), np.stack([PREPROCESSING.normalize(each) for each in pixels[:2]]), path)
    return path


@pytest.fixture
def ladder(reference: Path, pixels: np.ndarray, tmp_path: Path) -> Iterator[Ladder]:
    images = tmp_path / "images.npy"
    np.save(images, pixels)
    samples = tuple(Sample(Path(f"{place}.png"), (0, 1), str(place)) for place in range(len(pixels)))
    target = np.eye(2, dtype=np.int8)[np.arange(len(pixels)) % 2]
    candidate = Candidate(REFERENCE, "onnxruntime", "fp32", (reference,))
    recipe = next(each for each in RECIPES if each.name == "onnxruntime-int8-avx2")
    workspace = Workspace(tmp_path / "bundle", {"run": 1}, replace=False)
    with loaded(candidate, 1) as worker:
        logits = worker.run(images, PREPROCESSING)
    labelled = Labelled(images, target, samples)
    yardstick = Yardstick(PREPROCESSING, DECISION, Tolerance(minimum=1000), labelled, logits, 1, candidate)
    sources = Sources(workspace, reference, images, PREPROCESSING)
    yield Ladder(recipe, "test", workspace, sources, yardstick, time.monotonic() + 600)
    workspace.close()


def test_the_goal_is_tighter_than_the_margins() -> None:
    goal = goal_of(Tolerance())
    assert (goal.auroc_drop, goal.flips) == pytest.approx((0.002, 0.01))
    assert (goal.probability_change, goal.logit_change) == (0.125, 1.0)


def test_it_climbs_until_the_goal_keeps_only_what_is_nearer_and_remembers_what_was_tried(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, plan = ladder.climb()
    titles = [step.title for step in ladder.steps]
    assert titles[0] == "the widest ranges"
    assert ladder.steps[0].outcome.startswith("short: ")
    assert ladder.steps[-1].outcome == "reached"
    assert plan != Plan()
    assert all(path.is_file() for path in files)
    errors = [step.logit_error for step in ladder.steps if step.kept and step.logit_error is not None]
    assert all(after < before for before, after in pairwise(errors))
    assert len(errors) > 1
    first, last = ladder.steps[0], ladder.steps[-1]
    assert first.auroc_drop is not None and last.auroc_drop is not None
    assert last.auroc_drop <= 0.002 < first.auroc_drop

    monkeypatch.setattr(module, "make_apart", lambda request: pytest.fail("made anew"))
    again = Ladder(ladder.recipe, "test", ladder.workspace, ladder.sources, ladder.yardstick, time.monotonic() + 600)
    again.deadline = time.monotonic() - 1  # what is finished needs no time
    assert again.climb() == (files, plan)
    assert again.steps == ladder.steps


def test_a_plan_of_another_cpu_is_tried_first(ladder: Ladder) -> None:
    ladder.climb(Plan(bias_corrected=True))
    assert ladder.steps[0].title == "as the form before it"


def test_without_time_nothing_is_tried(ladder: Ladder) -> None:
    ladder.deadline = time.monotonic() - 1
    assert ladder.climb() == ((), Plan())
    assert not ladder.steps


def test_where_nothing_is_enough_the_nearest_is_given(ladder: Ladder) -> None:
    strict = Tolerance(0, 0, 0, 0, 0, 0, minimum=1000)
    ladder.yardstick = Yardstick(**{**vars(ladder.yardstick), "tolerance": strict})
    files, plan = ladder.climb()
    assert files
    assert not any(step.outcome == "reached" for step in ladder.steps)
    nearest = min(step.logit_error for step in ladder.steps if step.logit_error is not None)
    assert nearest == next(step.logit_error for step in reversed(ladder.steps) if step.kept)
    assert any("float" in step.title for step in ladder.steps)
    assert plan.float_layers
