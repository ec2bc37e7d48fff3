"""A pruned checkpoint trains again: as small as it was, and it goes on where it was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from medcompress.compress.pruning.counting import count_macs, count_parameters
from medcompress.compress.pruning.prune import prune
from medcompress.runtime.errors import CheckpointError
from medcompress.trained.checkpoint import load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.datasets import Batch
from medcompress.trained.data.splits import DataSource
from medcompress.trained.learning.classifier import Classifier
from medcompress.trained.learning.training import TrainOptions, resume, train

WriteImages = Callable[..., Path]


def _options(data: Path, pruned: Path, **changes: object) -> TrainOptions:
    options = TrainOptions(
        DataSource(str(data)), weights=str(pruned), epochs=2, batch_size=8, learning_rate=3e-3, augmentation="none"
    )
    return msgspec.structs.replace(options, **changes)


@pytest.fixture
def pruned(tmp_path: Path, tiny_data: Path) -> Path:
    options = TrainOptions(DataSource(str(tiny_data)), "test_resnet", size=32, epochs=1, batch_size=8)
    dense = load_checkpoint(train(options, tmp_path / "dense"))
    shape = dense.spec.preprocessing.shape
    wanted = 0.5 * count_macs(rebuild(dense), shape)
    found = prune(dense, wanted, lambda network: count_macs(network, shape), asked="macs 0.5")
    save_checkpoint(tmp_path / "pruned.pth", found)
    return tmp_path / "pruned.pth"


def test_it_trains_as_small_as_it_is_without_its_architecture_being_told(tmp_path: Path, tiny_data: Path, pruned: Path):
    start = load_checkpoint(pruned)
    found = load_checkpoint(train(_options(tiny_data, pruned), tmp_path / "run"))
    assert found.spec.architecture == "timm/test_resnet"
    assert found.spec.pruning == start.spec.pruning and found.spec.preprocessing.size == (32, 32)
    assert count_parameters(rebuild(found)) == start.spec.pruning[0].parameters[1]
    assert any(not torch.equal(tensor, start.weights[name]) for name, tensor in found.weights.items())
    assert 0 <= found.metrics["test_auroc"] <= 1
    shown = load_checkpoint(train(_options(tiny_data, pruned, architecture="test_resnet"), tmp_path / "named"))
    assert all(torch.equal(tensor, found.weights[name]) for name, tensor in shown.weights.items())


def test_stopped_it_is_resumed(tmp_path: Path, tiny_data: Path, pruned: Path, monkeypatch: pytest.MonkeyPatch):
    whole = load_checkpoint(train(_options(tiny_data, pruned), tmp_path / "whole"))
    step, pending = Classifier.training_step, [True]

    def stopped(self: Classifier, images: Batch, index: int) -> torch.Tensor:
        if pending and self.current_epoch == 1 and index == 1:
            pending.clear()
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, images, index)

    monkeypatch.setattr(Classifier, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(_options(tiny_data, pruned), tmp_path / "run")
    pruned.unlink()  # what it began from is not asked for again
    found = load_checkpoint(resume(tmp_path / "run"))
    assert found.spec == whole.spec
    assert all(torch.equal(tensor, whole.weights[name]) for name, tensor in found.weights.items())


def test_another_architecture_head_or_classes_are_refused_before_anything_is_written(
    tmp_path: Path, tiny_data: Path, pruned: Path, write_images: WriteImages
):
    three = write_images(tmp_path / "three", {"A": 8, "B": 8, "C": 8})
    for options, message in (
        (_options(tiny_data, pruned, architecture="test_vit", size=32), "give --arch timm/test_resnet"),
        (_options(tiny_data, pruned, head="mlp"), "give --head linear"),
        (_options(three, pruned), "was pruned for 2 classes, and the data have 3"),
    ):
        with pytest.raises(CheckpointError, match=message):
            train(options, tmp_path / "run")
    assert not (tmp_path / "run").exists()
