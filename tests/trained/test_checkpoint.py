"""A checkpoint comes back as it was; everything else is refused in one line, and nothing in it is run."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import MARK, Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.inspection import describe
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec

SPEC = ModelSpec(
    "timm/test_resnet",
    Preprocessing((32, 32), channels=1, mean=(0.4,), std=(0.2,)),
    Decision("binary", ("NORMAL", "SICK"), "SICK"),
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        SPEC,
        build(SPEC).state_dict(),
        DataSource("/data/somewhere", patient_pattern=r"(p\d+)", seed=4),
        "0" * 64,
        {"val_auroc": 0.9},
        [{"epoch": 1, "loss": 0.5, "val_auroc": 0.9}],
        1,
    )


def _refused(path: Path, *fragments: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


def test_round_trip(tmp_path: Path, checkpoint: Checkpoint):
    save_checkpoint(tmp_path / "best.pth", checkpoint)
    loaded = load_checkpoint(tmp_path / "best.pth")
    for field in dataclasses.fields(Checkpoint):
        if field.name != "weights":
            assert getattr(loaded, field.name) == getattr(checkpoint, field.name), field.name
    network, images = rebuild(loaded), torch.randn(2, 1, 32, 32)
    assert not network.training
    original = build(SPEC)
    original.load_state_dict(checkpoint.weights)
    assert torch.equal(network(images), original.eval()(images))


def test_file_holds_plain_types_and_no_leftovers(tmp_path: Path, checkpoint: Checkpoint):
    save_checkpoint(tmp_path / "best.pth", checkpoint)
    save_checkpoint(tmp_path / "best.pth", dataclasses.replace(checkpoint, epoch=2))
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]
    assert torch.load(tmp_path / "best.pth", weights_only=True)["epoch"] == 2


def test_failed_write_leaves_the_old_file(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, dataclasses.replace(checkpoint, epoch=2))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.pth"]


def test_missing_empty_folder_text_and_truncated(tmp_path: Path, checkpoint: Checkpoint):
    _refused(tmp_path / "absent.pth", "cannot be opened", "check the path")
    _refused(tmp_path, "is a folder")
    (tmp_path / "empty.pth").touch()
    _refused(tmp_path / "empty.pth", "is empty")
    (tmp_path / "text.pth").write_text("hello\n")
    _refused(tmp_path / "text.pth", "is not a torch file")
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    _refused(tmp_path / "zip.pth", "damaged or cut off")
    save_checkpoint(tmp_path / "best.pth", checkpoint)
    data = (tmp_path / "best.pth").read_bytes()
    for length in (100, len(data) // 2, len(data) - 10):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        _refused(tmp_path / "cut.pth", "damaged or cut off", "copy it again")


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path, checkpoint: Checkpoint):
    save_checkpoint(tmp_path / "best.pth", checkpoint)
    data = bytearray((tmp_path / "best.pth").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = data.copy()
        for position in rng.integers(0, 3000, 8):
            damaged[position] ^= 0xFF
        (tmp_path / "cut.pth").write_bytes(damaged)
        try:
            rebuild(load_checkpoint(tmp_path / "cut.pth"))
        except CheckpointError as error:
            assert "\n" not in str(error)


class _Attack:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickle_is_never_run(tmp_path: Path, protocol: int):
    target = tmp_path / "executed"
    path = tmp_path / "attack.pth"
    path.write_bytes(pickle.dumps({"model": _Attack(target)}, protocol))
    _refused(path, "Python pickle of posix", "never opened: a pickle can run any code")
    assert describe(path)["libraries"] == ["posix"]
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_torch_file_is_never_run(tmp_path: Path, checkpoint: Checkpoint, zipped: bool):
    target = tmp_path / "executed"
    path = tmp_path / "attack.pth"
    payload = {MARK: 1, "weights": checkpoint.weights, "spec": _Attack(target)}
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    _refused(path, "holds pickled Python objects", "posix.system")
    assert describe(path)["kind"] == "Python pickle"
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_module_is_refused(tmp_path: Path, zipped: bool):
    path = tmp_path / "whole.pth"
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path, _use_new_zipfile_serialization=zipped)
    _refused(path, "torch.nn.modules.container.Sequential", "torch.save(model.state_dict(), PATH)")


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"state_dict": weights, "epoch": 3}])
def test_other_tools_checkpoints_are_named(tmp_path: Path, checkpoint: Checkpoint, wrap: Callable[..., Any]):
    path = tmp_path / "theirs.pth"
    weights = OrderedDict((f"module.{name}", tensor) for name, tensor in checkpoint.weights.items())
    torch.save(wrap(weights), path)
    _refused(path, f"holds {len(weights)} tensors but no ModelSpec", "medcompress train")
    facts = describe(path)
    assert facts["tensors"] == len(weights) and facts["prefix"] == "module."
    torch.save({"note": "no tensors"}, path)
    _refused(path, "without weights")


def test_newer_format_and_damaged_description(tmp_path: Path, checkpoint: Checkpoint):
    path = tmp_path / "best.pth"
    save_checkpoint(path, dataclasses.replace(checkpoint, format=99))
    _refused(path, "format 99", "update medcompress")
    save_checkpoint(path, checkpoint)
    payload = torch.load(path, weights_only=True)
    payload["spec"]["preprocessing"]["std"] = [0.0]
    torch.save(payload, path)
    _refused(path, "description is damaged", "std")
    del payload["spec"]
    torch.save(payload, path)
    _refused(path, "description is damaged", "spec")
    save_checkpoint(path, checkpoint)
    payload = torch.load(path, weights_only=True)
    payload["weights"] = {"a": 1}
    torch.save(payload, path)
    _refused(path, "holds no weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, checkpoint: Checkpoint, value: float):
    name = next(iter(checkpoint.weights))
    weights = {key: tensor.clone() for key, tensor in checkpoint.weights.items()}
    weights[name].view(-1)[0] = value
    save_checkpoint(tmp_path / "best.pth", dataclasses.replace(checkpoint, weights=weights))
    _refused(tmp_path / "best.pth", name, "diverged")


def test_weights_that_do_not_fit_the_spec_are_named(checkpoint: Checkpoint):
    weights = dict(checkpoint.weights)
    name = "fc.weight" if "fc.weight" in weights else list(weights)[-1]
    for changed, message in (
        ({key: value for key, value in weights.items() if key != name}, f"lacks {name}"),
        (weights | {"extra.weight": torch.zeros(1)}, "has too much extra.weight"),
        (weights | {name: torch.zeros(7, 7)}, f"has in another shape {name}"),
    ):
        with pytest.raises(CheckpointError, match=message):
            rebuild(dataclasses.replace(checkpoint, weights=changed))


def test_unknown_architecture_is_a_checkpoint_error(checkpoint: Checkpoint):
    spec = ModelSpec("timm/no_such_network", SPEC.preprocessing, SPEC.decision)
    with pytest.raises(CheckpointError, match="cannot be rebuilt here"):
        rebuild(dataclasses.replace(checkpoint, spec=spec))


def test_describe_ours(tmp_path: Path, checkpoint: Checkpoint):
    save_checkpoint(tmp_path / "best.pth", checkpoint)
    facts = describe(tmp_path / "best.pth")
    assert facts["kind"] == "medcompress checkpoint"
    assert facts["architecture"] == "timm/test_resnet" and facts["classes"] == ["NORMAL", "SICK"]
    assert facts["parameters"] == sum(parameter.numel() for parameter in build(SPEC).parameters())
    assert facts["data"]["folder"] == "/data/somewhere"


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("cifar_resnet20.th", "holds 97 tensors"),
        ("mobilenet_v3_small_features.pt", "holds 240 tensors"),
        ("pneumonia_cnn224.pth", "holds 65 tensors"),
        ("pneumoniamnist_cnn.pth", "holds 8 tensors"),
        ("squeezenet1_1_features.pt", "tensors but no ModelSpec"),
        ("not_torch_joblib.pkl", "Python pickle of sklearn, joblib, numpy"),
    ],
)
def test_strangers_checkpoints(shared_data: Path, name: str, fragment: str):
    path = shared_data / "checkpoints" / name
    _refused(path, fragment)
    assert fragment in describe(path)["reason"]
