"""The figures of each channel against those computed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from medcompress.compress.pruning.channels import Channels
from medcompress.compress.pruning.importance import scores_of


class Net(nn.Module):
    """One hidden group: made by a convolution, scaled by a norm, read by two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.second, self.third = nn.Conv2d(6, 5, 3), nn.Conv2d(6, 5, 3)
        self.last = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        return self.last((self.second(x).relu() + self.third(x)).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    network = Net().eval()
    nn.init.uniform_(network.norm.weight, 0.5, 1.5)
    return network


Loss = Callable[[nn.Module], torch.Tensor]


def losses(seeds: range) -> Iterator[Loss]:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        images, targets = torch.randn(4, 3, 9, 9, generator=generator), torch.tensor([0, 1, 1, 0])
        yield lambda network, x=images, y=targets: functional.cross_entropy(network(x), y)


def relative(found: list[float]) -> torch.Tensor:
    return torch.tensor(found) / torch.tensor(found).mean()


def test_magnitude_is_the_mean_of_the_squared_weights_over_the_layers(net: Net):
    found = scores_of(Channels(net, (3, 9, 9)).groups, "magnitude", net)
    assert found.keys() == {"first", "third"} or found.keys() == {"first", "second"}
    expected = relative(
        [
            float(
                net.first.weight[channel].square().sum().detach()
                + net.norm.weight[channel].square().detach()
                + net.second.weight[:, channel].square().sum().detach()
                + net.third.weight[:, channel].square().sum().detach()
            )
            for channel in range(6)
        ]
    )
    torch.testing.assert_close(found["first"], expected)


def test_taylor_is_the_product_of_weights_and_gradients_of_all_batches(net: Net):
    groups = Channels(net, (3, 9, 9)).groups
    found = scores_of(groups, "taylor", net, losses(range(3)))
    assert all(parameter.grad is None for parameter in net.parameters())
    for loss in losses(range(3)):
        loss(net).backward()

    def change(layer: nn.Conv2d) -> torch.Tensor:
        assert layer.weight.grad is not None
        return (layer.weight * layer.weight.grad).abs().detach()

    expected = relative(
        [
            float(change(net.first)[channel].sum() + sum(change(each)[:, channel].sum() for each in readers))
            for channel in range(6)
            for readers in [(net.second, net.third)]
        ]
    )
    torch.testing.assert_close(found["first"], expected)


def test_taylor_ranks_as_the_loss_does_when_each_channel_is_taken(net: Net):
    """Brute force: a channel's weights made a little smaller, and the loss measured anew."""
    net = net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    (loss,) = losses(range(1))

    def of(network: nn.Module) -> torch.Tensor:
        return loss(network.float()).double()

    groups = Channels(net.float(), (3, 9, 9)).groups
    found = scores_of(groups, "taylor", net, [of])["first"]
    net.double()
    images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.tensor([0, 1, 1, 0])
    changes = []
    for channel in range(6):
        total = 0.0
        for layer, place in ((net.first, 0), (net.second, 1), (net.third, 1)):
            weight = layer.weight.data.select(place, channel)
            for index in range(weight.numel()):
                position = torch.unravel_index(torch.tensor(index), weight.shape)
                kept = weight[position].clone()
                ends = []
                for side in (1 + 1e-5, 1 - 1e-5):
                    weight[position] = kept * side
                    with torch.no_grad():
                        ends.append(functional.cross_entropy(net(images), targets))
                weight[position] = kept
                total += abs(float(ends[0] - ends[1])) / 2e-5
        changes.append(total)
    torch.testing.assert_close(found.double(), torch.tensor(changes).double() / sum(changes) * 6, rtol=1e-3, atol=1e-4)


def test_a_dead_group_has_zeros_and_not_what_is_no_number(net: Net):
    with torch.no_grad():
        for parameter in (net.first.weight, net.norm.weight, net.second.weight, net.third.weight):
            parameter.zero_()
    found = scores_of(Channels(net, (3, 9, 9)).groups, "magnitude", net)
    assert found["first"].tolist() == [0] * 6


def test_a_head_has_the_mean_of_its_channels():
    import timm

    network = timm.create_model("test_vit", num_classes=3).eval()
    groups = Channels(network, (3, 160, 160)).groups
    found = scores_of(groups, "magnitude", network)["blocks.0.attn.qkv"]
    attention = network.get_submodule("blocks.0.attn")
    width, dimensions = attention.proj.in_features, attention.head_dim
    each = attention.proj.weight.square().sum(0)
    for part in range(3):
        each = each + attention.qkv.weight[part * width : (part + 1) * width].square().sum(1)
    heads = each.view(-1, dimensions).mean(1)
    torch.testing.assert_close(found, heads / heads.mean())
