"""Heat maps at the kiosk: torch's, beside the same answer; nothing is loaded until one is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medcompress.cli.main import run
from medcompress.cli.predict import command
from medcompress.runtime.bundle import MANIFEST, Manifest, open_bundle
from medcompress.runtime.errors import EngineError, InputError
from medcompress.runtime.explanation import PARITY, explained_class, heat_map, weigh_all
from medcompress.runtime.overlay import overlay
from medcompress.runtime.predictor import Predictor, load
from medcompress.runtime.records import from_json, to_json
from medcompress.runtime.selftest import self_test

# Of the largest value of any map.
INT8_DIFFERENCE = 0.1


def test_every_variant_is_explained_as_torch_explains_it(
    pristine_bundle: Path, checkpoint: Path, phantoms: Path
) -> None:
    from medcompress.trained.checkpoint import load_checkpoint, rebuild
    from medcompress.trained.results.explanation import explain

    stored = load_checkpoint(checkpoint)
    images = sorted((phantoms / "test").rglob("*.png"))[:6]
    pixels = np.stack([stored.spec.preprocessing.render(image) for image in images])
    network, classes = rebuild(stored), stored.spec.decision.classes
    manifest = open_bundle(pristine_bundle).manifest
    assert len(manifest.variants) > 2
    batch = np.stack([stored.spec.preprocessing.normalize(each) for each in pixels])
    weighed: dict[str, np.ndarray] = {}
    for variant in manifest.variants:
        predictor = load(pristine_bundle, variant=variant.name)
        plain, found = predictor.predict_batch(images), predictor.predict_batch(images, explain=True)
        for without, explained in zip(plain, found, strict=True):
            assert without.heat is None and without.explained is None
            assert explained.probabilities == without.probabilities
            assert explained.explained == explained.label
            assert explained.heat is not None and explained.heat.shape == (48, 48)
            assert explained.heat.dtype == np.float32
            assert "explain" in explained.time_ms and "explain" not in without.time_ms
        assert variant.explanation is not None
        if variant.precision == "fp32":
            answered = [classes.index(each.explained or "") for each in found]
            expected = explain(network, stored.spec, pixels, answered)
            np.testing.assert_allclose(np.stack([each.heat for each in found]), expected, atol=PARITY)  # pyright: ignore
            assert variant.explanation.off <= PARITY
        # Before they are rectified and scaled: of an untrained network's map that may leave next to nothing.
        explainer = predictor._explainers.of(predictor._variants.running)
        assert explainer.faithful
        weighed[variant.name] = weigh_all(explainer, batch, np.tile(np.float32([0, 1]), (len(batch), 1)))
        predictor.close()
    reference = weighed[manifest.reference]
    for name, maps in weighed.items():
        assert np.abs(maps - reference).max() < INT8_DIFFERENCE * np.abs(reference).max(), name


def test_a_bundle_without_explanations_says_so_and_still_answers(bundle: Path, image: Path) -> None:
    _change(bundle, explanation=None)
    predictor = load(bundle)
    assert predictor.predict(image).heat is None
    with pytest.raises(InputError, match=r"holds no explanation of .*medcompress optimize"):
        predictor.predict(image, explain=True)


def test_a_graph_that_was_changed_makes_no_heat_map_and_the_answer_comes_all_the_same(
    bundle: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = load(bundle)
    explanation = predictor.variant.explanation
    assert explanation is not None
    graph = bundle / explanation.graph
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    _is_unexplained(predictor, image, "was changed")
    assert run(["predict", str(bundle), str(image), "--heat", str(tmp_path / "heat")]) == 3
    said = capsys.readouterr()
    assert image.stem in said.out
    assert "no heat map: " in said.err
    assert not list((tmp_path / "heat").iterdir())


@pytest.mark.parametrize("place", ["model", "graph"])
def test_a_file_of_an_explanation_swapped_while_it_is_opened_is_refused(
    place: str, bundle: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medcompress.runtime import explanation

    real, swapped = explanation.load_engine, []

    def late(engine: str, files: list[Path], *rest: object) -> object:
        path = files[0] if place == "model" else bundle / shown.graph
        swapped.append(path)
        path.rename(path.with_name("kept"))
        path.write_bytes(path.with_name("kept").read_bytes())
        return real(engine, files, *rest)  # type: ignore[arg-type]

    predictor = load(bundle)
    shown = predictor.variant.explanation
    assert shown is not None
    monkeypatch.setattr(explanation, "load_engine", late)
    _is_unexplained(predictor, image, "was changed while it was opened")
    assert swapped


def test_heat_maps_that_are_not_those_of_the_build_machine_are_not_shown(bundle: Path, image: Path) -> None:
    stored = open_bundle(bundle).manifest.variant("onnxruntime-fp32").explanation
    assert stored is not None
    # Another tensor of the same shape, as another network's graph would take.
    _change(bundle, explanation=msgspec.structs.replace(stored, tensors=("add_318",)))
    _is_unexplained(load(bundle, variant="onnxruntime-fp32"), image, r"heat maps .* are off")
    checks = {check.name: check for check in self_test(open_bundle(bundle)).variants}
    assert checks["onnxruntime-fp32"].ok
    assert "are off by" in checks["onnxruntime-fp32"].heat


def test_an_explainer_that_fails_costs_the_heat_map_and_not_its_variant(
    pristine_bundle: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(pristine_bundle)
    before = predictor.predict(image, explain=True)
    assert before.heat is not None
    loaded = predictor._explainers._loaded
    assert loaded is not None
    loaded[1]._engine.close()
    _is_unexplained(predictor, image, "closed")
    monkeypatch.setattr("medcompress.runtime.explanation.load_engine", None)  # any call of it fails
    _is_unexplained(predictor, image, "closed")
    assert predictor.predict(image).variant == before.variant
    # The graph alone.
    other = load(pristine_bundle)
    monkeypatch.undo()
    other.predict(image, explain=True)
    explainer = other._explainers._loaded[1]  # type: ignore[index]

    def broken(_: object) -> np.ndarray:
        raise EngineError("its graph fails")

    explainer._weigh = broken
    _is_unexplained(other, image, "its graph fails")


def _is_unexplained(predictor: Predictor, image: Path, why: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, found = predictor.predict(image), predictor.predict(image, explain=True)
    assert found.heat is None and found.explained is None
    assert re.search(why, found.unexplained)
    assert found.probabilities == plain.probabilities
    assert (found.variant, predictor.setbacks) == (plain.variant, load(predictor.bundle.folder).setbacks)
    assert found.cautions == ("its heat map could not be made",)
    assert found.reasons[0].code == "no-heat-map"


def test_a_heat_map_is_scaled_as_the_grad_cam_library_does() -> None:
    from pytorch_grad_cam.utils.image import scale_cam_image

    rng = np.random.default_rng(0)
    for grid, size in (((3, 3), (48, 48)), ((7, 5), (60, 41)), ((2, 2), (9, 9)), ((12, 12), (12, 12))):
        weighed = rng.normal(size=grid).astype(np.float32)
        once = scale_cam_image(np.maximum(weighed, 0)[None], size[::-1])
        np.testing.assert_allclose(heat_map(weighed, size), scale_cam_image(once)[0], atol=1e-5)
    assert not heat_map(np.full((3, 3), -1, np.float32), (48, 48)).any()


def test_of_findings_the_likeliest_is_explained_and_of_two_classes_the_answer() -> None:
    from medcompress.runtime.decision import Decision

    findings = Decision("multilabel", ("a", "b", "c"))
    assert explained_class(findings, np.array([0.1, 0.3, 0.2])) == 1
    rare = Decision("binary", ("no", "yes"), "yes", threshold=0.1)
    assert explained_class(rare, np.array([0.8, 0.2])) == 1


def test_nothing_heavy_is_loaded_for_a_heat_map_and_nothing_at_all_without_one(
    pristine_bundle: Path, image: Path
) -> None:
    code = (
        "import sys; from medcompress.runtime.predictor import load;"
        f"p = load({str(pristine_bundle)!r}, variant='onnxruntime-int8-avx2'); p.predict({str(image)!r});"
        "assert p._explainers._loaded is None;"
        f"assert p.predict({str(image)!r}, explain=True).heat is not None;"
        "print([name for name in ('torch', 'onnx', 'openvino', 'cv2', 'scipy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_predict_writes_pictures(pristine_bundle: Path, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "heat"
    ran = CliRunner().invoke(command, [str(pristine_bundle), str(image), "--heat", str(folder)], catch_exceptions=False)
    assert image.stem in ran.output
    with Image.open(folder / f"{image.stem}-heat.png") as picture:
        assert picture.mode == "RGB" and max(picture.size) >= 512
    with pytest.raises(InputError, match="give them one by one"):
        arguments = [str(pristine_bundle), str(image), str(image), "--heat", str(folder)]
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_an_overlay_leaves_the_cold_as_it_is() -> None:
    pixels, heat = np.full((64, 64), 100, np.uint8), np.zeros((64, 64), np.float32)
    heat[:, 32:] = 1
    picture = np.asarray(overlay(pixels, heat))
    assert (picture[:, :200] == 100).all()
    assert (picture[:, -200:, 0] > 190).all() and (picture[:, -200:, 2] < picture[:, -200:, 0]).all()


def _change(bundle: Path, **changes: object) -> None:
    """Other variants in the manifest, as an older bundle has."""
    path = bundle / MANIFEST
    manifest = from_json(path.read_bytes(), Manifest, str(path))
    variants = tuple(msgspec.structs.replace(variant, **changes) for variant in manifest.variants)
    path.write_bytes(to_json(msgspec.structs.replace(manifest, variants=variants)))
