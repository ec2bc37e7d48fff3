"""The same options give the same weights, also after an interruption; every failure leaves whole files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from medcompress.benchmarks.statistics.metrics import scores, truth
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError, DataError, InputError, MachineError
from medcompress.trained.checkpoint import load_checkpoint, rebuild
from medcompress.trained.data.datasets import Batch, ImageDataset
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.learning import callbacks, runs, training
from medcompress.trained.learning.classifier import Classifier
from medcompress.trained.learning.training import TrainOptions, resume, train
from medcompress.trained.networks.prediction import predict

WriteImages = Callable[..., Path]


def _options(data: Path, **changes: object) -> TrainOptions:
    options = TrainOptions(DataSource(str(data)), "test_resnet", size=32, epochs=3, batch_size=8, learning_rate=3e-3)
    return msgspec.structs.replace(options, **changes)


def _equal(first: Path, second: Path) -> bool:
    a, b = load_checkpoint(first), load_checkpoint(second)
    same = a.weights.keys() == b.weights.keys() and a.history == b.history and a.metrics == b.metrics
    return same and all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Send this process Ctrl-C in the given batch of the given epoch, once."""

    def arrange(epoch: int, batch: int) -> None:
        step = Classifier.training_step
        pending = [True]

        def stopped(self: Classifier, images: Batch, index: int) -> torch.Tensor:
            if pending and self.current_epoch == epoch and index == batch:
                pending.clear()
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, images, index)

        monkeypatch.setattr(Classifier, "training_step", stopped)

    return arrange


def test_training_writes_a_checkpoint_that_rebuilds(tmp_path: Path, tiny_data: Path, capfd: pytest.CaptureFixture[str]):
    best = train(_options(tiny_data), tmp_path / "run")
    assert best == tmp_path / "run" / "best.pth"
    begun = {"best.pth", "last.pth", "options.json", "split.csv", "warnings.json"}
    report = {"metrics.json", "summary.md", "predictions.csv"}
    plots = {"curves.png", "confusion.png", "roc.png", "pr.png", "reliability.png"}
    assert _files(tmp_path / "run") == begun | report | plots
    checkpoint = load_checkpoint(best)
    spec = checkpoint.spec
    assert spec.architecture == "timm/test_resnet" and spec.decision == Decision("binary", ("NORMAL", "SICK"), "SICK")
    assert spec.preprocessing.colour == "grey" and spec.preprocessing.shape == (3, 32, 32)
    assert 0.35 < spec.preprocessing.mean[0] < 0.5
    assert [row["epoch"] for row in checkpoint.history] == [1, 2, 3]
    expected = {"val_auroc", "val_loss", "test_auroc", "test_sensitivity", "test_specificity", "test_accuracy"}
    assert set(checkpoint.metrics) == expected
    # The split is found again from what the checkpoint says, and its figures with it.
    split = split_of(checkpoint.data, spec.decision.classes)
    assert split.fingerprint == checkpoint.split
    dataset = ImageDataset(split.test, spec.preprocessing)
    target = truth(dataset.targets.numpy(), spec.decision)
    again = scores(spec.decision, target, predict(rebuild(checkpoint), dataset))
    assert again.figures() == {name: checkpoint.metrics[f"test_{name}"] for name in again.figures()}
    assert (tmp_path / "run" / "warnings.json").read_text().strip() == "[]"
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 3/3" in err and "best so far" in err
    assert not any(noise in err for noise in ("GPU available", "Warning", "warn(", "litlogger", "Tip"))
    assert not (tmp_path / "lightning_logs").exists() and not Path("lightning_logs").exists()


def test_same_options_give_the_same_weights(tmp_path: Path, tiny_data: Path):
    torch.manual_seed(11)
    first = train(_options(tiny_data), tmp_path / "a")
    torch.manual_seed(22)
    second = train(_options(tiny_data), tmp_path / "b")
    other = train(_options(tiny_data, seed=1), tmp_path / "c")
    assert _equal(first, second)
    assert not _equal(first, other)


@pytest.mark.parametrize(("epoch", "batch"), [(1, 0), (2, 3)])
def test_resumed_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, tiny_data: Path, interrupt: Callable[[int, int], None], epoch: int, batch: int
):
    whole = train(_options(tiny_data), tmp_path / "whole")
    interrupt(epoch, batch)
    out = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=f"stopped after epoch {epoch}.*--resume"):
        train(_options(tiny_data), out)
    assert signal.getsignal(signal.SIGINT) is handler
    assert _files(out) == {"best.pth", "last.pth", "options.json", "split.csv", "warnings.json", "resume.ckpt"}
    for name in ("best.pth", "last.pth"):
        rebuild(load_checkpoint(out / name))
    best = resume(out)
    assert _equal(whole, best)
    assert _equal(whole.with_name("last.pth"), out / "last.pth")
    with pytest.raises(InputError, match="its training is finished"):
        resume(out)


def test_interrupt_in_the_first_epoch_keeps_nothing(
    tmp_path: Path, tiny_data: Path, interrupt: Callable[[int, int], None]
):
    interrupt(0, 1)
    with pytest.raises(KeyboardInterrupt, match="nothing was kept"):
        train(_options(tiny_data), tmp_path / "run")
    with pytest.raises(InputError, match="no finished epoch"):
        resume(tmp_path / "run")
    # Nothing is there that a new start would destroy.
    train(_options(tiny_data, epochs=1), tmp_path / "run")


