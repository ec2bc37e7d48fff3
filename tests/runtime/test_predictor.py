from __future__ import annotations

import io
import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime import load
from medcompress.runtime.bundle import GOLDEN_FILE, MANIFEST, open_bundle
from medcompress.runtime.errors import EngineError, ImageError
from medcompress.runtime.golden import read_golden
from medcompress.runtime.hardware import Cpu, this_cpu
from medcompress.runtime.sealing import seal
from medcompress.runtime.selftest import verify
from medcompress.runtime.variants import by_preference

WITHOUT_VNNI = Cpu("an older CPU", "x86_64", ("avx2",), 1)


def reseal(bundle: Path) -> None:
    """Make the manifest agree with files a test changed on purpose."""
    manifest = open_bundle(bundle).manifest
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)


def test_answers_for_paths_bytes_arrays_and_pil_images_agree(pristine_bundle: Path, image: Path) -> None:
    predictor = load(pristine_bundle)
    pixels = np.asarray(Image.open(image))
    answers = [
        predictor.predict(source) for source in (image, str(image), image.read_bytes(), pixels, Image.open(image))
    ]
    assert len({json.dumps(answer.probabilities) for answer in answers}) == 1
    answer = answers[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label in answer.probabilities
    assert answer.labels == (answer.label,)
    assert answer.time_ms["total"] >= answer.time_ms["engine"] > 0


def test_a_batch_answers_as_single_images_do(pristine_bundle: Path, phantoms: Path) -> None:
    images = sorted((phantoms / "test").rglob("*.png")) * 3
    assert len(images) > 32, "more than one chunk"
    predictor = load(pristine_bundle, variant="onnxruntime-fp32")
    single = [predictor.predict(image).probabilities["SYNTHETIC-OPACITY"] for image in images]
    batch = [answer.probabilities["SYNTHETIC-OPACITY"] for answer in predictor.predict_batch(images)]
    assert np.allclose(single, batch, atol=1e-5)
    assert predictor.predict_batch([]) == []


@pytest.mark.parametrize("variant", ["onnxruntime-int8-avx2", "openvino-int8-avx2", "openvino-fp32"])
def test_eight_threads_at_once_get_their_own_answers(pristine_bundle: Path, phantoms: Path, variant: str) -> None:
    images = sorted((phantoms / "test").rglob("*.png"))
    predictor = load(pristine_bundle, variant=variant)
    expected = [predictor.predict(image).probabilities for image in images]
    with ThreadPoolExecutor(8) as pool:
        assert [answer.probabilities for answer in pool.map(predictor.predict, images * 8)] == expected * 8


@pytest.mark.parametrize("name", ["onnxruntime-fp32", "onnxruntime-int8-avx2", "openvino-fp32", "openvino-int8-avx2"])
def test_every_variant_says_what_it_executes(pristine_bundle: Path, image: Path, name: str) -> None:
    predictor = load(pristine_bundle, variant=name, threads=1)
    engine, precision = name.split("-")[:2]
    assert predictor.executed.engine.startswith(engine)
    assert predictor.executed.precision == precision
    assert predictor.executed.threads == 1
    assert predictor.predict(image).variant == name
    predictor.close()
    with pytest.raises(EngineError, match="closed"):
        predictor.predict(image)


def test_a_cpu_without_vnni_gets_no_full_range_variant(
    pristine_bundle: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medcompress.runtime.variants.this_cpu", lambda: WITHOUT_VNNI)
    monkeypatch.setattr("medcompress.runtime.selftest.this_cpu", lambda: WITHOUT_VNNI)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = load(pristine_bundle)
    assert not predictor.variant.requires
    assert predictor.predict(image).label
    monkeypatch.setattr(sys, "frozen", True, raising=False)  # in this process, where the CPU is that one
    checks = {check.name: check for check in verify(pristine_bundle).variants}
    assert all(check.ok != name.endswith(("vnni", "bf16")) for name, check in checks.items())
    if "onnxruntime-int8-vnni" in checks:
        assert "needs a CPU with vnni" in checks["onnxruntime-int8-vnni"].status
        with pytest.raises(EngineError, match="needs a CPU with vnni"):
            load(pristine_bundle, variant="onnxruntime-int8-vnni")


def test_a_variant_whose_golden_outputs_differ_is_passed_over_with_a_warning(bundle: Path, image: Path) -> None:
    opened = open_bundle(bundle)
    golden = read_golden(opened)
    first = next(variant.name for variant in by_preference(opened) if not this_cpu().lacks(variant.requires))
    logits = dict(golden.logits)
    logits[first] = logits[first] + 1.0
    changed = type(golden)(golden.inputs, logits, golden.picture, golden.rendered)
    (bundle / GOLDEN_FILE).write_bytes(changed.to_bytes())
    reseal(bundle)
    with pytest.warns(RuntimeWarning, match=first):
        predictor = load(bundle)
    assert predictor.variant.name != first
    assert first in predictor.setbacks[0]
    assert predictor.predict(image).label
    found = verify(bundle)
    assert found.runs == predictor.variant.name
    assert not next(check for check in found.variants if check.name == first).ok


def test_where_nothing_runs_faithfully_the_error_says_why_for_each(bundle: Path) -> None:
    golden = read_golden(open_bundle(bundle))
    logits = {name: values * 3 + 2 for name, values in golden.logits.items()}
    changed = type(golden)(golden.inputs, logits, golden.picture, golden.rendered)
    (bundle / GOLDEN_FILE).write_bytes(changed.to_bytes())
    reseal(bundle)
    with pytest.raises(EngineError, match="no variant runs on this machine") as error:
        load(bundle)
    assert all(name in str(error.value) for name in logits)
    assert verify(bundle).runs is None


def test_another_decoder_is_noticed(bundle: Path) -> None:
    golden = read_golden(open_bundle(bundle))
    changed = type(golden)(golden.inputs, golden.logits, golden.picture, golden.rendered ^ 8)
    (bundle / GOLDEN_FILE).write_bytes(changed.to_bytes())
    reseal(bundle)
    with pytest.raises(EngineError, match="grey levels"):
        load(bundle)
    assert verify(bundle).runs is None


def test_an_engine_that_is_not_installed_is_passed_over(
    pristine_bundle: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "medcompress.runtime.engines.openvino_engine", None)
    # For the process that tries the variants.
    (tmp_path / "openvino.py").write_text("raise ImportError('No module named openvino')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    checks = verify(pristine_bundle).variants
    assert {check.name for check in checks if not check.ok} == {
        check.name for check in checks if check.name.startswith("openvino")
    }
    assert load(pristine_bundle).predict(image).variant.startswith("onnxruntime")


def test_golden_inputs_are_nobodys_images(pristine_bundle: Path, phantoms: Path) -> None:
    golden = read_golden(open_bundle(pristine_bundle))
    prepare = open_bundle(pristine_bundle).manifest.preprocessing
    for path in phantoms.rglob("*.png"):
        rendered = prepare.render(path).astype(int)
        assert min(np.abs(rendered - pixels).mean() for pixels in golden.inputs) > 2


def test_a_refused_image_is_named(pristine_bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpeg"
    bad.write_bytes(b"no")
    predictor = load(pristine_bundle)
    with pytest.raises(ImageError, match=r"bad\.jpeg"):
        predictor.predict_batch([bad])


def test_an_image_of_any_shape_is_answered(pristine_bundle: Path) -> None:
    predictor = load(pristine_bundle, guard="off")
    for size in [(1, 1), (1, 3000), (3000, 1), (17, 5)]:
        buffer = io.BytesIO()
        Image.new("L", size, 77).save(buffer, "PNG")
        assert predictor.predict(buffer.getvalue()).label
