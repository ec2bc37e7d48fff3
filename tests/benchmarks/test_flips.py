"""What changed is told by name, and the gravest comes first."""

from __future__ import annotations

import numpy as np
import pytest

from medcompress.benchmarks.flips import KINDS, Flip, find_flips
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError

BINARY = Decision("binary", ("SICK", "WELL"), "SICK", threshold=0.3)
SEVERAL = Decision("multiclass", ("A", "B", "C"))
FINDINGS = Decision("multilabel", ("EFFUSION", "NODULE"), thresholds=(0.5, 0.2))


def flips(decision: Decision, target: list, before: list, after: list) -> tuple[Flip, ...]:
    hashes = [f"hash-{index}" for index in range(len(target))]
    return find_flips(decision, target, np.array(before), np.array(after), hashes)


def of_sick(values: list[float]) -> list[list[float]]:
    return [[value, 1 - value] for value in values]


def test_two_classes_of_every_kind_in_their_order() -> None:
    target = [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [0, 1], [1, 0]]
    before = of_sick([0.9, 0.1, 0.1, 0.4, 0.9, 0.2, 0.8])
    after = of_sick([0.1, 0.9, 0.5, 0.2, 0.1, 0.3, 0.8])
    found = flips(BINARY, target, before, after)
    assert [(flip.case, flip.kind, flip.index) for flip in found] == [
        (1, "lost finding", 4),
        (2, "lost finding", 3),
        (3, "new false alarm", 1),
        (4, "new false alarm", 5),
        (5, "found finding", 2),
        (6, "false alarm mended", 0),
    ]
    lost, alarm = found[1], found[3]
    assert (lost.of, lost.truth, lost.reference, lost.variant) == ("SICK", "SICK", "SICK", "WELL")
    assert (alarm.truth, alarm.reference, alarm.variant) == ("WELL", "WELL", "SICK")
    assert (lost.threshold, lost.sha256) == (0.3, "hash-3")
    assert (lost.reference_probability, lost.variant_probability) == (0.4, 0.2)
    assert lost.moved == pytest.approx(-0.2)
    assert lost.reference_distance == pytest.approx(0.1)
    assert lost.variant_distance == pytest.approx(-0.1)
    assert alarm.variant_distance == 0, "at the threshold the answer is the positive class"


def test_several_classes_show_the_true_one() -> None:
    target = [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    before = [[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]
    after = [[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1]]
    found = flips(SEVERAL, target, before, after)
    assert [(flip.kind, flip.index) for flip in found] == [("lost", 1), ("changed", 2), ("mended", 0)]
    lost, changed, _ = found
    assert (lost.of, lost.truth, lost.reference, lost.variant) == ("A", "A", "A", "C")
    assert (lost.reference_probability, lost.variant_probability) == (0.6, 0.2)
    assert (lost.threshold, lost.reference_distance, lost.variant_distance) == (None, None, None)
    assert (changed.of, changed.reference, changed.variant, changed.moved) == ("C", "A", "B", 0)


def test_findings_are_told_one_by_one_and_the_unknown_ones_as_such() -> None:
    target = [[1, 0], [-1, 1], [0, -1]]
    before = [[0.9, 0.1], [0.6, 0.1], [0.1, 0.1]]
    after = [[0.1, 0.25], [0.4, 0.3], [0.2, 0.15]]
    found = flips(FINDINGS, target, before, after)
    assert [(flip.kind, flip.index, flip.of) for flip in found] == [
        ("lost finding", 0, "EFFUSION"),
        ("new false alarm", 0, "NODULE"),
        ("changed", 1, "EFFUSION"),
        ("found finding", 1, "NODULE"),
    ]
    assert [(flip.truth, flip.reference, flip.variant) for flip in found[:3]] == [
        ("present", "present", "absent"),
        ("absent", "absent", "present"),
        ("unknown", "present", "absent"),
    ]
    assert [flip.threshold for flip in found] == [0.5, 0.2, 0.5, 0.2]


@pytest.mark.parametrize("row", [[-1, -1], [0, 0], [1, 1], [1, -1]])
def test_an_image_of_unknown_class_is_neither_lost_nor_mended(row: list[int]) -> None:
    (flip,) = flips(BINARY, [row], [[0.9, 0.1]], [[0.1, 0.9]])
    assert (flip.kind, flip.truth, flip.of) == ("changed", "unknown", "SICK")
    (flip,) = flips(SEVERAL, [[-1, -1, -1]], [[0.9, 0.1, 0]], [[0.1, 0.9, 0]])
    assert (flip.kind, flip.truth, flip.of) == ("changed", "unknown", "A")


def test_equal_moves_keep_the_images_order_and_nothing_changed_is_nothing() -> None:
    target, before, after = [[1, 0]] * 3, of_sick([0.6] * 3), of_sick([0.1] * 3)
    assert [flip.index for flip in flips(BINARY, target, before, after)] == [0, 1, 2]
    assert flips(BINARY, target, before, before) == ()
    assert find_flips(BINARY, np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)), []) == ()


def test_every_kind_has_its_place() -> None:
    rng = np.random.default_rng(0)
    for decision, classes in ((BINARY, 2), (SEVERAL, 3), (FINDINGS, 2)):
        labels = np.eye(classes, dtype=int)[rng.integers(classes, size=200)]
        before, after = rng.dirichlet(np.ones(classes), size=(2, 200))
        found = find_flips(decision, labels, before, after, ["hash"] * 200)
        order = [(KINDS.index(flip.kind), -abs(flip.moved)) for flip in found]
        assert order == sorted(order)
        assert [flip.case for flip in found] == list(range(1, len(found) + 1))
        changed = (decision.answers(before) != decision.answers(after)).any(axis=1)
        assert {flip.index for flip in found} == set(np.flatnonzero(changed).tolist())


def test_what_does_not_line_up_is_refused() -> None:
    with pytest.raises(DataError, match="2 labels, 2 and 2 predictions and 1 hashes do not line up"):
        find_flips(BINARY, [[1, 0]] * 2, np.full((2, 2), 0.5), np.full((2, 2), 0.5), ["one"])
