"""Where oneDNN's gradients in the channels-last layout are wrong, a network is trained in another."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from medcompress.trained.learning.layout import layout_of

# A pruned residual network's shortcut, in a process of its own: where it fails it may take the process with it.
SHORTCUT = """
import torch
from torch import nn
from medcompress.trained.learning.layout import layout_of

def gradient(layout):
    torch.manual_seed(0)
    shortcut = nn.Conv2d(4, 12, 1, stride=2, bias=False).to(memory_format=layout)
    for _ in range(30):
        images = torch.randn(32, 4, 28, 28).contiguous(memory_format=layout)
        shortcut.zero_grad()
        shortcut(images).square().mean().backward()
    return shortcut.weight.grad.contiguous()

found = gradient(layout_of(nn.Conv2d(4, 12, 1, stride=2)))
with torch.backends.mkldnn.flags(enabled=False):
    expected = gradient(torch.contiguous_format)
torch.testing.assert_close(found, expected)
"""


def test_a_shortcut_of_few_channels_is_learned_rightly() -> None:
    done = subprocess.run([sys.executable, "-c", SHORTCUT], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("layer", "safe"),
    [
        (nn.Conv2d(64, 128, 1, stride=2), True),
        (nn.Conv2d(8, 16, 3, stride=2), True),
        (nn.Conv2d(8, 16, 1), True),
        (nn.Conv2d(8, 16, 1, stride=2), False),
        (nn.Conv2d(32, 32, 1, stride=(1, 2), groups=4), False),
    ],
)
def test_only_such_a_network_leaves_channels_last(layer: nn.Module, safe: bool) -> None:
    expected = torch.channels_last if safe else torch.contiguous_format
    assert layout_of(nn.Sequential(nn.ReLU(), layer)) == expected
