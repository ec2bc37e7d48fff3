"""A model is judged on its own held-out images, wherever they lie now, or on others; what flatters is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import torch
from PIL import Image

from medcompress.benchmarks.data.samples import Sample, pixel_hashes
from medcompress.benchmarks.statistics.metrics import scores, truth
from medcompress.runtime.errors import CheckpointError, DataError, InputError
from medcompress.trained.checkpoint import load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.datasets import ImageDataset
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.networks.prediction import predict
from medcompress.trained.results.comparison import compare
from medcompress.trained.results.evaluation import evaluate
from medcompress.trained.results.explained import explain_part
from medcompress.trained.results.run_report import read_run


def test_a_checkpoint_is_judged_on_its_test_images(checkpoint: Path, tmp_path: Path) -> None:
    found = evaluate(checkpoint, out=tmp_path / "left", draws=20)
    stored = load_checkpoint(checkpoint)
    decision = stored.spec.decision
    test = split_of(stored.data, decision.classes).test
    logits = predict(rebuild(stored), ImageDataset(test, stored.spec.preprocessing))
    expected = scores(decision, truth([sample.target for sample in test], decision), logits).figures()
    figures = found.report.parts["test"].figures
    assert {name: figures[name].value for name in expected} == pytest.approx(expected)
    assert not found.report.warnings
    report, parts = read_run(tmp_path / "left")
    assert report == found.report
    assert parts["test"].patients[0].startswith("test:patient")


def test_images_that_moved_are_the_same_images(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(phantoms, tmp_path / "moved"))
    first, second = evaluate(checkpoint, out=tmp_path / "a"), evaluate(checkpoint, moved, out=tmp_path / "b")
    assert first.report.parts == second.report.parts
    assert not second.report.warnings
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.rows[1].difference is not None and found.rows[1].difference.value == 0


def test_a_set_with_a_table_moves_whole(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    """The table lies within the data: where they moved, so did it."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = ["file,label,patient"]
    for image in sorted(phantoms.rglob("*.png")):
        shutil.copy(image, data / "images")
        rows.append(f"{image.name},{image.parent.name},{image.stem.split('-')[0]}")
    (data / "labels.csv").write_text("\n".join(rows))
    stored = load_checkpoint(checkpoint)
    source = DataSource(str(data), table=str(data / "labels.csv"))
    fingerprint = split_of(source, stored.spec.decision.classes).fingerprint
    of_table = tmp_path / "best.pth"
    save_checkpoint(of_table, dataclasses.replace(stored, data=source, split=fingerprint))
    before = evaluate(of_table, draws=0).report
    data.rename(tmp_path / "moved")
    found = evaluate(of_table, tmp_path / "moved", draws=0).report
    assert found.parts == before.parts and found.data.split == fingerprint
    assert not found.warnings
    if find_spec("pytorch_grad_cam"):
        _, sheets = explain_part(of_table, tmp_path / "sheets", tmp_path / "moved", per_class=1)
        (row,) = sheets[tmp_path / "sheets" / "SYNTHETIC-CLEAR.png"]
        assert row.path.is_relative_to(tmp_path / "moved")


@pytest.mark.parametrize("part", ["train", "val", "all"])
def test_images_the_model_learned_from_are_told(checkpoint: Path, part: str) -> None:
    found = evaluate(checkpoint, part=part, draws=0)
    assert list(found.report.parts) == [part]
    assert "flatter" in found.report.warnings[0]


def test_other_images_are_judged_all(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(phantoms / "val", tmp_path / "other"))
    count = len(list(other.rglob("*.png")))
    found = evaluate(checkpoint, other, draws=0)
    assert (found.part, found.report.parts["test"].images) == ("test", count)
    assert found.report.parts["test"].patients < count
    lone = next(iter(sorted(other.rglob("*.png"))))
    lone.rename(lone.with_name("nobody.png"))
    warnings = evaluate(checkpoint, other, draws=0).report.warnings
    assert warnings[0].startswith(f"{count} of the {count} images judged trained this model or chose its epoch")
    assert "1 file(s) name no patient" in warnings[1]


