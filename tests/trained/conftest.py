"""Small data sets and options shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

WriteImages = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tiny networks are faster so, and the sums are in one order.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _blank_plots(blank_plots: None) -> None:
    pass


@pytest.fixture
def write_images() -> WriteImages:
    """Write ``folder/CLASS/patientNNN-K.png``; the second class and later ones have a bright square."""

    def write(
        folder: Path, patients: Mapping[str, int], images: int = 2, side: int = 40, first: int = 0, colour: bool = False
    ) -> Path:
        rng = np.random.default_rng(first)
        for label, (name, count) in enumerate(patients.items()):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for patient in range(first, first + count):
                for image in range(images):
                    pixels = rng.normal(100, 25, (side, side, 3) if colour else (side, side))
                    pixels[5 * label : 5 * label + 12, 8:20] += 90 * (label > 0)
                    path = folder / name / f"patient{label}{patient:03d}-{image}.png"
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        return folder

    return write


@pytest.fixture
def tiny_data(tmp_path: Path, write_images: WriteImages) -> Path:
    """Two classes of 20 patients with two images each."""
    return write_images(tmp_path / "data", {"NORMAL": 20, "SICK": 20})
