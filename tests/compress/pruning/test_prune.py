"""One round: the record rebuilds what was cut, in any process, and a pruned network is pruned again."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from medcompress.compress.pruning import prune as module
from medcompress.compress.pruning.counting import count_macs, count_parameters
from medcompress.compress.pruning.prune import prune
from medcompress.runtime.errors import InputError, MedcompressError
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.results.explanation import explain, target_layer
from medcompress.trained.spec import HeadKind

Made = Callable[..., Checkpoint]
ARCHITECTURES = [
    ("timm/test_resnet", 64, "linear"),
    ("timm/test_resnet", 64, "mlp-bn"),
    ("timm/test_vit", 160, "linear"),
    ("timm/test_efficientnet", 64, "mlp"),
    ("timm/test_convnext2", 64, "linear"),
    ("medcompress/small_cnn", 64, "linear"),
]


def cut(checkpoint: Checkpoint, share: float, **options: object) -> Checkpoint:
    shape = checkpoint.spec.preprocessing.shape
    dense = count_macs(rebuild(checkpoint), shape)

    def measure(network: torch.nn.Module) -> float:
        return count_macs(network, shape)

    return prune(checkpoint, share * dense, measure, asked=f"macs {share}", unit=dense, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def halved(made: Made) -> Callable[..., Checkpoint]:
    """A network of :data:`ARCHITECTURES` with half of its multiply-accumulates gone."""

    @cache
    def make(architecture: str, size: int, head: HeadKind = "linear") -> Checkpoint:
        return cut(made(architecture, size, head), 0.5)

    return make


@pytest.mark.parametrize(("architecture", "size", "head"), ARCHITECTURES)
def test_the_record_says_what_is_left_and_rebuilds_it(made: Made, architecture: str, size: int, head: HeadKind):
    checkpoint = dataclasses.replace(made(architecture, size, head), metrics={"val_auroc": 0.9}, epoch=3)
    dense, shape = rebuild(checkpoint), (3, size, size)
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    pruned = cut(checkpoint, 0.5)
    network = rebuild(pruned)
    (done,) = pruned.spec.pruning
    assert (done.asked, done.importance) == ("macs 0.5", "magnitude")
    assert done.macs == (count_macs(dense, shape), count_macs(network, shape))
    assert done.parameters == (count_parameters(dense), count_parameters(network))
    assert done.macs[1] <= 0.5 * done.macs[0]
    assert (pruned.metrics, pruned.history, pruned.epoch) == ({}, [], 0), "its figures are the dense network's no more"
    assert network(torch.zeros(2, *shape)).shape == (2, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.weights.items())
    assert checkpoint.spec.pruning == ()


def test_a_fresh_process_gives_the_same_bits(halved: Callable[..., Checkpoint], tmp_path: Path):
    for number, (architecture, size, head) in enumerate(ARCHITECTURES[1:4]):
        folder = tmp_path / str(number)
        folder.mkdir()
        pruned = halved(architecture, size, head)
        save_checkpoint(folder / "pruned.pth", pruned)
        images = torch.randn(2, 3, size, size)
        with torch.inference_mode():
            torch.save((images, rebuild(pruned)(images).clone()), folder / "expected.pt")
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from medcompress.trained.checkpoint import load_checkpoint, rebuild\n"
        "torch.set_num_threads(1)\n"
        "for folder in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    torch.load(folder / 'pruned.pth', weights_only=True)\n"
        "    images, expected = torch.load(folder / 'expected.pt', weights_only=True)\n"
        "    with torch.inference_mode(): found = rebuild(load_checkpoint(folder / 'pruned.pth'))(images)\n"
        "    assert torch.equal(found, expected), folder\n"
        "assert 'torch_pruning' not in sys.modules; print('same')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.stdout == "same\n", found.stderr


@pytest.mark.parametrize(("architecture", "size", "head"), [ARCHITECTURES[1], ARCHITECTURES[3]])
def test_a_pruned_network_is_pruned_again(made: Made, tmp_path: Path, architecture: str, size: int, head: HeadKind):
    once = cut(made(architecture, size, head), 0.7)
    save_checkpoint(tmp_path / "pruned.pth", once)
    twice = cut(load_checkpoint(tmp_path / "pruned.pth"), 0.7)
    first, second = twice.spec.pruning
    assert first == once.spec.pruning[0]
    assert second.macs[0] == first.macs[1] and second.parameters[0] == first.parameters[1]
    assert second.macs[1] <= 0.49 * first.macs[0]
    assert rebuild(twice)(torch.zeros(1, 3, size, size)).shape == (1, 3)


def test_a_network_that_looks_at_fewer_pixels_is_counted_as_it_runs(made: Made):
    checkpoint = made("timm/test_resnet")
    shrunk = dataclasses.replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, shrunk=(32, 32)))
    pruned = cut(shrunk, 0.5)
    (done,) = pruned.spec.pruning
    assert pruned.spec.shrunk == (32, 32)
    assert done.macs[0] < count_macs(rebuild(checkpoint), (3, 64, 64)) / 3.5


def test_layers_that_are_kept_are_not_in_the_record_with_fewer_outputs(made: Made):
    checkpoint = made("timm/test_resnet")
    pruned = cut(checkpoint, 0.6, keep=["layer?.0.conv1"])
    for name, sizes in pruned.spec.pruning[0].layers.items():
        if name.endswith("conv1"):
            assert "out_channels" not in sizes
    with pytest.raises(InputError, match="no layer is called nowhere"):
        cut(checkpoint, 0.5, keep=["nowhere"])


def test_a_target_too_small_is_told_as_it_was_asked(made: Made):
    with pytest.raises(InputError, match=r"^--macs 0\.001 cannot be reached: 0\.0\d+ is the least that can be left$"):
        cut(made("timm/test_resnet"), 0.001)


@pytest.mark.parametrize(("architecture", "size"), [("timm/test_resnet", 64), ("timm/test_vit", 160)])
def test_the_explanation_finds_the_same_layer(
    made: Made, halved: Callable[..., Checkpoint], architecture: str, size: int
):
    pytest.importorskip("pytorch_grad_cam")
    checkpoint, pruned = made(architecture, size), halved(architecture, size)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    before = target_layer(rebuild(checkpoint), checkpoint.spec)
    network = rebuild(pruned)
    after = target_layer(network, pruned.spec)
    assert (after.name, after.grid, after.layout) == (before.name, before.grid, before.layout)
    heat = explain(network, pruned.spec, pixels)
    assert heat.shape == (2, size, size) and heat.max() == pytest.approx(1) and heat.min() >= 0


def test_a_record_that_does_not_give_the_network_back_is_an_error(made: Made, monkeypatch: pytest.MonkeyPatch):
    """A library's layer may keep what it computes from its sizes where no record sees it."""
    real = module.rebuild
    calls = []

    def other(checkpoint: Checkpoint) -> torch.nn.Module:
        network = real(checkpoint)
        calls.append(checkpoint)
        if len(calls) > 1:
            torch.nn.init.constant_(network.get_submodule("fc").bias, 9)  # type: ignore[arg-type]
        return network

    monkeypatch.setattr(module, "rebuild", other)
    checkpoint = made("timm/test_resnet")
    with pytest.raises(MedcompressError, match="answers otherwise; leave layers out with --keep"):
        prune(checkpoint, 1e6, lambda network: count_macs(network, (3, 64, 64)), asked="macs 0.5")
