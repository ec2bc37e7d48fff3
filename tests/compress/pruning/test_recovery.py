"""A student learns a dense network's answers back; stopped, cut off or diverged, it ends as it should."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from medcompress.compress.pruning import recovery
from medcompress.compress.pruning.recovery import recover
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import InputError, MachineError, MedcompressError
from medcompress.runtime.hardware import Cpu
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from medcompress.trained.data.datasets import Batch, ImageDataset
from medcompress.trained.data.splits import DataSource, Split, split_of
from medcompress.trained.learning import callbacks
from medcompress.trained.learning.classifier import Classifier
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.prediction import predict
from medcompress.trained.spec import ModelSpec

EPOCHS, BATCH = 3, 8


@pytest.fixture(scope="module")
def split(phantoms: Path) -> Split:
    return split_of(DataSource(str(phantoms)))


@pytest.fixture(scope="module")
def teacher(split: Split) -> Checkpoint:
    """Random weights, and answers that differ from image to image."""
    classes = split.classes
    spec = ModelSpec("medcompress/small_cnn", Preprocessing((32, 32)), Decision("binary", classes, classes[1]))
    torch.manual_seed(0)
    network = build(spec)
    for _ in range(20):
        network(torch.randn(16, 3, 32, 32))
    with torch.no_grad():
        network.head.weight *= 5  # type: ignore[operator,union-attr]
    return Checkpoint(spec, network.state_dict(), DataSource(str(split.folder)), split.fingerprint)


@pytest.fixture(scope="module")
def student(teacher: Checkpoint) -> Checkpoint:
    """The teacher with every weight a third noise, as pruning might leave it."""
    torch.manual_seed(1)
    weights = {
        name: each + 0.3 * each.std() * torch.randn_like(each) if each.ndim > 1 else each
        for name, each in teacher.weights.items()
    }
    return dataclasses.replace(teacher, weights=weights)


def run(student: Checkpoint, teacher: Checkpoint, split: Split, folder: Path, **changes: Any) -> Checkpoint:
    return recover(student, teacher, split, folder, **{"epochs": EPOCHS, "batch_size": BATCH, "threads": 1} | changes)


def same(first: Checkpoint, second: Checkpoint) -> bool:
    equal = all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    return equal and (first.history, first.metrics, first.epoch) == (second.history, second.metrics, second.epoch)


def steps(monkeypatch: pytest.MonkeyPatch, change: Any) -> list[tuple[int, float]]:
    """Epoch and learning rate of every training step; ``change(count, loss)`` gives the loss."""
    seen: list[tuple[int, float]] = []
    step = Classifier.training_step

    def changed(self: Classifier, batch: Batch, index: int) -> torch.Tensor:
        seen.append((self.current_epoch, self.options.learning_rate))
        return step(self, batch, index) * change(len(seen))

    monkeypatch.setattr(Classifier, "training_step", changed)
    return seen


def interrupt(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def change(count: int) -> float:
        if count == number:
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    steps(monkeypatch, change)


def diverge(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> list[float]:
    """NaN in these steps, or in all; the rates each beginning was given."""
    rates: list[float] = []
    loss, count = Classifier._loss, [0]

    def broken(self: Classifier, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        if not rates or rates[-1] != self.options.learning_rate:
            rates.append(self.options.learning_rate)
        return loss(self, outputs, targets) * (float("nan") if not numbers or count[0] in numbers else 1)

    monkeypatch.setattr(Classifier, "_loss", broken)
    return rates


def test_the_answers_come_nearer_to_the_teachers(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In fp32, whose figures can be held against another run of the network to the last digits.
    monkeypatch.setattr(recovery, "this_cpu", lambda: Cpu("an older CPU", "x86_64", ("avx2",), 1))
    folder = tmp_path / "a" / "recovery"
    state = torch.random.get_rng_state()
    found = run(student, teacher, split, folder, epochs=12)
    assert torch.equal(torch.random.get_rng_state(), state)
    before, *epochs = found.history
    assert before["epoch"] == 0 and [row["epoch"] for row in epochs] == [*range(1, 13)]
    assert set(found.metrics) == {"val_auroc", "val_loss", "val_distance"}
    assert found.metrics["val_distance"] < 0.7 * before["val_distance"]
    assert found.epoch == min(epochs, key=lambda row: row["val_distance"])["epoch"]
    assert (found.spec, found.data, found.split) == (student.spec, student.data, student.split)
    val = ImageDataset(split.val, student.spec.preprocessing)
    answers = [student.spec.decision.probabilities(predict(rebuild(each), val)) for each in (found, teacher)]
    assert abs(answers[0] - answers[1]).mean() == pytest.approx(found.metrics["val_distance"], abs=1e-6)
    assert {path.name for path in folder.iterdir()} == {"best.pth", "last.pth", "recovery.json"}
    assert same(found, load_checkpoint(folder / "best.pth"))


def test_the_test_images_are_never_touched(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path
) -> None:
    none = tuple(msgspec.structs.replace(sample, path=tmp_path / "none.png") for sample in split.test)
    found = run(student, teacher, dataclasses.replace(split, test=none), tmp_path / "a", epochs=1)
    assert same(found, run(student, teacher, dataclasses.replace(split, test=()), tmp_path / "b", epochs=1))


def test_rendered_images_may_be_given(student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path) -> None:
    parts = ("train", "val")
    datasets = {part: ImageDataset(split.parts[part], student.spec.preprocessing) for part in parts}
    gone = dataclasses.replace(split, train=(), val=(), test=())
    found = run(student, teacher, gone, tmp_path / "a", epochs=1, datasets=datasets)
    assert same(found, run(student, teacher, split, tmp_path / "b", epochs=1))


def test_without_epochs_only_statistics_are_taken_anew(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = run(student, teacher, split, tmp_path / "a", epochs=0)
    changed = {name for name in found.weights if not torch.equal(found.weights[name], student.weights[name])}
    statistics = {name for name in found.weights if "running" in name or "num_batches" in name}
    assert changed == statistics
    assert found.epoch == 0 and len(found.history) == 1 and "val_distance" in found.metrics
    layers = sum(isinstance(each, nn.BatchNorm2d) for each in rebuild(student).modules())
    assert f"statistics of {layers} normalizations taken anew" in capfd.readouterr().err
    late = run(student, teacher, split, tmp_path / "b", deadline=time.monotonic() - 1)
    assert same(found, late)
    again = run(found, teacher, split, tmp_path / "c", epochs=0)
    assert all(torch.equal(again.weights[name], found.weights[name]) for name in found.weights), "recovered before"


def test_an_epoch_that_is_no_nearer_is_not_kept(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path
) -> None:
    found = run(student, teacher, split, tmp_path, learning_rate=2.0)
    assert found.epoch == 0 and len(found.history) == EPOCHS + 1
    assert found.metrics["val_distance"] == found.history[0]["val_distance"]
    assert torch.equal(found.weights["head.weight"], student.weights["head.weight"])


def test_stopped_it_goes_on_and_ends_as_one_that_was_not(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(student, teacher, split, tmp_path / "whole")
    batches = len(split.train) // BATCH
    for number in (1, 2 * batches):
        folder = tmp_path / f"stopped-{number}"
        with monkeypatch.context() as patched:
            interrupt(patched, number)
            with pytest.raises(KeyboardInterrupt):
                run(student, teacher, split, folder)
        assert (folder / "resume.ckpt").exists() == (number > batches)
        with monkeypatch.context() as patched:
            seen = steps(patched, lambda count: 1.0)
            assert same(run(student, teacher, split, folder), whole)
        assert seen[0][0] == (number > batches)  # the finished epoch is not learned again


def test_finished_it_is_read(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(student, teacher, split, tmp_path)
    monkeypatch.setattr(recovery, "rebuild", lambda _: pytest.fail("begun again"))
    assert same(run(student, teacher, split, tmp_path), found)


def test_the_time_that_is_over_ends_what_was_stopped(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt(patched, len(split.train) // BATCH + 2)
        with pytest.raises(KeyboardInterrupt):
            run(student, teacher, split, tmp_path)
    found = run(student, teacher, split, tmp_path, deadline=time.monotonic())
    assert [row["epoch"] for row in found.history] == [0, 1]
    assert found.metrics["val_distance"] == min(row["val_distance"] for row in found.history)


def test_time_ends_it(student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path) -> None:
    for seconds in (2, 20, 200):  # Where other work slows this, the first may pass before it learns at all.
        deadline = time.monotonic() + seconds
        found = run(student, teacher, split, tmp_path / str(seconds), epochs=100_000, deadline=deadline)
        if len(found.history) > 1:
            break
    assert 1 < len(found.history) < 100_000


def test_values_that_are_no_numbers_begin_it_again_more_slowly(
    student: Checkpoint,
    teacher: Checkpoint,
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    batches = len(split.train) // BATCH
    with monkeypatch.context() as patched:
        rates = diverge(patched, batches + 1)
        found = run(student, teacher, split, tmp_path / "a")
    assert rates == pytest.approx([1e-3, 1e-3 / 3])
    assert [row["epoch"] for row in found.history] == [0, 1, 2, 3]
    assert same(found, run(student, teacher, split, tmp_path / "b", learning_rate=1e-3 / 3))
    told = capfd.readouterr().err
    assert "diverged in epoch 2 (batch 1: NaN or infinite values) at a learning rate of 0.001; begun again" in told


def test_values_that_never_are_numbers_are_refused(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = diverge(monkeypatch)
    with pytest.raises(MedcompressError, match=r"diverged .* at a learning rate of 0\.00011.*prune less") as caught:
        run(student, teacher, split, tmp_path)
    assert "\n" not in str(caught.value) and "--lr" not in str(caught.value)
    assert rates == pytest.approx([1e-3, 1e-3 / 3, 1e-3 / 9])
    with pytest.raises(MedcompressError, match="diverged"):  # and at once when called again
        run(student, teacher, split, tmp_path)
    assert len(rates) == 3


def test_a_network_that_answers_no_numbers_is_refused_before_training(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path
) -> None:
    weights = student.weights | {"head.weight": student.weights["head.weight"].sign() * 3e38}
    with pytest.raises(MedcompressError, match="before any training"):
        run(dataclasses.replace(student, weights=weights), teacher, split, tmp_path)


def test_a_folder_of_others_is_refused(student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path) -> None:
    run(student, teacher, split, tmp_path / "a", epochs=0)
    for pair, changes in (((student, teacher), {"epochs": 1}), ((teacher, teacher), {"epochs": 0})):
        with pytest.raises(InputError, match="holds the recovery of another network, or with other options"):
            run(*pair, split, tmp_path / "a", **changes)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "best.pth").write_bytes(b"precious")
    with pytest.raises(InputError, match="holds a training"):
        run(student, teacher, split, tmp_path / "b")
    assert (tmp_path / "b" / "best.pth").read_bytes() == b"precious"


def test_a_teacher_of_another_question_is_refused(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path
) -> None:
    other = msgspec.structs.replace(teacher.spec, decision=Decision("multilabel", split.classes))
    with pytest.raises(InputError, match="the teacher: cannot teach this network, its kind of answer is multilabel"):
        run(student, dataclasses.replace(teacher, spec=other), split, tmp_path)


def test_a_full_disk_is_told_and_what_is_kept_is_whole(
    student: Checkpoint, teacher: Checkpoint, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(student, teacher, split, tmp_path / "whole")
    save, calls = callbacks.save_checkpoint, []

    def full(path: Path, checkpoint: Checkpoint) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        save(path, checkpoint)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "save_checkpoint", full)
        with pytest.raises(MachineError, match="No space left on device"):
            run(student, teacher, split, tmp_path / "full")
    assert same(run(student, teacher, split, tmp_path / "full"), whole)
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        run(student, teacher, split, tmp_path / "file" / "r")