def test_resume_finds_moved_data_and_refuses_changed_data(
    tmp_path: Path, tiny_data: Path, interrupt: Callable[[int, int], None]
):
    interrupt(1, 0)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(_options(tiny_data), out)
    moved = tmp_path / "moved"
    shutil.move(tiny_data, moved)
    with pytest.raises(DataError, match="no such folder"):
        resume(out)
    removed = next((moved / "SICK").iterdir())
    kept = removed.read_bytes()
    removed.unlink()
    with pytest.raises(DataError, match=rf"not those this training began with \(1 missing, first SICK/{removed.name}"):
        resume(out, moved)
    removed.write_bytes(kept + b"x")
    with pytest.raises(DataError, match="some files have another size"):
        resume(out, moved)
    removed.write_bytes(kept)
    assert load_checkpoint(resume(out, moved)).data.folder == str(moved)


def test_diverged_training_keeps_the_last_good_epoch(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    loss = Classifier._loss

    def diverging(self: Classifier, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return loss(self, outputs, labels) * (float("nan") if self.training and self.current_epoch == 1 else 1)

    monkeypatch.setattr(Classifier, "_loss", diverging)
    with pytest.raises(InputError, match=r"diverged in epoch 2 .*; the last good epoch is kept, --weights .*last\.pth"):
        train(_options(tiny_data), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pth").epoch == 1


def test_training_stops_early(tmp_path: Path, tiny_data: Path):
    best = train(_options(tiny_data, epochs=40, patience=1), tmp_path / "run")
    assert 2 <= len(load_checkpoint(best).history) < 40
    assert not (tmp_path / "run" / "resume.ckpt").exists()


def test_a_training_that_had_stopped_early_does_not_go_on(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
):
    options = _options(tiny_data, epochs=9, patience=1)
    whole = train(options, tmp_path / "whole")
    judge, out = training._judge, tmp_path / "run"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_judge", stopped)
    with pytest.raises(KeyboardInterrupt, match="go on with: medcompress train --resume"):
        train(options, out)
    monkeypatch.setattr(training, "_judge", judge)
    assert _equal(whole, resume(out))


def test_folder_with_a_training_is_not_overwritten(tmp_path: Path, tiny_data: Path):
    best = train(_options(tiny_data, epochs=1), tmp_path / "run")
    before = best.read_bytes()
    with pytest.raises(InputError, match="holds a training already"):
        train(_options(tiny_data), tmp_path / "run")
    assert best.read_bytes() == before


def test_output_that_cannot_be_written_is_found_before_training(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("trained"))
    with pytest.raises(MachineError, match="cannot be written"):
        train(_options(tiny_data), tmp_path / "file" / "run")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(MachineError, match="0 MiB free"):
        train(_options(tiny_data), tmp_path / "run")


def test_disk_full_in_training_is_one_line(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    save, calls = callbacks.save_checkpoint, []

    def full(path: Path, checkpoint: object) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        save(path, checkpoint)  # type: ignore[arg-type]

    monkeypatch.setattr(callbacks, "save_checkpoint", full)
    with pytest.raises(MachineError, match=r"No space left on device.*already written there are whole"):
        train(_options(tiny_data), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "best.pth").epoch == 1


def test_more_classes_and_colour(tmp_path: Path, write_images: WriteImages):
    data = write_images(tmp_path / "d", {"a": 12, "b": 12, "c": 12}, colour=True)
    checkpoint = load_checkpoint(train(_options(data, epochs=2), tmp_path / "run"))
    assert checkpoint.spec.decision == Decision("multiclass", ("a", "b", "c"))
    assert checkpoint.spec.preprocessing.colour == "rgb"
    assert 0 <= checkpoint.metrics["test_auroc"] <= 1
    with pytest.raises(InputError, match="--positive goes with two classes"):
        train(_options(data, positive="a"), tmp_path / "run2")


def test_every_cache_trains_to_the_same_weights(tmp_path: Path, tiny_data: Path):
    kept = train(_options(tiny_data, epochs=1), tmp_path / "memory")
    for cache in ("disk", "none"):
        assert _equal(kept, train(_options(tiny_data, epochs=1, cache=cache), tmp_path / cache))
    assert _files(tmp_path / "disk") == _files(tmp_path / "memory")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"size": 9999}, "size 9999"), ({"learning_rate": 0.0}, "learning rate"), ({"epochs": 0}, "epochs is at least 1")],
)
def test_options_out_of_range(changes: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        TrainOptions(DataSource("d"), **changes)  # type: ignore[arg-type]


def test_split_keeps_given_order_of_classes(tiny_data: Path):
    assert split_of(DataSource(str(tiny_data)), ("SICK", "NORMAL")).train[0].path.parent.name == "SICK"


@pytest.mark.parametrize("content", [b"", b"junk\n", b"\x80\x04.", b"PK\x03\x04"])
def test_a_damaged_resume_file_is_told(tmp_path: Path, tiny_data: Path, content: bytes):
    train(_options(tiny_data, epochs=1), tmp_path / "run")
    (tmp_path / "run" / "resume.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"resume\.ckpt: is damaged"):
        resume(tmp_path / "run")
