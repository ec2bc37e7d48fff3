"""A heat map is hot where the model looks, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.occlusion import occlusion_map
from medcompress.benchmarks.timing.worker import Worker
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import EngineError
from medcompress.runtime.preprocessing import Preprocessing

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_engine.py"))
BINARY = Decision("binary", ("WELL", "SICK"), "SICK")


def heat(
    candidate: Candidate,
    image: np.ndarray,
    scratch: Path,
    decision: Decision = BINARY,
    c: int = 1,
    average: np.ndarray | None = None,
) -> np.ndarray:
    if image.ndim == 2:
        preprocessing = Preprocessing(image.shape, channels=1, mean=(0.5,), std=(0.25,))
    else:
        preprocessing = Preprocessing(image.shape[:2], colour="rgb")
    average = np.zeros(image.shape) if average is None else average
    with Worker(candidate.command) as worker:
        worker.load(candidate.engine, candidate.files, candidate.precision, 1)
        return occlusion_map(worker, image, average, preprocessing, scratch, decision, c)


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("size", [(56, 56), (56, 84)])
@pytest.mark.parametrize(("top", "left"), [(True, False), (False, True)])
def test_it_is_hot_where_the_model_looks_and_nowhere_else(
    looks_at: Callable[..., Candidate], tmp_path: Path, colour: str, size: tuple[int, int], top: bool, left: bool
) -> None:
    height, width = size
    shape = (*size, 3) if colour == "rgb" else size
    image = np.random.default_rng(0).integers(0, 60, shape).astype(np.uint8)
    # Bright where it looks, and in the opposite corner, which is nothing to it.
    rows = slice(0, height // 2) if top else slice(height // 2, height)
    columns = slice(0, width // 2) if left else slice(width // 2, width)
    image[rows, columns] += 180
    image[::-1, ::-1][rows, columns] += 180
    found = heat(looks_at("model", top, left, size, 3 if colour == "rgb" else 1), image, tmp_path)
    assert found.shape == size
    assert found.dtype == np.float32
    inside = found[rows, columns]
    assert inside.min() > 0
    # Half a patch, and as far as the bicubic filter reaches.
    reach = 3 * max(height, width) // 14 + 1
    near = np.zeros(size, bool)
    near[max(0, rows.start - reach) : rows.stop + reach, max(0, columns.start - reach) : columns.stop + reach] = True
    assert (~near).sum() > 0.2 * near.size
    assert abs(found[~near]).max() < 1e-4 * inside.max()


def test_the_heat_is_the_fall_of_the_log_odds(looks_at: Callable[..., Candidate], tmp_path: Path) -> None:
    image = np.zeros((56, 56), np.uint8)
    image[:28, :28] = 200
    model = looks_at("model", True, True)
    found = heat(model, image, tmp_path)
    # A patch of 8 x 8 goes from 200 to 50, the image's mean, in the mean of 28 x 28; the odds are m against -m.
    assert found[14, 14] == pytest.approx(2 * 150 / 255 / 0.25 * 64 / 784, rel=0.01)
    assert np.allclose(heat(model, image, tmp_path, c=0), -found, atol=1e-5)
    findings = Decision("multilabel", ("A", "B"))
    assert np.allclose(heat(model, image, tmp_path, findings), found / 2, atol=1e-5), "a finding has odds of its own"
    cooler = Decision("binary", ("WELL", "SICK"), "SICK", temperature=2)
    assert np.allclose(heat(model, image, tmp_path, cooler), found / 2, atol=1e-5)


def test_what_is_ordinary_at_its_place_changes_nothing(looks_at: Callable[..., Candidate], tmp_path: Path) -> None:
    ordinary = np.random.default_rng(0).normal(120, 30, (56, 56)).clip(0, 255)
    image = np.round(0.6 * ordinary + 40).astype(np.uint8)
    model = looks_at("model", True, True)
    plain = heat(model, image, tmp_path, average=ordinary)
    assert abs(plain).max() < 0.02
    image[8:16, 8:16] = 255
    struck = heat(model, image, tmp_path, average=ordinary)
    assert np.unravel_index(struck.argmax(), struck.shape) == pytest.approx((11.5, 11.5), abs=3)
    assert struck.max() > 0.2


def test_an_image_smaller_than_the_grid_has_a_map(looks_at: Callable[..., Candidate], tmp_path: Path) -> None:
    image = np.zeros((6, 6), np.uint8)
    image[:3, :3] = 200
    found = heat(looks_at("model", True, True, (6, 6)), image, tmp_path)
    assert found.shape == (6, 6)
    assert found[:3, :3].min() > abs(found[4:, 4:]).max()


def test_outputs_that_are_not_numbers_are_an_engines_failure(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"logits": [0.0, 1.0], "fail": "nan"}))
    with pytest.raises(EngineError, match="not all numbers"):
        heat(Candidate("model", "fake", "fp32", (path,), command=FAKE), np.zeros((8, 8), np.uint8), tmp_path)
