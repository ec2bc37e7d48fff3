from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.data.subgroups import Grouping, group_samples
from medcompress.benchmarks.evidence import GroupEvidence
from medcompress.benchmarks.statistics.groups import compare_groups
from medcompress.benchmarks.statistics.multiplicity import holm
from medcompress.benchmarks.tolerance import Subgroups
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

BINARY = Decision("binary", ("clear", "opacity"), "opacity")
SEVERAL = Decision("multiclass", ("a", "b", "c"))
FINDINGS = Decision("multilabel", ("x", "y"))

Table = list[list[int]] | list[list[float]]


def compare(
    decision: Decision,
    target: Table,
    before: Table,
    after: Table,
    values: str,
    minimum: int = 1,
    patients: list[str] | None = None,
) -> dict[str, GroupEvidence]:
    """The evidence by group; each group is a letter, a space is none."""
    named = tuple(value.strip() for value in values)
    found = compare_groups(
        decision,
        np.array(target, np.int8),
        np.array(before, np.float64),
        np.array(after, np.float64),
        patients or [f"p{number}" for number in range(len(values))],
        [Grouping("site", named, ("A", "B", "C"))],
        minimum,
        0.95,
    )
    return {each.name: each for each in found}


def chances(*positive: float) -> list[list[float]]:
    return [[1 - chance, chance] for chance in positive]


def test_two_classes_in_two_groups_and_none() -> None:
    target = [[0, 1], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0], [0, 1]]
    before = chances(0.9, 0.8, 0.1, 0.2, 0.9, 0.4, 0.6, 0.1, 0.9)
    after = chances(0.9, 0.3, 0.1, 0.4, 0.9, 0.6, 0.3, 0.2, 0.1)
    found = compare(BINARY, target, before, after, "AAAABBBB ")
    assert list(found) == ["A", "B"], "groups without images are left out, and so is the image of none"
    a, b = found["A"], found["B"]
    assert (a.by, a.images, a.patients, a.positive, a.negative, a.flips) == ("site", 4, 4, 2, 2, 1)
    assert a.sensitivity and a.specificity and a.auroc
    assert (a.sensitivity.reference, a.sensitivity.variant, a.sensitivity.loss) == (1.0, 0.5, 0.5)
    assert (a.sensitivity.lost, a.sensitivity.gained) == (1, 0)
    assert (a.specificity.reference, a.specificity.variant) == (1.0, 1.0)
    assert (a.auroc.reference, a.auroc.variant) == (1.0, 0.75)
    assert b.sensitivity and b.specificity and b.auroc
    assert (b.sensitivity.lost, b.sensitivity.gained, b.specificity.gained, b.flips) == (0, 1, 1, 2)
    assert (b.auroc.reference, b.auroc.variant) == (0.75, 1.0)
    assert not a.descriptive
    assert a.note == ""


def test_few_images_of_a_side_are_descriptive() -> None:
    target, before = [[0, 1], [0, 1], [1, 0]], chances(0.9, 0.8, 0.1)
    (a,) = compare(BINARY, target, before, before, "AAA", minimum=2).values()
    assert a.descriptive
    assert a.note == "1 without the finding; fewer than 2"
    (a,) = compare(BINARY, target, before, before, "AAA", minimum=3).values()
    assert a.note == "2 with the finding and 1 without the finding; fewer than 3"


@pytest.mark.parametrize(
    ("positive", "note"),
    [
        (True, "all have opacity, so there is no specificity and no AUROC"),
        (False, "none has opacity, so there is no sensitivity and no AUROC"),
    ],
)
def test_a_group_of_one_class_says_which_side_is_missing(positive: bool, note: str) -> None:
    target = [[0, 1], [0, 1]] if positive else [[1, 0], [1, 0]]
    (a,) = compare(BINARY, target, chances(0.9, 0.4), chances(0.9, 0.6), "AA").values()
    assert a.auroc is None
    assert (a.sensitivity is None) == (not positive)
    assert (a.specificity is None) == positive
    assert (a.positive, a.negative) == ((2, 0) if positive else (0, 2))
    assert a.descriptive
    assert a.note == note
    (few,) = compare(BINARY, target, chances(0.9, 0.4), chances(0.9, 0.6), "AA", minimum=5).values()
    side = "with" if positive else "without"
    assert few.note == f"{note}; 2 {side} the finding; fewer than 5"


def test_a_single_image_is_a_group_too() -> None:
    (a,) = compare(BINARY, [[0, 1]], chances(0.9), chances(0.1), "A", minimum=30).values()
    assert (a.images, a.positive, a.flips, a.auroc) == (1, 1, 1, None)


def test_several_classes_are_judged_by_the_share_answered_right() -> None:
    target = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    before = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7]]
    after = [[0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]]
    found = compare(SEVERAL, target, before, after, "AAAABB", minimum=3)
    a, b = found["A"], found["B"]
    assert a.sensitivity and a.auroc
    assert a.specificity is None
    assert (a.positive, a.negative, a.flips) == (4, 0, 2)
    assert (a.sensitivity.images, a.sensitivity.lost, a.sensitivity.gained, a.sensitivity.loss) == (4, 1, 1, 0)
    truth, scores = np.array(target)[:4], np.array(before)[:4]
    assert a.auroc.reference == pytest.approx(np.mean([roc_auc_score(truth[:, c], scores[:, c]) for c in (0, 1)]))
    assert not a.descriptive
    assert a.note == "AUROC is over 2 of 3 classes: the others are in none of these images, or in all"
    assert b.auroc is None
    assert b.descriptive
    assert b.note == "all are c, so there is no AUROC; 2 images; fewer than 3"


