from __future__ import annotations

import numpy as np
import pytest

from medcompress.runtime.decision import Decision

BINARY = Decision("binary", ("A", "B"), "B", 0.3)
SEVERAL = Decision("multiclass", ("A", "B", "C"))
FINDINGS = Decision("multilabel", ("A", "B", "C"))


def test_probabilities_are_softmax_or_sigmoid_and_never_overflow() -> None:
    logits = np.array([[1000.0, -1000.0, 0.0], [1.0, 2.0, 3.0]], dtype=np.float32)
    softmax = SEVERAL.probabilities(logits)
    assert np.allclose(softmax.sum(axis=1), 1)
    assert np.allclose(softmax[1], np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())
    sigmoid = FINDINGS.probabilities(logits)
    assert sigmoid[0].tolist() == [1.0, pytest.approx(0.0), 0.5]


def test_a_binary_answer_follows_the_threshold_not_the_likelier_class() -> None:
    answers = BINARY.answers(np.array([[0.6, 0.4], [0.7, 0.3], [0.71, 0.29]]))
    assert answers.tolist() == [[False, True], [False, True], [True, False]]


def test_several_classes_answer_the_likeliest_and_findings_any_number() -> None:
    assert SEVERAL.answers(np.array([[0.2, 0.5, 0.3]])).tolist() == [[False, True, False]]
    assert FINDINGS.answers(np.array([[0.6, 0.5, 0.1], [0.1, 0.1, 0.1]])).tolist() == [[True, True, False], [False] * 3]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "binary", "classes": ("A", "B")},
        {"kind": "binary", "classes": ("A", "B", "C"), "positive": "A"},
        {"kind": "binary", "classes": ("A", "B"), "positive": "A", "threshold": 1.0},
        {"kind": "multiclass", "classes": ("A",)},
        {"kind": "multiclass", "classes": ("A", "A")},
        {"kind": "multiclass", "classes": ("A", "")},
    ],
)
def test_impossible_values_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Decision(**fields)  # type: ignore[arg-type]