def test_training_images_are_known_by_their_pixels(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    """Under other names, in another format and another split; images of its own test part are not meant."""
    other = tmp_path / "other"
    for part, name in (("train", "SYNTHETIC-CLEAR"), ("train", "SYNTHETIC-OPACITY"), ("test", "SYNTHETIC-CLEAR")):
        (other / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(sorted((phantoms / part / name).glob("*.png"))[:3]):
            Image.open(image).save(other / name / f"patient{part}{number}.tiff")
    found = evaluate(checkpoint, other, draws=0).report
    told = "6 of the 9 images judged trained this model or chose its epoch: the figures flatter"
    assert found.warnings[0] == told
    own = Path(shutil.copytree(phantoms / "test", tmp_path / "test"))
    assert not evaluate(checkpoint, own, draws=0).report.warnings


def test_training_images_that_are_gone_are_told(phantoms: Path, checkpoint: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(checkpoint)
    gone = msgspec.structs.replace(stored.data, folder=str(tmp_path / "gone"))
    save_checkpoint(tmp_path / "best.pth", dataclasses.replace(stored, data=gone))
    other = Path(shutil.copytree(phantoms / "test", tmp_path / "other"))
    assert "not to be found" in evaluate(tmp_path / "best.pth", other, draws=0).report.warnings[0]
    # In another split, but they are these: so they are found.
    drawn = tmp_path / "drawn"
    for part in ("train", "test"):
        shutil.copytree(phantoms / part, drawn, dirs_exist_ok=True)
    source = msgspec.structs.replace(gone, seed=5, folder=str(drawn))
    trained = dataclasses.replace(stored, data=gone, split=split_of(DataSource(str(drawn))).fingerprint)
    save_checkpoint(tmp_path / "best.pth", trained)
    assert "chose its epoch" in evaluate(tmp_path / "best.pth", draws=0, source=source).report.warnings[0]


def test_a_run_carries_its_own_warnings(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint, tmp_path / "best.pth")
    (tmp_path / "warnings.json").write_text('["3 pictures have two labels"]')
    assert evaluate(tmp_path, draws=0).report.warnings == ("of its training: 3 pictures have two labels",)
    (tmp_path / "resume.ckpt").touch()
    assert "not finished" in evaluate(tmp_path, draws=0).report.warnings[0]


def test_a_folder_of_folds_names_them(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("fold-1", "fold-2"):
        (tmp_path / name).mkdir()
        shutil.copy(checkpoint, tmp_path / name)
    with pytest.raises(InputError, match=r"fold-1, fold-2.*name one, as .*fold-1"):
        evaluate(tmp_path)


def test_the_table_beside_other_images_is_named(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    """A table outside of the data stays where it is; another beside new images may be meant."""
    rows = [f"{i.name},{i.parent.name}" for i in sorted(phantoms.rglob("*.png"))]
    table = tmp_path / "all.csv"
    table.write_text("\n".join(["file,label", *rows]))
    stored = load_checkpoint(checkpoint)
    trained = tmp_path / "run" / "best.pth"
    trained.parent.mkdir()
    save_checkpoint(trained, dataclasses.replace(stored, data=DataSource(str(phantoms), table=str(table))))
    other = tmp_path / "other"
    other.mkdir()
    for image in phantoms.rglob("*.png"):
        shutil.copy(image, other)
    assert not any("--table" in told for told in evaluate(trained, other, draws=0).report.warnings)
    shutil.copy(table, other / "labels.csv")
    assert any("--table" in told for told in evaluate(trained, other, draws=0).report.warnings)


def test_images_that_changed_are_told(phantoms: Path, checkpoint: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(checkpoint)
    moved = Path(shutil.copytree(phantoms, tmp_path / "data"))
    payload = torch.load(checkpoint, weights_only=True)
    payload["data"]["folder"] = str(moved)
    torch.save(payload, tmp_path / "best.pth")
    assert not evaluate(tmp_path / "best.pth", draws=0).report.warnings
    next(iter(sorted((moved / "train").rglob("*.png")))).unlink()
    assert "may have trained it" in evaluate(tmp_path / "best.pth", draws=0).report.warnings[0]
    shutil.rmtree(moved)
    with pytest.raises(DataError, match="--data"):
        evaluate(tmp_path / "best.pth", draws=0)
    assert stored.data.folder != str(moved)


def test_bad_input_is_refused(checkpoint: Path, phantoms: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(phantoms / "test", tmp_path / "other"))
    (other / "SYNTHETIC-OPACITY").rename(other / "PNEUMONIA")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="PNEUMONIA"):
        evaluate(checkpoint, other)
    with pytest.raises(DataError, match="empty"):
        evaluate(checkpoint, empty)
    with pytest.raises(InputError, match="no bundle"):
        evaluate(empty)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        evaluate(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="ONNX"):
        evaluate(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="--variant"):
        evaluate(checkpoint, variant="onnxruntime-fp32")
    (empty / "options.json").touch()
    with pytest.raises(InputError, match="another --out"):
        evaluate(checkpoint, out=empty)
    image = next(iter((phantoms / "test").rglob("*.png")))
    shutil.rmtree(other)
    shutil.copytree(phantoms / "test", other)
    (other / "SYNTHETIC-CLEAR" / "broken.png").write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=r"broken\.png"):
        evaluate(checkpoint, other)


def test_a_bundle_is_judged_without_torch(pristine_bundle: Path, checkpoint: Path, phantoms: Path) -> None:
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom medcompress.trained.results.evaluation import evaluate\n"
        "found = evaluate(Path(sys.argv[1]), Path(sys.argv[2]), variant='onnxruntime-fp32', draws=0)\n"
        "assert 'torch' not in sys.modules\n"
        "assert not found.report.warnings, found.report.warnings\n"
        "print(json.dumps({n: f.value for n, f in found.report.parts['test'].figures.items()}))"
    )
    command = [sys.executable, "-c", code, str(pristine_bundle), str(phantoms)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    expected = evaluate(checkpoint, draws=0).report.parts["test"].figures
    for name, value in json.loads(done.stdout.splitlines()[-1]).items():
        assert value == pytest.approx(expected[name].value, abs=1e-4), name


def test_a_bundle_needs_images_and_says_what_it_does_not_know(
    pristine_bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--data"):
        evaluate(pristine_bundle)
    found = evaluate(pristine_bundle, phantoms / "val", draws=0)
    assert "does not know" in found.report.warnings[0]
    calibrated = {*json.loads((pristine_bundle / "calibration.json").read_text())["sha256"]}
    train = [sample for name in ("SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY") for sample in _samples(phantoms, name)]
    expected = sum(digest in calibrated for digest in pixel_hashes(train))
    moved = Path(shutil.copytree(phantoms / "train", tmp_path / "moved"))
    told = evaluate(pristine_bundle, moved, draws=0).report.warnings[0]
    assert told.startswith(f"{expected} of the {len(train)} images judged calibrated this bundle") and expected


def _samples(phantoms: Path, name: str) -> list[Sample]:
    return [Sample(path, (1, 0), "") for path in (phantoms / "train" / name).glob("*.png")]
