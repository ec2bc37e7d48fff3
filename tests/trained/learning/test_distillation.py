"""What a teacher's outputs are worth in the loss, and a training that learns them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from medcompress.runtime.decision import Decision, Kind
from medcompress.runtime.errors import InputError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.datasets import Batch, ImageDataset, normalization_table, normalize
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.learning.callbacks import Keeper
from medcompress.trained.learning.classifier import Classifier
from medcompress.trained.learning.distillation import TEMPERATURE, Teacher, distance, distillation, teacher_of
from medcompress.trained.learning.fitting import fit
from medcompress.trained.learning.options import TrainOptions
from medcompress.trained.learning.training import resume, train
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec

KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel")
GREY = Preprocessing((32, 32), mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.1))
SICK = Decision("binary", ("NORMAL", "SICK"), "SICK")


def checkpoint_of(data: Path | str = "d", preprocessing: Preprocessing = GREY, decision: Decision = SICK) -> Checkpoint:
    """A network with random weights, and answers that differ from image to image."""
    spec = ModelSpec("medcompress/small_cnn", preprocessing, decision)
    torch.manual_seed(0)
    network = build(spec)
    for _ in range(20):
        network(torch.randn(16, *preprocessing.shape))
    with torch.no_grad():
        network.head.weight *= 5  # type: ignore[operator,union-attr]
    return Checkpoint(spec, network.state_dict(), DataSource(str(data)), "")


def options(data: Path, **changes: object) -> TrainOptions:
    usual = TrainOptions(DataSource(str(data)), "small_cnn", size=32, epochs=3, batch_size=8, learning_rate=3e-3)
    return msgspec.structs.replace(usual, **changes)


@pytest.fixture
def teacher(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pth"
    save_checkpoint(path, checkpoint_of(tiny_data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_divergence_of_the_softened_answers(kind: Kind) -> None:
    torch.manual_seed(0)
    columns = 2 if kind == "binary" else 5
    outputs, expected = torch.randn(6, columns, dtype=torch.float64) * 4, torch.randn(6, columns, dtype=torch.float64)
    p, q = expected / TEMPERATURE, outputs / TEMPERATURE
    if kind == "multilabel":
        p, q = p.sigmoid(), q.sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        wanted = each.mean()
    else:
        p, q = p.softmax(dim=1), q.softmax(dim=1)
        wanted = (p * (p / q).log()).sum(dim=1).mean()
    found = distillation(outputs, expected, kind)
    assert found.item() == pytest.approx(TEMPERATURE**2 * wanted.item())
    assert distillation(expected, expected, kind).item() == pytest.approx(0, abs=1e-9)


def test_the_distance_is_that_of_the_probabilities() -> None:
    certain = np.array([[9e3, -9e3], [-9e3, 9e3]])
    assert distance(certain, np.zeros((2, 2)), SICK) == pytest.approx(0.5)
    assert distance(certain, certain, SICK) == 0
    findings = Decision("multilabel", ("a", "b"))
    assert distance(np.zeros((2, 2)), np.array([[9e3, 0], [0, 0]]), findings) == pytest.approx(0.125)


def test_a_teacher_sees_images_its_own_way(tiny_data: Path) -> None:
    made = checkpoint_of(tiny_data)
    other = msgspec.structs.replace(GREY, mean=(0.5,) * 3, std=(0.25,) * 3)
    found = teacher_of(made, msgspec.structs.replace(made.spec, preprocessing=other), "t")
    pixels, _ = ImageDataset(split_of(made.data).val, GREY)[[0, 1, 2]]
    with torch.no_grad():
        expected = rebuild(made)(normalize(pixels, normalization_table(GREY)))
    assert torch.allclose(found.of_rendered(pixels), expected, atol=1e-4)
    assert torch.allclose(found.of_augmented(pixels[:, None] / 255), expected, atol=1e-3)
    assert not found.of_rendered(pixels).requires_grad


def test_a_teacher_of_other_answers_or_images_is_refused() -> None:
    made = checkpoint_of()
    decisions = {
        "classes is NORMAL, SICK": Decision("binary", ("SICK", "NORMAL"), "SICK"),
        "kind of answer is binary": Decision("multilabel", ("NORMAL", "SICK")),
    }
    preprocessings = {
        "input size is 32 x 32 and the network's 48 x 48": Preprocessing((48, 48)),
        "colour is grey": Preprocessing((32, 32), "rgb"),
        "fit is stretch": Preprocessing((32, 32), fit="pad"),
    }
    specs = {words: msgspec.structs.replace(made.spec, decision=each) for words, each in decisions.items()}
    specs |= {words: msgspec.structs.replace(made.spec, preprocessing=each) for words, each in preprocessings.items()}
    for words, spec in specs.items():
        with pytest.raises(InputError, match=f"t.pth: .*{words}") as caught:
            teacher_of(made, spec, "t.pth")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_epoch_nearest_to_the_teacher_is_kept(
    tiny_data: Path, teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], precision: str
) -> None:
    asked = options(tiny_data, teacher=str(teacher), precision=precision, epochs=8)
    best = load_checkpoint(train(asked, tmp_path / "run"))
    nearest = min(best.history, key=lambda row: row["val_distance"])
    assert nearest["epoch"] == best.epoch and nearest["val_distance"] == best.metrics["val_distance"]
    assert nearest["val_distance"] < 0.7 * max(row["val_distance"] for row in best.history)
    assert "test_auroc" in best.metrics
    assert f"distance from the teacher {nearest['val_distance']:.4f}" in capfd.readouterr().err


def test_with_all_of_the_loss_the_teachers_labels_are_not_learned(
    tiny_data: Path, teacher: Path, tmp_path: Path
) -> None:
    made, split = load_checkpoint(teacher), split_of(DataSource(str(tiny_data)))
    found = []
    for name in ("right", "wrong"):
        datasets = {part: ImageDataset(split.parts[part], GREY) for part in ("train", "val")}
        if name == "wrong":
            datasets["train"].targets = datasets["train"].targets.flip(1)
        torch.manual_seed(1)
        network = build(made.spec)
        asked = options(tiny_data, teacher=str(teacher), teacher_share=1.0, epochs=1, flips="none")
        (tmp_path / name).mkdir()
        fit(network, datasets, made.spec, asked, Keeper(tmp_path / name, made), (), False, Teacher(made))
        found.append(network.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_a_resumed_training_finds_its_teacher_and_keeps_none_of_it(
    tiny_data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(tiny_data, teacher=str(teacher))
    whole = load_checkpoint(train(asked, tmp_path / "whole"))
    out = tmp_path / "run"
    _interrupt(monkeypatch, epoch=1)
    with pytest.raises(KeyboardInterrupt):
        train(asked, out)
    kept = torch.load(out / "resume.ckpt", weights_only=True)
    assert kept["state_dict"].keys() == {f"network.{name}" for name in whole.weights}
    size, weights = (out / "resume.ckpt").stat().st_size, sum(each.nbytes for each in whole.weights.values())
    assert size < 3 * weights + 200_000  # and two moments

    taught = load_checkpoint(teacher)
    changed = {name: tensor + 1 if name == "head.bias" else tensor for name, tensor in taught.weights.items()}
    save_checkpoint(teacher, Checkpoint(taught.spec, changed, taught.data, taught.split))
    with pytest.raises(InputError, match="the teacher is not the one this training began with") as caught:
        resume(out)
    assert "\n" not in str(caught.value)
    teacher.unlink()
    with pytest.raises(InputError, match="cannot be opened"):
        resume(out)
    save_checkpoint(teacher, taught)
    again = load_checkpoint(resume(out))
    assert again.history == whole.history
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_training_without_a_teacher_does_not_go_on_with_one(
    tiny_data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch, epoch=1)
    with pytest.raises(KeyboardInterrupt):
        train(options(tiny_data), tmp_path / "run")
    with pytest.raises(InputError, match=r"teacher .* this run was begun with none"):
        resume(tmp_path / "run", asked={"teacher": str(teacher)})
    assert all("val_distance" not in row for row in load_checkpoint(resume(tmp_path / "run")).history)


def test_a_share_has_a_teacher_and_a_range(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        TrainOptions(DataSource("d"), teacher="t", teacher_share=1.1)
    with pytest.raises(InputError, match="goes with a teacher"):
        train(options(tiny_data, teacher_share=0.5), tmp_path / "run")


def _interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Ctrl-C in the second batch of an epoch, once."""
    step: Callable[..., torch.Tensor] = Classifier.training_step
    pending = [True]

    def stopped(self: Classifier, batch: Batch, index: int) -> torch.Tensor:
        if pending and self.current_epoch == epoch and index == 1:
            pending.clear()
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", stopped)
