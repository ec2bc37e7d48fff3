"""A training that its time ends: when it stops, how its rate falls, what it says, and that it can be resumed."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch

from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint
from medcompress.trained.data.datasets import Batch, ImageDataset
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.learning.callbacks import Keeper
from medcompress.trained.learning.classifier import Classifier
from medcompress.trained.learning.fitting import fit
from medcompress.trained.learning.options import TrainOptions
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec

SPEC = ModelSpec("medcompress/small_cnn", Preprocessing((32, 32)), Decision("binary", ("NORMAL", "SICK"), "SICK"))


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every step."""
    found: list[float] = []
    start = Classifier.on_train_batch_start

    def noted(self: Classifier, batch: Batch, batch_idx: int) -> None:
        start(self, batch, batch_idx)
        found.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(Classifier, "on_train_batch_start", noted)
    return found


def trained(data: Path, out: Path, seconds: float | None, epochs: int = 100_000, resume: bool = False) -> Keeper:
    source = DataSource(str(data))
    datasets = {part: ImageDataset(split_of(source).parts[part], SPEC.preprocessing) for part in ("train", "val")}
    out.mkdir(exist_ok=True)
    keeper = Keeper(out, Checkpoint(SPEC, {}, source, ""))
    options = TrainOptions(source, epochs=epochs, batch_size=8, learning_rate=1e-3, flips="none")
    torch.manual_seed(0)
    deadline = None if seconds is None else time.monotonic() + seconds
    fit(build(SPEC), datasets, SPEC, options, keeper, (), resume, deadline=deadline)
    return keeper


def test_time_ends_it_with_a_validation_and_a_low_rate(
    tiny_data: Path, tmp_path: Path, rates: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    keeper = trained(tiny_data, tmp_path / "run", seconds=2)
    assert time.monotonic() - begun < 60
    assert 1 <= keeper.epochs < 100_000
    assert load_checkpoint(tmp_path / "run" / "last.pth").history == keeper.history
    assert max(rates) > 0.5e-3 and rates[-1] < 0.3e-3
    assert " left" in capfd.readouterr().err.splitlines()[0]


def test_a_deadline_far_away_changes_nothing(tiny_data: Path, tmp_path: Path, rates: list[float]) -> None:
    without = trained(tiny_data, tmp_path / "a", None, epochs=2).history
    first, rates[:] = list(rates), []
    assert trained(tiny_data, tmp_path / "b", 1e6, epochs=2).history == without
    assert rates == pytest.approx(first, rel=1e-3)


def test_one_that_is_past_ends_it_after_a_step(tiny_data: Path, tmp_path: Path, rates: list[float]) -> None:
    assert trained(tiny_data, tmp_path / "run", seconds=-1).epochs == 1
    assert len(rates) == 1


def test_what_time_ended_can_be_gone_on_with(tiny_data: Path, tmp_path: Path, rates: list[float]) -> None:
    trained(tiny_data, tmp_path / "run", seconds=-1, epochs=3)
    keeper = trained(tiny_data, tmp_path / "run", None, epochs=3, resume=True)
    assert [row["epoch"] for row in keeper.history] == [1, 2, 3]
    assert all(math.isfinite(row["val_loss"]) for row in keeper.history)
