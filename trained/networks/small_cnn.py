"""A small convolutional network of our own, to be trained from scratch on small images or few of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

WIDTHS = (16, 32, 64, 128, 256)
DROPOUT = 0.2
SIZE = 128


class SmallCNN(nn.Module):
    """Nine 3x3 convolutions with BatchNorm and ReLU: a stem at full resolution, then four stages that halve it.

    Small images need the full resolution of the stem; the average over the last stage takes any size.

    Args:
        classes: outputs.
        channels: of the input, 1 or 3.
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.stem = _Layer(channels, WIDTHS[0], stride=1)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_Layer(before, width, stride=2), _Layer(width, width, stride=1))
                for before, width in pairwise(WIDTHS)
            )
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(DROPOUT))
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) float32 to raw outputs (N, classes)."""
        return self.head(self.pool(self.stages(self.stem(images))))


class _Layer(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        convolution = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
