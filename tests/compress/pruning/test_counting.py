"""Work and size against figures computed by hand."""

from __future__ import annotations

import torch
from torch import nn

from medcompress.compress.pruning.counting import count_macs, count_parameters


def test_convolutions_and_linear_layers_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, padding=1, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    expected = 8 * 3 * 9 * 16 * 10 + 12 * 2 * 9 * 16 * 10 + 12 * 5
    assert count_macs(network, (3, 32, 20)) == expected
    assert count_parameters(network) == 8 * 27 + 8 + 16 + 12 * 18 + 12 + 65


def test_attention_by_hand():
    network = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    tokens = 50
    projections = tokens * 32 * 32 * 4 + 2 * tokens * 32 * 64
    wrapped = nn.Sequential(nn.Flatten(2), nn.Linear(10, 32), network)
    assert count_macs(wrapped, (tokens, 2, 5)) == projections + 2 * tokens * tokens * 32 + tokens * 10 * 32


def test_counting_leaves_the_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_macs(network, (3, 8, 8))
    assert network.training and next(network.parameters()).device == torch.device("cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_resampled_within_costs_what_the_smaller_image_costs():
    from medcompress.trained.networks.shrinking import shrink_input

    network = nn.Conv2d(3, 4, 3, padding=1)
    full = count_macs(network, (3, 32, 32))
    shrink_input(network, (16, 8))
    assert count_macs(network, (3, 32, 32)) * 8 == full
