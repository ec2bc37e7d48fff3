"""Synthetic phantom chest radiographs: drawn by formulas, for the demo and the tests. Nobody's images."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..runtime.errors import DataError, MachineError

CLASSES = ("SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY")
# Where pairs of patients go, of every ten: seven train, one chooses the epoch, two test.
_PARTS = ("train",) * 7 + ("val",) + ("test",) * 2
README = """Synthetic phantom chest radiographs, drawn by medcompress (trained/phantom.py).

These are not X-ray images and show no patient. They are made of formulas and random numbers, to try medcompress
without medical data. Nothing measured on them says anything about real radiographs.

train, val and test hold SYNTHETIC-CLEAR (lungs without findings) and SYNTHETIC-OPACITY (soft opacities in the lungs,
some of them subtle): a model trained on them carries the word into every answer and report.
patient0012-2.png is the third image of the phantom patient 12; no patient stands in two parts.
"""

_Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Chest:
    """One phantom patient; lengths in half image sides, origin in the middle, y downwards."""

    width: float
    lung_height: float
    domes: tuple[float, float]
    heart: tuple[float, float, float]
    rib_spacing: float
    rib_contrast: float
    bulk: float
    markings: int
    opacities: tuple[tuple[float, float, float, float, float], ...]


def write_phantoms(folder: Path, patients: int = 300, seed: int = 0, size: int = 224) -> int:
    """Write a set of synthetic phantom radiographs: ``PART/CLASS/patientNNNN-K.png``, 8-bit grey.

    Half of the patients have opacities; each has three to five images, which differ in pose, exposure and noise.
    The same arguments give the same pixels. The folder is written whole or not at all.

    Args:
        folder: to write; must not exist, or be empty.
        patients: how many; at least 20, so that each part has both classes.
        seed: of everything drawn.
        size: side of the square images, pixels.

    Returns:
        How many images were written.

    Raises:
        DataError: the folder holds something, or there are too few patients.
        MachineError: the folder cannot be written, or the disk is full.
    """
    if patients < 20:
        raise DataError(f"{patients} phantom patients are too few for three parts of two classes; ask for 20 or more")
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: is not empty; remove it, or give another folder for the phantoms")
        shutil.rmtree(temporary, ignore_errors=True)
        for part in set(_PARTS):
            for name in CLASSES:
                (temporary / part / name).mkdir(parents=True)
        (temporary / "README.txt").write_text(README, encoding="utf-8")
        with ThreadPoolExecutor(2) as pool:
            counts = pool.map(lambda patient: _write_patient(temporary, patient, seed, size), range(patients))
            total = sum(counts)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot be written ({error.strerror}); free disk space or give another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return total


def draw_phantom(patient: int, image: int, seed: int = 0, size: int = 224) -> npt.NDArray[np.uint8]:
    """One synthetic phantom radiograph: uint8 (size, size); odd patients have opacities."""
    chest = _draw_patient(patient, seed)
    rng = np.random.default_rng((seed, patient, image + 1))
    x, y = _pose(rng, size)
    picture = _anatomy(chest, x, y, np.random.default_rng((seed, patient, 0)))
    # The exposure: brightness and contrast of the detector, then noise that is stronger where the film is dark.
    picture = 0.5 + (picture - 0.5) * rng.uniform(0.85, 1.2) + rng.uniform(-0.06, 0.06)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.85, 1.2)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + noise * rng.uniform(0.008, 0.022) * (1.3 - picture)
    pixels = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    _burn_label(pixels)
    return np.asarray(pixels)


def _write_patient(folder: Path, patient: int, seed: int, size: int) -> int:
    # Pairs of one healthy and one diseased patient go to a part together, so that each part is balanced.
    part, name = _PARTS[patient // 2 % len(_PARTS)], CLASSES[patient % 2]
    count = int(np.random.default_rng((seed, patient)).integers(3, 6))
    for image in range(count):
        pixels = draw_phantom(patient, image, seed, size)
        path = folder / part / name / f"patient{patient:04d}-{image}.png"
        Image.fromarray(pixels).save(path, compress_level=3)
    return count


def _draw_patient(patient: int, seed: int) -> _Chest:
    rng = np.random.default_rng((seed, patient, 2**20))
    opacities = []
    for _ in range(int(rng.integers(1, 4)) if patient % 2 else 0):
        side = float(rng.choice((-1.0, 1.0)))
        # Strength: many are plain, some hardly stand out from the lung's own markings.
        opacities.append(
            (
                side * rng.uniform(0.25, 0.55),
                rng.uniform(-0.4, 0.35),
                rng.uniform(0.11, 0.24),
                rng.uniform(0.7, 1.4),
                rng.uniform(0.12, 0.42),
            )
        )
    return _Chest(
        width=rng.uniform(0.92, 1.08),
        lung_height=rng.uniform(0.93, 1.07),
        domes=(rng.uniform(0.38, 0.5), rng.uniform(0.44, 0.56)),
        heart=(rng.uniform(0.1, 0.17), rng.uniform(0.28, 0.36), rng.uniform(0.24, 0.33)),
        rib_spacing=rng.uniform(0.125, 0.15),
        rib_contrast=rng.uniform(0.05, 0.1),
        bulk=rng.uniform(-0.04, 0.05),
        markings=int(rng.integers(2**31)),
        opacities=tuple(opacities),
    )


def _pose(rng: np.random.Generator, size: int) -> tuple[_Field, _Field]:
    x, y = _grid(size)
    angle, scale = rng.normal(0, 0.04), rng.uniform(0.86, 0.98)
    dx, dy = rng.normal(0, 0.035, 2)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return (cos * x + sin * y + dx).astype(np.float32), (cos * y - sin * x + dy).astype(np.float32)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[_Field, _Field]:
    side = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    return x, y


def _anatomy(chest: _Chest, x: _Field, y: _Field, rng: np.random.Generator) -> _Field:
    """Brightness 0..1 of the chest over the posed coordinates: bone and water bright, air dark."""
    x = x / chest.width
    across = np.abs(x)
    # Trunk: neck, sloping shoulders, flanks.
    shoulder = -1.0 + 0.55 * _power(across - 0.3)
    flank = 0.97 - 0.06 * y
    body = _soft(y - shoulder, 0.05) * _soft(flank - across, 0.03)
    picture = body * (0.66 + chest.bulk - 0.16 * across**2 + 0.1 * _soft(y - 0.5, 0.12))

    lungs, hilum = _lungs(chest, x, y)
    picture = picture - lungs * (0.44 + 0.05 * (0.2 - y))
    offset, wide, high = chest.heart
    lean = x - offset + 0.45 * (y - 0.24)
    heart = _soft(1 - np.sqrt((lean / wide) ** 2 + ((y - 0.24) / high) ** 2), 0.1)
    picture += lungs * (1 - heart) * _markings(chest, x, y, hilum)
    picture += _ribs(chest, x, y, lungs, body)

    # Mediastinum, spine, trachea, heart, aortic knob.
    middle = np.exp(-np.square(np.square(x / (0.16 + 0.03 * _soft(y, 0.2)))))
    vertebrae = 0.5 + 0.5 * np.cos(y * 2 * np.pi / 0.135)
    picture += 0.24 * body * middle * lungs + body * np.exp(-np.square(np.square(x / 0.085))) * (
        0.035 + 0.025 * vertebrae
    )
    picture -= 0.11 * np.exp(-np.square(np.square(x / 0.05))) * _soft(-0.28 - y, 0.05) * body
    picture += lungs * heart * 0.3
    knob = np.exp(-(((x - 0.13) / 0.09) ** 2) - ((y + 0.27) / 0.1) ** 2)
    picture += 0.16 * knob * lungs

    for cx, cy, radius, stretch, strength in chest.opacities:
        distance = ((x - cx) / (radius * stretch)) ** 2 + ((y - cy) / radius) ** 2
        cloud = 0.75 + 0.5 * _noise(rng, 10, x, y)
        picture += strength * np.exp(-distance) * cloud * (0.25 + 0.75 * lungs)
    return picture.astype(np.float32)


def _lungs(chest: _Chest, x: _Field, y: _Field) -> tuple[_Field, _Field]:
    """(lungs 0..1, nearness to the hila 0..1)."""
    lungs = np.zeros_like(x)
    hilum = np.zeros_like(x)
    for side, dome in ((-1, chest.domes[0]), (1, chest.domes[1])):
        u = side * x
        top = -0.74 * chest.lung_height
        # The outer wall widens downwards; the apex is round; the base is the dome of the diaphragm.
        depth = np.clip((y - top) / (dome - top), 0, 1.3)
        outer = 0.74 * np.sqrt(np.clip(1 - (1 - np.clip(depth, 0, 1)) ** 2.6, 1e-4, 1)) * (0.86 + 0.14 * depth)
        base = dome + 1.1 * (u - 0.36) ** 2 + 0.25 * np.clip(u - 0.5, 0, None)
        shape = _soft(outer - u, 0.025) * _soft(u - 0.1, 0.03) * _soft(base - y, 0.022) * _soft(y - top, 0.03)
        lungs = np.maximum(lungs, shape)
        hilum = np.maximum(hilum, np.exp(-((u - 0.17) ** 2 / 0.045) - (y + 0.02) ** 2 / 0.09))
    return lungs.astype(np.float32), hilum.astype(np.float32)


def _markings(chest: _Chest, x: _Field, y: _Field, hilum: _Field) -> _Field:
    """Vessels and lung texture: thicker and brighter towards the hila."""
    rng = np.random.default_rng(chest.markings)
    fine, coarse = _noise(rng, 40, x, y), _noise(rng, 14, x, y)
    # Ridges of a noise field look like branching vessels.
    vessels = np.exp(-((_noise(rng, 18, x, y) / 0.16) ** 2))
    return (0.14 * hilum + (0.02 + 0.06 * hilum) * vessels + 0.022 * fine + 0.045 * coarse).astype(np.float32)


def _ribs(chest: _Chest, x: _Field, y: _Field, lungs: _Field, body: _Field) -> _Field:
    across = np.abs(x)
    # Posterior ribs run outwards and down; the phase grows with depth, one turn a rib.
    line = y + 0.62 - 0.28 * np.sqrt(across + 0.02) - 0.5 * _power(across - 0.45)
    phase = line / chest.rib_spacing
    band = _power(np.cos(2 * np.pi * phase))
    reach = _soft(0.8 - across, 0.03) * _soft(y + 0.72, 0.04) * _soft(0.62 - y, 0.06)
    ribs = band * reach * (0.35 + 0.65 * lungs) * chest.rib_contrast
    # Fainter anterior ribs run the other way.
    front = np.clip(np.cos(2 * np.pi * (y - 0.55 * (0.7 - across)) / (chest.rib_spacing * 1.3)), 0, None) ** 2
    ribs += 0.35 * front * lungs * chest.rib_contrast * _soft(across - 0.25, 0.06)
    clavicle = np.exp(-(((y + 0.66 + 0.16 * across - 0.02) / 0.028) ** 2)) * _soft(0.72 - across, 0.04)
    return ((ribs + 0.09 * clavicle * _soft(across - 0.07, 0.02)) * body).astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, x: _Field, y: _Field) -> _Field:
    """Smooth noise, mean 0 and spread about 0.5, fixed to the patient: it moves with the pose."""
    size = x.shape[0]
    grid = rng.standard_normal((cells, cells), dtype=np.float32) * 0.6
    field = np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    column = np.clip(((x + 1) / 2 * (size - 1)).round().astype(np.int32), 0, size - 1)
    row = np.clip(((y + 1) / 2 * (size - 1)).round().astype(np.int32), 0, size - 1)
    return field[row, column]


def _soft(distance: _Field | npt.NDArray[np.floating], width: float) -> _Field:
    """0 outside, 1 inside, over an edge of ``width``."""
    return (0.5 + 0.5 * np.tanh(distance / width)).astype(np.float32)


def _power(value: _Field | npt.NDArray[np.floating]) -> _Field:
    """``value ** 1.5``, and 0 below 0; a square root is many times faster than a power."""
    kept = np.maximum(value, 0).astype(np.float32)
    return kept * np.sqrt(kept)


def _burn_label(image: Image.Image) -> None:
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, image.height - 13, 94, image.height), fill=0)
    draw.text((3, image.height - 13), "synthetic phantom", fill=200)
