"""The positive class is the finding."""

from __future__ import annotations

import pytest

from medcompress.runtime.errors import InputError
from medcompress.trained.tasks import TASKS, Task, decision_for, task, task_for


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


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (("NORMAL", "PNEUMONIA"), "pneumonia"),
        (("Pneumonia", "Healthy"), "pneumonia"),
        (("TB", "Normal"), "tuberculosis"),
        (("glioma_tumor", "meningioma_tumor", "pituitary_tumor"), "brain-tumour-3"),
        (("glioma", "meningioma", "notumor", "pituitary"), "brain-tumour-4"),
        (("no_tumor", "glioma_tumor", "meningioma_tumor", "pituitary_tumor"), "brain-tumour-4"),
        (
            ("Bacterial Pneumonia", "Corona Virus Disease", "Normal", "Tuberculosis", "Viral Pneumonia"),
            "lung-disease-5",
        ),
        (("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"), "skin-lesions"),
        (TASKS["chexpert"].classes, "chexpert"),
        (("COVID", "Normal", "TB", "Viral Pneumonia"), None),
        (("0", "1", "2", "3", "4"), None),
        (("NORMAL", "Healthy"), None),
        (("cat", "dog"), None),
    ],
)
def test_tasks_are_recognised_by_their_classes(classes: tuple[str, ...], name: str | None):
    found = task_for(classes)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("known", TASKS.values(), ids=lambda known: known.name)
def test_every_task_fits_together(known: Task):
    decision = decision_for(known.classes, multilabel=known.kind == "multilabel")
    assert (decision.kind, decision.positive) == (known.kind, known.positive)
    assert known.matches(known.classes)
    assert set(known.aliases) <= set(known.classes) | {"notumor"}
    assert set(known.columns) <= {"image", "label", "patient"}


def test_tasks_by_name():
    assert task("CheXpert").name == "chexpert"
    assert task("brain_tumor_4").name == "brain-tumour-4"
    with pytest.raises(InputError, match="did you mean skin-lesions"):
        task("skin-lesion")
    with pytest.raises(InputError, match="the tasks are pneumonia, tuberculosis"):
        task("xyz")


def test_findings_have_no_positive_class():
    assert decision_for(("a", "b"), multilabel=True).kind == "multilabel"
    with pytest.raises(InputError, match="leave it out"):
        decision_for(("a", "b"), "a", multilabel=True)
