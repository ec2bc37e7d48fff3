"""From answers to verdicts, on outputs whose losses are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.data.labelled import Labelled
from medcompress.benchmarks.data.samples import Sample, one_hot
from medcompress.benchmarks.data.subgroups import Grouping
from medcompress.benchmarks.evaluation import Answers
from medcompress.benchmarks.evidence import Evidence
from medcompress.benchmarks.locking import check_rule, locked
from medcompress.benchmarks.progress import console
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.tolerance import OperatingPoint, Tolerance
from medcompress.benchmarks.weighing import weigh
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

DECISION = Decision("binary", ("well", "sick"), "sick")
TOLERANCE = Tolerance(draws=200)
REFERENCE = "reference"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "image.png"
    Image.new("L", (4, 4), 90).save(path)
    return path


def images(picture: Path, labels: np.ndarray, classes: int = 2) -> Labelled:
    samples = tuple(
        Sample(picture, one_hot(int(label), classes), f"patient-{place}") for place, label in enumerate(labels)
    )
    return Labelled(picture, np.array([sample.target for sample in samples], np.int8), samples)


def study(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, half of them sick, and a good model's outputs (count, 2)."""
    rng = np.random.default_rng(7)
    labels = np.arange(count) % 2
    score = rng.standard_normal(count) + 3.2 * labels - 1.6
    return labels, np.stack([-score, score], axis=1).astype(np.float32)


def weighed(
    test: Labelled, reference: np.ndarray, variant: np.ndarray, tolerance: Tolerance = TOLERANCE, decision=DECISION
) -> tuple[Row, Evidence]:
    rows = tuple(Row(name, "onnxruntime", "int8", 1, "measured") for name in (REFERENCE, "variant"))
    answers = Answers(rows, {"test": {REFERENCE: reference, "variant": variant}})
    found, evidence = weigh(answers, REFERENCE, decision, test, None, tolerance)
    assert found[0].status == REFERENCE
    assert [each.variant for each in evidence] == [REFERENCE, "variant"]
    return found[1], evidence[1]


def missing_some(labels: np.ndarray, logits: np.ndarray, share: float) -> np.ndarray:
    """The outputs with that share of the diseased, of those found, just missed."""
    found = np.flatnonzero((labels == 1) & (logits[:, 1] > 0))
    damaged = logits.copy()
    damaged[found[: round(share * (labels == 1).sum())]] = (0.2, -0.2)
    return damaged


def test_the_identical_model_passes_as_identical_however_few_the_images(picture: Path) -> None:
    for count in (20, 600):
        labels, logits = study(count)
        row, evidence = weighed(images(picture, labels), logits, logits * np.float32(1 + 1e-7))
        assert row.status == "pass"
        assert evidence.verdict.identical
        assert not evidence.flips


def test_little_noise_passes_on_many_images_and_is_inconclusive_on_twenty(picture: Path) -> None:
    rng = np.random.default_rng(1)
    for count, outcome in ((20, "inconclusive"), (1200, "pass")):
        labels, logits = study(count)
        noisy = logits + 0.02 * rng.standard_normal(logits.shape).astype(np.float32)
        row, evidence = weighed(images(picture, labels), logits, noisy)
        assert row.status.split(":")[0] == outcome, row.status
        assert not evidence.verdict.identical
        open_ = [each for each in evidence.verdict.criteria if each.outcome == "inconclusive"]
        assert all(each.more_patients for each in open_)


def test_a_fall_of_sensitivity_by_five_points_fails_and_is_told(picture: Path) -> None:
    labels, logits = study(400)
    row, evidence = weighed(images(picture, labels), logits, missing_some(labels, logits, 0.05))
    assert row.status.startswith("fail: ")
    assert "sensitivity of sick falls by 0.0500 (0.03 allowed)" in row.status
    assert {flip.kind for flip in evidence.flips} == {"lost finding"}
    assert len(evidence.flips) == row.flips == 10
    assert evidence.classes[0].sensitivity.lost == 10
    assert all(len(flip.sha256) == 64 for flip in evidence.flips)


