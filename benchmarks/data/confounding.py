"""Whether files give the class away: then a model may learn the converter, or the hospital, and not the disease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ..statistics.metrics import require_scikit_learn
from .scan import Facts, Scan

# Bytes are not among them: how well a picture packs is of the picture (0.89 on the 5,528 Kermany radiographs, whose
# files are otherwise alike).
FACTS: Mapping[str, Callable[[Facts], str | float]] = {
    "file format": lambda facts: facts.format,
    "kind of pixels": lambda facts: facts.mode,
    "EXIF": lambda facts: "with EXIF" if facts.exif else "without EXIF",
    "JPEG quantization": lambda facts: facts.quantization,
    "width": lambda facts: facts.width,
    "height": lambda facts: facts.height,
    "width / height": lambda facts: round(facts.width / facts.height, 3),
}
FOLDS = 5
# Patients a class needs for an answer, and the AUROC that is cause for alarm.
LEAST_PATIENTS = 10
ALARM = 0.7


class Confounding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well facts about files alone tell a class from the others.

    Attributes:
        auroc: of the class that is given away most, cross-validated by patient; 0.5 is chance; None where there are
            too few patients to say.
        by_fact: the same of each fact alone; what is equal for all files is left out.
        finding: the most telling fact in words; empty where there is no cause for alarm.
    """

    auroc: float | None
    by_fact: dict[str, float] = {}
    finding: str = ""


def confounds(scanned: Scan, classes: Sequence[str]) -> Confounding:
    """Try to tell the class from the files alone: format, size, shape, kind of pixels, compression, EXIF.

    A decision tree of depth 4, cross-validated by patient, on all facts together and on each alone. Images of several
    findings, or of none, are left out.

    Raises:
        MachineError: scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.model_selection import StratifiedGroupKFold

    single = [index for index, sample in enumerate(scanned.samples) if sample.target.count(1) == 1]
    labels = np.array([scanned.samples[index].label for index in single], int)
    patients = np.array([scanned.samples[index].patient for index in single])
    least = min((len(set(patients[labels == label])) for label in range(len(classes))), default=0)
    if least < LEAST_PATIENTS:
        return Confounding(None)
    values = {name: [of(scanned.facts[index]) for index in single] for name, of in FACTS.items()}
    values = {name: column for name, column in values.items() if len(set(column)) > 1}
    if not values:
        return Confounding(0.5)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = list(splitter.split(labels, labels, patients))
    columns = {name: _columns(column) for name, column in values.items()}
    by_fact = {name: _given_away(column, labels, folds)[0] for name, column in columns.items()}
    auroc, label = _given_away(np.hstack(list(columns.values())), labels, folds)
    finding = ""
    if auroc >= ALARM:
        telling = max(by_fact, key=lambda name: by_fact[name])
        finding = (
            f"the files alone tell {classes[label]} from the rest, without a look at the picture (AUROC {auroc:.2f}, "
            f"chance 0.50); {telling}: {_describe(values[telling], labels, classes)}"
        )
    return Confounding(round(auroc, 3), {name: round(value, 3) for name, value in by_fact.items()}, finding)


def _columns(values: Sequence[str | float]) -> npt.NDArray[np.float64]:
    """(N, 1) of a number, (N, kinds) of a name."""
    if isinstance(values[0], str):
        kinds = sorted({str(value) for value in values})
        return np.array([[value == kind for kind in kinds] for value in values], float)
    return np.array(values, float)[:, None]


def _given_away(
    columns: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], folds: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, int]:
    """AUROC against the rest, for patients the tree has not seen, of the class that has the highest; and the class."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, class_weight="balanced", random_state=0)
    found = np.asarray(cross_val_predict(tree, columns, labels, cv=folds, method="predict_proba"))
    return max((float(roc_auc_score(labels == label, found[:, label])), label) for label in range(found.shape[1]))


def _describe(values: Sequence[str | float], labels: npt.NDArray[np.int64], classes: Sequence[str]) -> str:
    """The commonest value in each class."""
    parts = []
    for label, title in enumerate(classes):
        own = [value for value, other in zip(values, labels, strict=True) if other == label]
        value, count = Counter(own).most_common(1)[0]
        shown = value if isinstance(value, str) else f"{value:.4g}"
        parts.append(f"{f'all {len(own)}' if count == len(own) else f'{count / len(own):.0%} of the'} {title} {shown}")
    return ", ".join(parts)
