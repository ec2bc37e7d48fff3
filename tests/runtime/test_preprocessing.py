from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from medcompress.runtime.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (300, 400), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)


def test_grey_is_repeated_and_normalized() -> None:
    preprocessing = Preprocessing((32, 48), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    tensor = preprocessing(GREY)
    assert tensor.shape == (3, 32, 48) == preprocessing.shape
    assert tensor.dtype == np.float32
    level = np.asarray(Image.fromarray(GREY).resize((48, 32), Image.Resampling.BILINEAR)) / 255
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 0.2)]):
        assert np.allclose(tensor[channel], (level - mean) / std, atol=1e-6)


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_the_crop_is_torchvisions(pixels: np.ndarray) -> None:
    preprocessing = Preprocessing(
        (64, 64), "rgb", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fit="crop", shorter_side=73
    )
    reference = v2.Compose(
        [
            v2.Resize(73, interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(64),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    expected = reference(Image.fromarray(pixels).convert("RGB")).numpy()
    assert np.abs(preprocessing(pixels) - expected).max() < 1e-5


def test_padding_keeps_the_whole_image_and_its_proportions() -> None:
    preprocessing = Preprocessing((64, 64), fit="pad")
    rendered = preprocessing.render(np.full((300, 600), 200, dtype=np.uint8))
    assert (rendered[16:48] == 200).all()
    assert not rendered[:16].any()
    assert not rendered[48:].any()


def test_colour_images_turn_grey_for_a_grey_model() -> None:
    preprocessing = Preprocessing((32, 32), channels=1, mean=(0.5,), std=(0.5,))
    assert preprocessing.render(COLOUR).ndim == 2
    assert preprocessing(COLOUR).shape == (1, 32, 32)


def test_it_survives_json() -> None:
    preprocessing = Preprocessing((32, 48), fit="crop", shorter_side=64, filter="bicubic")
    assert msgspec.json.decode(msgspec.json.encode(preprocessing), type=Preprocessing) == preprocessing


@pytest.mark.parametrize(
    "fields",
    [
        {"size": (0, 32)},
        {"size": (32, 5000)},
        {"size": (32, 32), "version": 2},
        {"size": (32, 32), "mean": (0.5,)},
        {"size": (32, 32), "std": (0.0, 0.1, 0.1)},
        {"size": (32, 32), "mean": (float("nan"), 0.1, 0.1)},
        {"size": (32, 32), "colour": "rgb", "channels": 1, "mean": (0.5,), "std": (0.5,)},
        {"size": (32, 32), "fit": "crop"},
        {"size": (32, 32), "fit": "crop", "shorter_side": 16},
        {"size": (32, 32), "shorter_side": 64},
    ],
)
def test_impossible_values_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Preprocessing(**fields)  # type: ignore[arg-type]