def test_findings_are_pooled_and_unknown_ones_count_nowhere() -> None:
    target = [[1, 0], [1, -1], [0, 1], [0, 0], [-1, -1]]
    before = [[0.9, 0.1], [0.8, 0.9], [0.2, 0.7], [0.1, 0.6], [0.9, 0.9]]
    after = [[0.4, 0.1], [0.8, 0.1], [0.2, 0.8], [0.1, 0.2], [0.1, 0.1]]
    (a,) = compare(FINDINGS, target, before, after, "AAAAA", patients=["p", "p", "q", "q", "r"]).values()
    assert a.sensitivity and a.specificity and a.auroc
    assert (a.images, a.patients, a.positive, a.negative) == (4, 2, 3, 4)
    assert (a.sensitivity.images, a.sensitivity.patients, a.sensitivity.lost) == (3, 2, 1)
    assert (a.specificity.images, a.specificity.lost, a.specificity.gained) == (4, 0, 1)
    assert a.flips == 2, "of an unknown finding nobody can say that the answer matters"
    known = np.array(target)[:4, 1] >= 0
    y = roc_auc_score(np.array(target)[:4, 1][known], np.array(before)[:4, 1][known])
    assert a.auroc.reference == pytest.approx((1 + y) / 2)
    (few,) = compare(FINDINGS, target, before, after, "AAAAA", minimum=5).values()
    assert few.note == "4 images; fewer than 5"
    assert few.descriptive


def test_a_group_of_which_nothing_is_known_is_left_out() -> None:
    target = [[1, 0], [0, 1], [-1, -1]]
    before = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.9]]
    assert list(compare(FINDINGS, target, before, before, "AAB")) == ["A"]


def test_findings_that_are_absent_everywhere() -> None:
    target, before = [[0, 0], [0, 0]], [[0.1, 0.2], [0.3, 0.4]]
    (a,) = compare(FINDINGS, target, before, before, "AA").values()
    assert a.sensitivity is None
    assert a.note == "no finding is present in any, so there is no sensitivity and no AUROC"
    (a,) = compare(FINDINGS, [[1, 0], [1, 0]], before, before, "AA").values()
    assert a.note == "no finding is present in some and absent in others, so there is no AUROC"
    assert a.descriptive


def test_the_same_model_loses_nothing_in_any_group() -> None:
    rng = np.random.default_rng(0)
    target = np.eye(2, dtype=np.int8)[rng.integers(0, 2, 60)].tolist()
    before = chances(*rng.random(60))
    for each in compare(BINARY, target, before, before, "ABC" * 20).values():
        assert each.auroc and each.sensitivity and each.specificity
        assert (each.auroc.loss, each.sensitivity.loss, each.specificity.loss, each.flips) == (0, 0, 0, 0)
        assert (each.auroc.p_value, each.sensitivity.p_value) == (1, 1)


def test_p_values_are_adjusted_over_the_groups() -> None:
    rng = np.random.default_rng(1)
    target = [[0, 1], [1, 0]] * 60
    before = chances(*(0.9 if present else 0.1 for _, present in target))
    after = chances(*np.where(rng.random(120) < 0.2, 0.5, np.array(before)[:, 1]))
    found = list(compare(BINARY, target, before, after, "AABBCC" * 20).values())
    for side in ("auroc", "sensitivity", "specificity"):
        losses = [getattr(each, side) for each in found]
        plain = [loss.p_value for loss in losses]
        assert [loss.p_adjusted for loss in losses] == holm(plain)
        assert min(loss.p_adjusted for loss in losses) == pytest.approx(min(1, 3 * min(plain)))


def test_groups_of_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="'site' are of 1 images, and 2 were answered"):
        compare(BINARY, [[0, 1], [1, 0]], chances(0.9, 0.1), chances(0.9, 0.1), "A")


def test_a_variant_that_is_worse_on_viruses_alone(shared_data: Path) -> None:
    """The names and classes are the real ones, the answers are made."""
    folder = shared_data / "pneumonia_xray"
    files = sorted((folder / "test").glob("*/*.jpeg"))
    target = [[0, 1] if file.parent.name == "PNEUMONIA" else [1, 0] for file in files]
    samples = [Sample(file, tuple(row), file.stem) for file, row in zip(files, target, strict=True)]
    groupings = group_samples(samples, folder, [Subgroups(pattern="(bacteria|virus)", name="pathogen")], None)
    before = np.array(chances(*(0.9 if row[1] else 0.1 for row in target)))
    after = before.copy()
    missed = [place for place, file in enumerate(files) if "virus" in file.name][:37]
    after[missed] = after[missed, ::-1]
    bacteria, virus = compare_groups(
        BINARY, np.array(target, np.int8), before, after, [sample.patient for sample in samples], groupings, 30, 0.95
    )
    assert bacteria.sensitivity and virus.sensitivity
    assert (bacteria.name, bacteria.positive, bacteria.sensitivity.loss) == ("bacteria", 121, 0)
    assert (virus.name, virus.positive, virus.sensitivity.loss) == ("virus", 74, 0.5)
    assert virus.sensitivity.low is not None
    assert virus.sensitivity.low > 0.3
    assert virus.note == "all have opacity, so there is no specificity and no AUROC"
