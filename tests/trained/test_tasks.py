"""The positive class is the finding."""

from __future__ import annotations

import pytest

from medcompress.runtime.errors import InputError
from medcompress.trained.tasks import decision_for


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("NORMAL", "PNEUMONIA"), "PNEUMONIA"),
        (("glioma", "notumor"), "glioma"),
        (("COVID", "No_Finding"), "COVID"),
        (("benign", "malignant"), "malignant"),
        (("SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY"), "SYNTHETIC-OPACITY"),
        (("cat", "dog"), "dog"),
        (("benign", "normal"), "normal"),
    ],
)
def test_positive_class(classes: tuple[str, str], positive: str):
    assert decision_for(classes).positive == positive
    assert decision_for(classes, classes[0]).positive == classes[0]


def test_more_classes_have_no_positive():
    assert decision_for(("a", "b", "c")).kind == "multiclass"


def test_unknown_positive_is_refused():
    with pytest.raises(InputError, match="is no class of the data"):
        decision_for(("a", "b"), "c")
