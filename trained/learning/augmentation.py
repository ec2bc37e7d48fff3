"""What training may change in an image, by kornia: pose, exposure, sharpness, and parts of it hidden."""

from __future__ import annotations

import kornia.augmentation as K
import torch
from torch import nn

from .options import Augmentation, Flips


def augmentation(strength: Augmentation, flips: Flips, colour: str) -> nn.Module:
    """A module that changes each image of a batch by its own draw from torch's generator.

    ``light``: rotation by 10 degrees, shift by 6 %, scale by 12 %, brightness and contrast by 20 %.
    ``strong``: twice as far, and for some images CLAHE, gamma, blur, noise and a hidden rectangle.
    Flips only where the task's anatomy allows them: in a radiograph the heart is left.

    Args:
        colour: ``grey`` or ``rgb``; hue and saturation change in real colour only.

    Returns:
        A module from float32 (N, C, H, W) on 0..1 to the same; C is 1 for grey.
    """
    steps: list[nn.Module] = []
    if flips != "none":
        steps.append(K.RandomHorizontalFlip())
    if flips == "both":
        steps += [K.RandomVerticalFlip(), K.RandomRotation90((0, 3), p=0.75)]
    hue = (0.1, 0.03) if colour == "rgb" else (0.0, 0.0)
    if strength == "light":
        steps.append(K.RandomAffine(10.0, (0.06, 0.06), (0.88, 1.12), p=1.0))
        steps.append(K.ColorJiggle(0.2, 0.2, *hue, p=1.0))
    if strength == "strong":
        steps.append(K.RandomAffine(15.0, (0.1, 0.1), (0.8, 1.2), shear=5.0, p=1.0))
        steps.append(K.RandomClahe((1.0, 3.0), (4, 4), p=0.15))
        steps.append(K.ColorJiggle(0.35, 0.35, *hue, p=1.0))
        steps.append(K.RandomGamma((0.6, 1.6), p=0.5))
        steps.append(K.RandomGaussianBlur((5, 5), (0.1, 2.0), p=0.3))
        steps.append(K.RandomGaussianNoise(std=0.05, p=0.3))
        steps.append(K.RandomErasing((0.02, 0.2), p=0.3))
    return nn.Sequential(*steps)


def augment(pixels: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """Rendered uint8 (N, H, W) or (N, H, W, 3) to augmented float32 (N, C, H, W) on 0..1; C is 1 for grey."""
    images = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    # In full precision: coordinates in bfloat16 are off by a pixel.
    with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
        return module(images.float() / 255).clamp(0, 1)
