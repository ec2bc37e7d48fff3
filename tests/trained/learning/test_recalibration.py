"""Statistics of normalizations taken anew, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medcompress.trained.learning.recalibration import recalibrate


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.BatchNorm2d(4, momentum=0.3), nn.BatchNorm2d(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), first, nn.Dropout(0.5), nn.Conv2d(4, 2, 3), second)


BATCHES = list(torch.randn(6, 8, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 3 + 1)


def test_they_are_the_average_over_the_batches_without_dropout() -> None:
    found = network()
    found[1].running_mean += 100  # of other weights
    assert recalibrate(found, BATCHES) == 2
    with torch.no_grad():
        before = [found[0](batch) for batch in BATCHES]
        assert torch.allclose(found[1].running_mean, torch.cat(before).mean((0, 2, 3)), atol=1e-5)
        variances = torch.stack([each.var((0, 2, 3)) for each in before])
        assert torch.allclose(found[1].running_var, variances.mean(0), atol=1e-4)
        # What the second sees is what the first gives in training mode, whole.
        seen = [found[3](nn.functional.batch_norm(x, None, None, training=True)) for x in before]
        assert torch.allclose(found[4].running_mean, torch.cat(seen).mean((0, 2, 3)), atol=1e-5)


def test_all_else_stays() -> None:
    found = network().train()
    found[1].eval()
    weights = {name: each.clone() for name, each in found.named_parameters()}
    flags = [module.training for module in found.modules()]
    recalibrate(found, BATCHES)
    assert all(torch.equal(each, weights[name]) for name, each in found.named_parameters())
    assert [module.training for module in found.modules()] == flags
    assert (found[1].momentum, found[4].momentum) == (0.3, 0.1)
    assert all(each.requires_grad and each.grad is None for each in found.parameters())


def test_a_failure_leaves_modes_and_momenta() -> None:
    found = network().eval()
    with pytest.raises(RuntimeError):
        recalibrate(found, [torch.zeros(2, 5, 12, 12)])
    assert not any(module.training for module in found.modules())
    assert (found[1].momentum, found[4].momentum) == (0.3, 0.1)


def test_without_normalizations_or_images_nothing_happens() -> None:
    def never():
        raise AssertionError("the images were asked for")
        yield

    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False))
    assert recalibrate(plain, never()) == 0
    found = network()
    found[1].running_mean += 100
    recalibrate(found, [])
    assert (found[1].running_mean == 100).all()
