"""The gravest flips get pictures, and an engine that fails loses its own only."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks import cases
from medcompress.benchmarks.candidate import Candidate
from medcompress.benchmarks.cases import draw_cases
from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.flips import Flip
from medcompress.benchmarks.report.picture import Picture
from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_engine.py"))
DECISION = Decision("binary", ("WELL", "SICK"), "SICK")
PREPROCESSING = Preprocessing((56, 56), channels=1, mean=(0.5,), std=(0.25,))


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Of four images, two bright at the top left and at the bottom right; the others even."""
    images = np.full((4, 56, 56), 40, np.uint8)
    images[:2, :28, :28] = images[:2, 28:, 28:] = 220
    path = tmp_path / "images.npy"
    np.save(path, images)
    return path


def flip(case: int, kind: str, index: int) -> Flip:
    return Flip(case, kind, "SICK", "SICK", "SICK", "WELL", 0.6, 0.4, 0.5, "hash", index)


def draw(
    rendered: Path, flips: Mapping[str, Sequence[Flip]], reference: Candidate, *variants: Candidate, limit: int = 24
) -> dict[tuple[str, int], Picture]:
    samples = [Sample(Path(f"data/SICK/{index}.png"), (0, 1), f"patient {index}") for index in range(4)]
    found = {variant.name: variant for variant in variants}
    return draw_cases(flips, samples, Path("data"), rendered, reference, found, DECISION, PREPROCESSING, 1, limit)


def pixels(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    assert len(data) < 25_000 * 4 / 3
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)


def failing(tmp_path: Path, fail: str) -> Candidate:
    path = tmp_path / f"{fail}.json"
    path.write_text(json.dumps({"logits": [0.0, 1.0], "fail": fail}))
    return Candidate(fail, "fake", "fp32", (path,), command=FAKE)


def test_each_model_is_shown_where_it_looks(rendered: Path, looks_at: Callable[..., Candidate]) -> None:
    reference, variant = looks_at("reference", True, True), looks_at("variant", False, False)
    found = draw(rendered, {"variant": [flip(1, "lost finding", 1)]}, reference, variant)
    assert list(found) == [("variant", 1)]
    picture = found["variant", 1]
    assert (picture.file, picture.patient) == ("SICK/1.png", "patient 1")
    image = pixels(picture.image)
    assert image.shape == (224, 224, 3)
    changed = [abs(pixels(uri) - image).mean(axis=2) for uri in (picture.reference_map, picture.variant_map)]
    first, second = slice(30, 80), slice(144, 194)
    assert changed[0][first, first].mean() > 20 > 3 > changed[0][second, second].mean()
    assert changed[1][second, second].mean() > 20 > 3 > changed[1][first, first].mean()


def test_both_maps_are_drawn_on_one_scale(rendered: Path, looks_at: Callable[..., Candidate], tmp_path: Path) -> None:
    blind = tmp_path / "blind.json"
    blind.write_text(json.dumps({"logits": [0.0, 1.0]}))
    variant = Candidate("blind", "fake", "fp32", (blind,), command=FAKE)
    found = draw(rendered, {"blind": [flip(1, "lost finding", 0)]}, looks_at("reference", True, True), variant)
    picture = found["blind", 1]
    assert picture.variant_map == picture.image, "where nothing is lost nothing is painted"
    assert picture.reference_map != picture.image


def test_the_chosen_variants_come_first_then_the_gravest_of_the_others(
    rendered: Path, looks_at: Callable[..., Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*given: object) -> object:
        made.append(given)
        return occlusion_map(*given)  # type: ignore[arg-type]

    occlusion_map = cases.occlusion_map
    monkeypatch.setattr(cases, "occlusion_map", counted)
    flips = {
        "chosen": [flip(1, "mended", 0)],
        "second": [flip(1, "new false alarm", 0), flip(2, "mended", 1)],
        "third": [flip(1, "lost finding", 0), flip(2, "new false alarm", 1)],
    }
    models = [looks_at(name, True, True) for name in ("reference", *flips)]
    found = draw(rendered, flips, *models, limit=3)
    assert list(found) == [("chosen", 1), ("third", 1), ("second", 1)]
    assert len(made) == 4, "the reference's map of the one image is made once"
    assert draw(rendered, {"chosen": []}, *models) == {}


@pytest.mark.parametrize("fail", ["load", "run", "crash", "nan"])
def test_an_engine_that_fails_loses_its_pictures_not_the_run(
    rendered: Path,
    looks_at: Callable[..., Candidate],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fail: str,
) -> None:
    reference, good, bad = looks_at("reference", True, True), looks_at("good", True, True), failing(tmp_path, fail)
    flips = {fail: [flip(1, "lost finding", 0)], "good": [flip(1, "lost finding", 0)]}
    assert list(draw(rendered, flips, reference, good, bad)) == [("good", 1)]
    assert f"no heat maps of {fail}: " in capsys.readouterr().err


def test_without_the_reference_there_are_no_pictures(
    rendered: Path, looks_at: Callable[..., Candidate], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flips = {"good": [flip(1, "lost finding", 0)]}
    assert draw(rendered, flips, failing(tmp_path, "run"), looks_at("good", True, True)) == {}
    assert "no heat maps of run: the fake engine was told to fail" in capsys.readouterr().err


def test_colour_and_a_single_image(looks_at: Callable[..., Candidate], tmp_path: Path) -> None:
    image = np.full((1, 56, 84, 3), 40, np.uint8)
    image[:, :28, :42] = 220
    np.save(tmp_path / "colour.npy", image)
    models = [looks_at(name, True, True, (56, 84), 3) for name in ("reference", "variant")]
    flips = {"variant": [flip(1, "lost finding", 0)]}
    sample = Sample(Path("elsewhere/a.png"), (0, 1), "p")
    found = draw_cases(
        flips,
        [sample],
        Path("data"),
        tmp_path / "colour.npy",
        models[0],
        {"variant": models[1]},
        DECISION,
        Preprocessing((56, 84), colour="rgb"),
        1,
    )
    picture = found["variant", 1]
    assert picture.file == "a.png"
    assert pixels(picture.image).shape == (149, 224, 3)
    assert picture.reference_map == picture.variant_map != picture.image
