"""The small network takes any size from 16 px on, one channel or three, and learns."""

from __future__ import annotations

import pytest
import torch

from medcompress.trained.networks.small_cnn import SmallCNN


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 128, 512])
def test_any_size(channels: int, size: int):
    network = SmallCNN(4, channels).eval()
    assert network(torch.randn(1, channels, size, size)).shape == (1, 4)


def test_it_is_small():
    assert sum(parameter.numel() for parameter in SmallCNN(2).parameters()) < 1_300_000


def test_it_learns():
    torch.manual_seed(0)
    images = torch.randn(32, 1, 28, 28)
    targets = torch.arange(32) % 2
    images[targets == 1, :, 8:16, 8:16] += 1.5
    network = SmallCNN(2, 1)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    assert (network.eval()(images).argmax(dim=1) == targets).float().mean() > 0.95