def test_every_class_is_held_alone(picture: Path) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(900) % 3
    logits = (rng.standard_normal((900, 3)) + 4 * np.eye(3)[labels]).astype(np.float32)
    damaged = logits.copy()
    of_last = np.flatnonzero((labels == 2) & (logits.argmax(axis=1) == 2))[:12]
    damaged[of_last, 1] = damaged[of_last, 2] + 0.1
    decision = Decision("multiclass", ("a", "b", "c"))
    row, evidence = weighed(images(picture, labels, 3), logits, damaged, decision=decision)
    assert "sensitivity of c falls by 0.04" in row.status
    assert [each.name for each in evidence.classes] == ["a", "b", "c"]
    assert evidence.classes[2].sensitivity.p_adjusted is not None


def test_one_image_of_huge_outputs_makes_nothing_identical(picture: Path) -> None:
    labels, logits = study(400)
    logits[0] = (4e4, -4e4)
    other = logits.copy()
    other[1:] *= 1.5  # moves no answer
    _, evidence = weighed(images(picture, labels), logits, other)
    assert not evidence.flips
    assert not evidence.verdict.identical


def test_images_of_unknown_truth_count_nowhere_but_among_the_changed(picture: Path) -> None:
    labels, logits = study(400)
    test = images(picture, labels)
    target = test.target.copy()
    target[:50] = -1
    unknown = Labelled(picture, target, test.samples)
    flipped = logits.copy()
    flipped[:50] = flipped[:50, ::-1]
    row, evidence = weighed(unknown, logits, flipped)
    assert (row.flips, evidence.images) == (0, 350)
    assert len(evidence.flips) == 50


def test_groups_are_compared(picture: Path) -> None:
    labels, logits = study(400)
    test = images(picture, labels)
    answers = Answers(
        (Row(REFERENCE, "onnxruntime", "fp32", 1, "measured"), Row("variant", "onnxruntime", "int8", 1, "measured")),
        {"test": {REFERENCE: logits, "variant": missing_some(labels, logits, 0.05)}},
    )
    grouping = Grouping("sex", ("F", "M") * 200, ("F", "M"), ())
    _, evidence = weigh(answers, REFERENCE, DECISION, test, None, TOLERANCE, [grouping])
    assert [(group.by, group.name) for group in evidence[1].groups] == [("sex", "F"), ("sex", "M")]


def test_a_threshold_is_locked_on_validation_and_refused_where_there_is_none(picture: Path) -> None:
    labels, logits = study(400)
    validation = images(picture, labels)
    found = locked(DECISION, Tolerance(threshold=OperatingPoint(sensitivity=0.99)), validation, logits)
    answered = found.answers(found.probabilities(logits))[:, 1]
    assert answered[labels == 1].mean() >= 0.99
    assert found.threshold < 0.5
    assert locked(DECISION, Tolerance(threshold=0.3), None, None).threshold == 0.3
    assert locked(DECISION, Tolerance(), None, None) == DECISION
    sharper = locked(DECISION, Tolerance(temperature="refit"), validation, logits * 5)
    assert sharper.temperature > 2
    # The answers are kept: the threshold moves with the temperature.
    kept = locked(
        Decision("binary", ("well", "sick"), "sick", threshold=0.1), Tolerance(temperature="refit"), validation, logits
    )
    before = Decision("binary", ("well", "sick"), "sick", threshold=0.1)
    assert kept.temperature != 1
    answers = (each.answers(each.probabilities(logits)) for each in (before, kept))
    assert np.array_equal(*answers)
    with pytest.raises(DataError, match="validation images, and there are none"):
        locked(DECISION, Tolerance(threshold="youden"), None, None)
    with pytest.raises(DataError, match="the likeliest is the answer"):
        check_rule(Decision("multiclass", ("a", "b", "c")), 0.3)
