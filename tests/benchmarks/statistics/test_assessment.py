"""Figures are scikit-learn's, their draws those of the images repeated, and odd inputs have defined answers."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from sklearn import metrics as sk

from medcompress.benchmarks.statistics.assessment import DRAWS, Assessment, _figure, assess_judged, mean_figures
from medcompress.benchmarks.statistics.judged import Judged, judged, reliability
from medcompress.benchmarks.statistics.measures import OF_CLASS, OVERALL, Figures, class_values, overall_values
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError
from medcompress.runtime.records import from_json, to_json

BINARY = Decision("binary", ("SICK", "WELL"), "SICK", threshold=0.4)
SEVERAL = Decision("multiclass", ("A", "B", "C", "D"))
FINDINGS = Decision("multilabel", ("EDEMA", "FRACTURE", "MASS"))
KINDS = pytest.mark.parametrize("decision", [BINARY, SEVERAL, FINDINGS], ids=lambda decision: decision.kind)


def _draw(
    decision: Decision, count: int, seed: int = 0, skill: float = 1.0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    classes = len(decision.classes)
    if decision.kind == "multilabel":
        target = (rng.random((count, classes)) < 0.3).astype(int)
        target[rng.random((count, classes)) < 0.15] = -1
    else:
        target = np.eye(classes, dtype=int)[rng.integers(0, classes, count)]
    logits = np.round(rng.normal(size=(count, classes)) + skill * (target == 1), 1)
    return target, logits, [f"p{number}" for number in rng.integers(0, max(1, count // 2), count)]


def _judged(decision: Decision, count: int = 80, seed: int = 0, skill: float = 1.0) -> Judged:
    target, logits, patients = _draw(decision, count, seed, skill)
    return judged(decision, target, decision.probabilities(logits), patients)


def _assess(
    decision: Decision, target: np.ndarray, logits: np.ndarray, patients: list[str], draws: int = DRAWS
) -> Assessment:
    return assess_judged(judged(decision, target, decision.probabilities(logits), patients), draws)


def test_two_classes_have_the_figures_of_the_positive_one() -> None:
    found = _judged(BINARY)
    truth, answer, score = found.target[:, 0], found.answers[:, 0].astype(int), found.probabilities[:, 0]
    values = overall_values(found)
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(truth, score))
    assert values["auprc"] == pytest.approx(sk.average_precision_score(truth, score))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(truth, answer))
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, answer))
    assert values["sensitivity"] == pytest.approx(sk.recall_score(truth, answer))
    assert values["specificity"] == pytest.approx(sk.recall_score(1 - truth, 1 - answer))
    assert values["precision"] == pytest.approx(sk.precision_score(truth, answer))
    assert values["f1"] == pytest.approx(sk.f1_score(truth, answer))
    assert values["weighted_f1"] == pytest.approx(sk.f1_score(truth, answer, average="weighted"))
    assert values["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, answer))
    assert values["brier"] == pytest.approx(sk.brier_score_loss(truth, score))


def test_several_classes_have_macro_figures() -> None:
    found = _judged(SEVERAL)
    truth, answer = found.target.argmax(axis=1), found.answers.argmax(axis=1)
    values = overall_values(found)
    ovr = sk.roc_auc_score(truth, found.probabilities, multi_class="ovr", average="macro")
    assert values["auroc"] == pytest.approx(ovr)
    assert values["auprc"] == pytest.approx(sk.average_precision_score(found.target, found.probabilities))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, answer, average="macro")
    assert (values["precision"], values["sensitivity"], values["f1"]) == pytest.approx((precision, recall, f1))
    assert values["weighted_f1"] == pytest.approx(sk.f1_score(truth, answer, average="weighted"))
    assert values["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, answer))
    assert values["brier"] == pytest.approx(((found.probabilities - found.target) ** 2).sum(axis=1).mean())


def test_findings_have_the_mean_of_each_over_what_is_known() -> None:
    found = _judged(FINDINGS)
    values = overall_values(found)
    areas, briers = [], []
    for c in range(3):
        known = found.target[:, c] >= 0
        areas.append(sk.roc_auc_score(found.target[known, c], found.probabilities[known, c]))
        briers.append(sk.brier_score_loss(found.target[known, c], found.probabilities[known, c]))
    assert values["auroc"] == pytest.approx(np.mean(areas))
    assert values["brier"] == pytest.approx(np.mean(briers))


@KINDS
def test_a_draw_has_the_figures_of_the_images_repeated(decision: Decision) -> None:
    found = _judged(decision)
    weights = np.random.default_rng(7).integers(0, 3, (6, len(found)))
    overall, by_class = Figures(found).under(weights.astype(float))
    for draw, row in enumerate(weights):
        often = np.repeat(np.arange(len(found)), row)
        repeated = Judged(
            decision,
            found.target[often],
            found.probabilities[often],
            found.answers[often],
            tuple(found.patients[i] for i in often),
        )
        expected = overall_values(repeated)
        for name in set(OVERALL) - {"ece"}:  # whose bins stay those of the whole set
            assert overall[name][draw] == pytest.approx(expected[name]), name
        for c in range(len(decision.classes)):
            values = class_values(repeated, c)
            assert [by_class[c][name][draw] for name in OF_CLASS] == pytest.approx(list(values.values())), c


@KINDS
def test_every_figure_lies_in_its_interval_and_in_json(decision: Decision) -> None:
    found = _assess(decision, *_draw(decision, 120), draws=300)
    assert tuple(found.figures) == OVERALL
    assert [entry.name for entry in found.by_class] == list(decision.classes)
    for figure in [*found.figures.values(), *(f for entry in found.by_class for f in entry.figures.values())]:
        assert figure.value is not None and figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert from_json(to_json(found), Assessment, "it") == found
    matrices = np.array(found.confusion)
    expected = [entry.known for entry in found.by_class] if decision.kind == "multilabel" else [found.images]
    assert matrices.sum(axis=(1, 2)).tolist() == expected
    assert _assess(decision, *_draw(decision, 120), draws=300) == found


def test_the_calibration_error_is_the_mean_distance_in_bins_of_equally_many() -> None:
    probabilities = np.repeat([0.1, 0.3, 0.8, 0.9], 10)
    outcome = np.concatenate([np.arange(10) < n for n in (1, 5, 8, 6)])
    target = np.stack([outcome, ~outcome], axis=1).astype(int)
    found = judged(BINARY, target, np.stack([probabilities, 1 - probabilities], axis=1), [str(i) for i in range(40)])
    assert overall_values(found)["ece"] == pytest.approx((0 + 0.2 + 0 + 0.3) / 4)
    (part,) = reliability(found).values()
    assert np.bincount(part.bin)[np.unique(part.bin)].tolist() == [10, 10, 10, 10]


def test_images_of_one_patient_are_no_more_evidence_than_one() -> None:
    target, logits, _ = _draw(BINARY, 60)
    once = _assess(BINARY, target, logits, [f"{i:02}" for i in range(60)], draws=500)
    fourfold = [np.repeat(array, 4, axis=0) for array in (target, logits)]
    patients = [f"{i:02}" for i in np.repeat(np.arange(60), 4)]
    whole = _assess(BINARY, *fourfold, patients, draws=500)
    naive = _assess(BINARY, *fourfold, [str(i) for i in range(240)], draws=500)
    for name in ("auroc", "accuracy"):
        low, high = once.figures[name].low, once.figures[name].high
        assert (whole.figures[name].low, whole.figures[name].high) == pytest.approx((low, high))
        assert naive.figures[name].high - naive.figures[name].low < 0.7 * (high - low)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    true_auroc = 0.5 * (1 + math.erf(0.5))  # of two normals one standard deviation apart
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sick = rng.permutation(np.arange(120) < 50)
        score = rng.normal(sick, 1)
        target = np.stack([sick, ~sick], axis=1).astype(int)
        found = _assess(BINARY, target, np.stack([score, 0 * score], axis=1), [str(i) for i in range(120)], draws=200)
        held += found.figures["auroc"].low <= true_auroc <= found.figures["auroc"].high
    assert held >= 88


def test_unknown_truth_is_counted_nowhere() -> None:
    target, logits, patients = _draw(FINDINGS, 60)
    target = target[(target >= 0).any(axis=1)]
    logits, patients = logits[: len(target)], patients[: len(target)]
    plain = _assess(FINDINGS, target, logits, patients, draws=50)
    unknown = np.full((5, 3), -1)
    more = _assess(
        FINDINGS,
        np.concatenate([target, unknown]),
        np.concatenate([logits, logits[:5]]),
        [*patients, *"abcde"],
        draws=50,
    )
    assert more.unknown == 5 and "5 images" in more.notes[0]
    assert (more.figures, more.by_class, more.images) == (plain.figures, plain.by_class, plain.images)


def _no_nan(found: Assessment) -> dict:
    return msgspec.json.decode(to_json(found))


@pytest.mark.parametrize(
    ("labels", "scores", "patients", "missing"),
    [
        ([0, 0, 0], [1.0, 2.0, -1.0], "abc", {"auroc", "specificity", "auprc", "balanced_accuracy"}),
        ([1, 1, 1], [1.0, 2.0, -1.0], "abc", {"auroc", "sensitivity", "auprc"}),
        ([0], [1.0], "a", {"auroc"}),
        ([], [], "", set(OVERALL)),
        ([0, 1, 0], [-5.0, -5.0, -5.0], "abc", {"precision"}),
    ],
    ids=["positive only", "negative only", "one image", "none", "never answered"],
)
def test_what_cannot_be_said_is_none_with_a_reason(labels, scores, patients, missing) -> None:
    target = np.eye(2, dtype=int)[labels] if labels else np.zeros((0, 2), int)
    logits = np.stack([scores, np.zeros(len(scores))], axis=1) if scores else np.zeros((0, 2))
    found = _assess(BINARY, target, logits, list(patients), draws=100)
    for name, figure in found.figures.items():
        assert (figure.value is None) >= (name in missing), name
        assert figure.reason or figure.low is not None, name
    _no_nan(found)


def test_one_patient_or_constant_scores_have_no_interval() -> None:
    target = np.eye(2, dtype=int)[[0, 1] * 10]
    logits = np.random.default_rng(0).normal(size=(20, 2))
    alone = _assess(BINARY, target, logits, ["same"] * 20)
    assert alone.figures["auroc"].value is not None and alone.figures["auroc"].low is None
    assert "one patient" in alone.figures["auroc"].reason
    constant = _assess(BINARY, target, np.zeros((20, 2)), [str(i) for i in range(20)])
    assert constant.figures["auroc"].value == 0.5 and constant.figures["auroc"].low is None
    assert "same value" in constant.figures["auroc"].reason
    assert constant.figures["accuracy"].low is not None


def test_perfect_shares_have_the_exact_interval() -> None:
    target = np.eye(2, dtype=int)[[0, 1] * 15]
    found = _assess(BINARY, target, 8.0 * target, [str(i // 2) for i in range(30)], draws=200)
    for name, images in (("accuracy", 30), ("sensitivity", 15), ("specificity", 15)):
        figure = found.figures[name]
        # Clopper and Pearson, of all right: the lower limit is (1 - confidence) / 2 to the power 1 / n.
        assert figure.low == pytest.approx(0.025 ** (1 / images)) and (figure.value, figure.high) == (1, 1)
        assert "independent" in figure.reason and "independent" in found.by_class[0].figures[name].reason
    assert found.figures["auroc"].value == 1 and found.figures["auroc"].low is None
    several = np.eye(4, dtype=int)[[0, 1, 2, 3] * 8]
    means = _assess(SEVERAL, several, 8.0 * several, [str(i) for i in range(32)], draws=50).figures
    assert means["sensitivity"].low is None and means["accuracy"].low == pytest.approx(0.025 ** (1 / 32))


def test_no_figure_is_almost_one() -> None:
    """A mean of three perfect areas is 0.9999999999999999 otherwise, or so."""
    figures = [_figure(value, [], "auprc", 0.95, "", "", 0).value for value in (1 - 2e-16, 1 + 4e-16, 1e-17, 0.9)]
    assert figures == [1, 1, 0, 0.9]


def test_draws_that_lack_a_class_are_left_out_and_counted() -> None:
    target = np.eye(2, dtype=int)[[0, 0, *[1] * 28]]
    found = _assess(BINARY, target, np.random.default_rng(0).normal(size=(30, 2)), [str(i) for i in range(30)])
    assert 800 < found.figures["auroc"].draws < 900  # 1 - (28/30)^30 is 0.87
    assert found.figures["accuracy"].draws == 1000
    single = _assess(BINARY, np.eye(2, dtype=int)[[0, 1]], np.array([[1.0, 0], [0, 1]]), ["a", "b"])
    assert single.figures["auroc"].low is None


def test_a_class_without_images_is_named_and_left_out_of_means() -> None:
    target, logits, patients = _draw(SEVERAL, 80)
    kept = target[:, 3] == 0
    found = _assess(SEVERAL, target[kept], logits[kept], np.array(patients)[kept].tolist(), draws=50)
    assert found.figures["auroc"].value == pytest.approx(
        np.mean([entry.figures["auroc"].value for entry in found.by_class[:3]])
    )
    assert found.by_class[3].figures["auroc"].reason == "no image has D"
    assert "D" in found.notes[0]


def test_what_does_not_line_up_is_refused() -> None:
    target, logits, patients = _draw(BINARY, 10)
    with pytest.raises(DataError, match="line up"):
        _assess(BINARY, target, logits[:9], patients)
    with pytest.raises(DataError, match="line up"):
        _assess(BINARY, target, logits, patients[:9])
    logits[3, 0] = np.nan
    with pytest.raises(DataError, match="not all numbers"):
        _assess(BINARY, target, logits, patients)
    with pytest.raises(DataError, match="other numbers"):
        judged(BINARY, target + 1, np.full((10, 2), 0.5), patients)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    target, logits, patients = _draw(BINARY, 200, skill=1.5)
    worse = logits + np.random.default_rng(1).normal(0, 0.4, logits.shape)
    first, second = (judged(BINARY, target, BINARY.probabilities(each), patients) for each in (logits, worse))
    found = mean_figures([first], [second])["auroc"]
    assert found.value == pytest.approx(overall_values(first)["auroc"] - overall_values(second)["auroc"])
    alone = assess_judged(first).figures["auroc"]
    assert found.high - found.low < 0.7 * (alone.high - alone.low)
    turned = mean_figures([second], [first])["auroc"]
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    none = mean_figures([first], [first])["auroc"]
    assert none.value == 0 and none.low is None
    mean = mean_figures([first, second])["auroc"]
    assert mean.value == pytest.approx((overall_values(first)["auroc"] + overall_values(second)["auroc"]) / 2)
