"""A network that looks at fewer pixels gives what it gives for the smaller image, and is fed the larger one."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest
import torch
from torch.nn import functional

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.shrinking import shrink_input
from medcompress.trained.spec import ModelSpec

SPEC = ModelSpec("timm/test_resnet", Preprocessing((64, 96)), Decision("multiclass", ("a", "b", "c")))


def test_the_outputs_are_those_of_the_resampled_image():
    torch.manual_seed(0)
    network = build(SPEC).eval()
    shrunk = copy.deepcopy(network)
    shrink_input(shrunk, (32, 48))
    images = torch.randn(2, *SPEC.preprocessing.shape)
    smaller = functional.interpolate(images, (32, 48), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        assert torch.equal(shrunk(images), network(smaller))
        assert not torch.allclose(shrunk(images), network(images))


def test_half_the_size_is_the_mean_of_four_pixels():
    network = torch.nn.Identity()
    shrink_input(network, (1, 2))
    found = network(torch.tensor([[[[1.0, 2, 3, 4], [5, 6, 7, 8]]]]))
    assert found.tolist() == [[[[3.5, 5.5]]]]


def test_a_checkpoint_keeps_it_and_its_weights_are_the_same(tmp_path: Path):
    spec = msgspec.structs.replace(SPEC, shrunk=(32, 48))
    torch.manual_seed(0)
    dense = build(SPEC).eval()
    save_checkpoint(tmp_path / "best.pth", Checkpoint(spec, dense.state_dict(), DataSource("/data"), "0" * 64))
    images = torch.randn(2, *SPEC.preprocessing.shape)
    shrink_input(dense, (32, 48))
    with torch.inference_mode():
        assert torch.equal(rebuild(load_checkpoint(tmp_path / "best.pth"))(images), dense(images))


@pytest.mark.parametrize("size", [(0, 48), (-3, 48), (65, 96), (1_000_000, 1_000_000)])
def test_a_size_that_is_not_smaller_is_refused(size: tuple[int, int]):
    spec = msgspec.structs.replace(SPEC, shrunk=size)
    checkpoint = Checkpoint(spec, build(SPEC).state_dict(), DataSource("/data"), "0" * 64)
    with pytest.raises(CheckpointError, match="not smaller") as caught:
        rebuild(checkpoint)
    assert "\n" not in str(caught.value)
