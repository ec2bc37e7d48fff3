from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

from medcompress.cli.predict import command
from medcompress.runtime import load
from medcompress.runtime.bundle import GUARD_FILE, MANIFEST, Manifest, open_bundle
from medcompress.runtime.errors import BundleError, ImageRefused
from medcompress.runtime.guard import MIRRORED
from medcompress.runtime.learned import Learned, read_learned
from medcompress.runtime.predictor import Predictor
from medcompress.runtime.records import from_json, to_json
from medcompress.runtime.sealing import seal
from medcompress.runtime.sight import MEASURES, POSTURES, SIDE, TEXTURE, UNDONE_BY, observe, posed

Pixels = np.ndarray
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


@pytest.fixture(scope="module")
def predictor(pristine_bundle: Path) -> Predictor:
    return load(pristine_bundle)


@pytest.fixture(scope="module")
def learned(pristine_bundle: Path) -> Learned:
    return read_learned((pristine_bundle / GUARD_FILE).read_bytes(), "guard.npz")


def test_the_models_own_test_images_are_answered(predictor: Predictor, phantoms: Path) -> None:
    paths = sorted((phantoms / "test").rglob("*.png"))
    answers = predictor.predict_batch(paths)
    assert len(answers) == len(paths) > 10
    assert all(answer.cautions == () for answer in answers)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pixels: pixels[::-1, ::-1], "it looks upside down; turn it"),
        (lambda pixels: pixels[::-1], "it looks flipped, top for bottom"),
        (lambda pixels: np.rot90(pixels), "turned by a quarter to the left"),
        (lambda pixels: np.rot90(pixels, -1), "turned by a quarter to the right"),
        (lambda pixels: 255 - pixels, "it looks like a negative"),
        (lambda pixels: pixels // 8, "too dark"),
        (lambda pixels: np.zeros_like(pixels), "it is blank, black"),
        (lambda pixels: np.full_like(pixels, 200), "it is blank, of one grey level"),
        (lambda pixels: NOISE, "it shows something else"),
        (lambda pixels: np.stack([pixels, pixels // 2, pixels // 3], axis=2), "colours"),
        (lambda pixels: pixels[::4, ::4], "too few pixels"),
    ],
)
def test_what_is_wrong_is_refused_and_said(
    predictor: Predictor, image: Path, change: Callable[[Pixels], Pixels], reason: str
) -> None:
    pixels = np.asarray(Image.open(image))
    with pytest.raises(ImageRefused, match="does not look like the images this model was made for") as refused:
        predictor.predict(change(pixels))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_blurred_and_noisy_images_are_refused(predictor: Predictor, image: Path) -> None:
    pixels = Image.open(image)
    with pytest.raises(ImageRefused, match="blurred"):
        predictor.predict(pixels.filter(ImageFilter.GaussianBlur(1.5)))
    grain = np.random.default_rng(1).normal(0, 40, (64, 64))
    with pytest.raises(ImageRefused, match=r"noisy|grain"):
        predictor.predict(np.clip(np.asarray(pixels) + grain, 0, 255).astype(np.uint8))


def test_a_mirrored_image_is_told_of(predictor: Predictor, pristine_bundle: Path, phantoms: Path) -> None:
    mirrored = [np.asarray(Image.open(path))[:, ::-1] for path in sorted((phantoms / "test").rglob("*.png"))]
    told = ["".join(answer.cautions) for answer in load(pristine_bundle, guard="flag").predict_batch(mirrored)]
    assert sum("mirrored" in caution for caution in told) > len(told) / 2
    assert all("mirrored" in caution for caution in told if caution)
    # These have few images to learn from: some are refused, and those that are not carry the caution.
    kept = [pixels for pixels, caution in zip(mirrored, told, strict=True) if caution == MIRRORED]
    assert all(predictor.predict(pixels).cautions == (MIRRORED,) for pixels in kept)


def test_the_same_image_larger_in_colour_and_as_jpeg_is_answered(
    predictor: Predictor, image: Path, tmp_path: Path
) -> None:
    whole = Image.open(image).convert("RGB")
    whole.resize((640, 640), Image.Resampling.BICUBIC).save(tmp_path / "large.jpeg", quality=90)
    assert predictor.predict(tmp_path / "large.jpeg").label
    assert predictor.predict(whole).label


def test_policy(pristine_bundle: Path, image: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(image))[::-1, ::-1]
    flagged, unguarded = load(pristine_bundle, guard="flag"), load(pristine_bundle, guard="off")
    (caution,) = flagged.predict(pixels).cautions
    assert "upside down" in caution
    assert unguarded.predict(pixels).cautions == ()
    assert unguarded.predict(pixels).probabilities == flagged.predict(pixels).probabilities
    Image.fromarray(pixels).save(tmp_path / "turned.png")
    files = [str(pristine_bundle), str(image), str(tmp_path / "turned.png"), "--json"]
    refusing = CliRunner().invoke(command, files)
    flagging = CliRunner().invoke(command, [*files, "--guard", "flag"])
    right, wrong = json.loads(refusing.stdout)["results"]
    assert (
        right["label"] and "label" not in wrong and "turned.png" in wrong["error"] and "upside down" in wrong["error"]
    )
    assert "upside down" in json.loads(flagging.stdout)["results"][1]["cautions"][0]


def test_the_manifest_says_what_the_guard_refuses(pristine_bundle: Path, phantoms: Path) -> None:
    manifest = open_bundle(pristine_bundle).manifest
    guard = manifest.guard
    assert guard is not None
    assert guard.held_out == len(list((phantoms / "test").rglob("*.png")))
    assert guard.interval[0] <= guard.refused / guard.held_out <= guard.interval[1]
    assert guard.detected["upside down"] == guard.detected["negative"] == 1.0
    assert from_json(to_json(manifest), Manifest, "manifest") == manifest
    assert "input guard" in (pristine_bundle / "model_card.md").read_text(encoding="utf-8")


def test_a_bundle_without_a_guard_answers_everything(bundle: Path) -> None:
    manifest = msgspec.structs.replace(open_bundle(bundle).manifest, guard=None)
    (bundle / GUARD_FILE).unlink()
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)
    assert load(bundle).predict(NOISE).label


def test_what_was_learned_survives_its_file_and_a_damaged_one_is_refused(bundle: Path, learned: Learned) -> None:
    again = read_learned(learned.to_bytes(), "guard.npz")
    seen = observe(Image.fromarray(NOISE), NOISE)
    arguments = seen.thumbnail[None], seen.texture[None], seen.measures[None]
    assert np.array_equal(again.oddness(*arguments), learned.oddness(*arguments))
    (bundle / GUARD_FILE).write_bytes(learned.to_bytes()[:-40])
    with pytest.raises(BundleError, match=r"guard\.npz"):
        load(bundle)
    manifest = open_bundle(bundle).manifest
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)
    with pytest.raises(BundleError, match="not what a guard learned"):
        load(bundle)
    assert load(bundle, guard="off").predict(NOISE).label


def test_what_is_seen_of_any_shape_is_numbers() -> None:
    for image in (Image.new("L", (1, 1), 7), Image.new("RGB", (3000, 1), (9, 200, 30)), Image.new("L", (5, 900), 255)):
        for pixels in (np.asarray(image.resize((48, 48))), np.asarray(image.resize((3, 1)))):
            seen = observe(image, pixels)
            assert seen.thumbnail.shape == (SIDE * SIDE,) and seen.texture.shape == (TEXTURE,)
            assert seen.measures.shape == (len(MEASURES),)
            assert all(np.isfinite(each).all() for each in seen)


def test_each_posture_is_undone_by_another() -> None:
    seen = np.random.default_rng(0).normal(size=(3, SIDE * SIDE)).astype(np.float32)
    for name in POSTURES:
        assert not np.array_equal(posed(seen, name), seen)
        assert np.array_equal(posed(posed(seen, name), UNDONE_BY[name]), seen)
    # A thumbnail of a turned image is the turned thumbnail.
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    upright, turned = (observe(Image.fromarray(each), each) for each in (pixels, np.rot90(pixels).copy()))
    assert np.allclose(posed(upright.thumbnail[None], "turned left")[0], turned.thumbnail, atol=0.1)
