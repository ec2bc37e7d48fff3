"""What training changes in an image, and what it never does."""

from __future__ import annotations

import pytest
import torch

from medcompress.trained.learning.augmentation import augment, augmentation


def half_bright(count: int, colour: bool = False) -> torch.Tensor:
    """The left half bright, the right half dark: a flip shows."""
    pixels = torch.full((count, 32, 32), 60, dtype=torch.uint8)
    pixels[:, :, :16] = 200
    return pixels.unsqueeze(-1).repeat(1, 1, 1, 3) if colour else pixels


@pytest.mark.parametrize("strength", ["none", "light", "strong"])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_shape_range_and_seed(strength, colour) -> None:
    pixels = half_bright(8, colour == "rgb")
    module = augmentation(strength, "none", colour)
    torch.manual_seed(3)
    first = augment(pixels, module)
    torch.manual_seed(3)
    assert torch.equal(first, augment(pixels, module))
    assert first.shape == (8, 1 if colour == "grey" else 3, 32, 32) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1
    if strength != "none":
        assert len({image.sum().item() for image in first}) == 8  # each by its own draw


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_a_radiograph_is_never_mirrored(strength) -> None:
    torch.manual_seed(0)
    images = augment(half_bright(64), augmentation(strength, "none", "grey"))
    left, right = images[..., 4:12].mean(dim=(1, 2, 3)), images[..., 20:28].mean(dim=(1, 2, 3))
    assert (left > right).all()


def test_flips_are_as_allowed() -> None:
    torch.manual_seed(0)
    once = augment(half_bright(64), augmentation("none", "horizontal", "grey"))
    mirrored = once[:, 0, 0, 0] < 0.5
    assert 10 < mirrored.sum() < 54
    original = half_bright(1)[None] / 255
    assert all(torch.equal(image, original[0].flip(2)) for image in once[mirrored])
    any_way = augment(half_bright(64), augmentation("none", "both", "grey"))
    assert (any_way[:, 0, 0, 0] == any_way[:, 0, 0, -1]).any()  # turned by 90 degrees


def test_grey_stays_grey_in_colour_pictures() -> None:
    torch.manual_seed(0)
    images = augment(half_bright(8, colour=True), augmentation("light", "none", "grey"))
    assert torch.allclose(images[:, 0], images[:, 1]) and torch.allclose(images[:, 0], images[:, 2])
