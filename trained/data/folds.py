"""Drawing parts: by patient, stratified by class, the same for the same seed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...benchmarks.data.samples import Sample
from ...runtime.errors import DataError

# One fold of so many is held out where a part is not given: 20 % for the test, an eighth of the rest for validation.
TEST_FOLDS = 5
VAL_FOLDS = 8

Targets = npt.NDArray[np.int64]
_Indices = npt.NDArray[np.intp]


Parted = tuple[list[Sample], list[Sample]]


def hold_out(
    samples: list[Sample], classes: Sequence[str], multilabel: bool, folds: int, seed: int, part: str
) -> Parted:
    """(kept, held out): one of ``folds`` parts, by patient, with every class on both sides.

    Raises:
        DataError: too few patients.
    """
    targets = _targets(samples, classes)
    remedy = f"add patients, or give a {part} folder"
    _refuse_few_patients(samples, targets, classes, multilabel, 2, f"holding out a {part} part", remedy)
    for kept, held in _folds(samples, targets, multilabel, folds, seed):
        if _has_all(targets[kept], multilabel) and _has_all(targets[held], multilabel):
            return [samples[i] for i in kept], [samples[i] for i in held]
    raise DataError(f"there are too few patients to hold out a {part} part with every class in it; {remedy}")


def take_fold(
    samples: list[Sample], classes: Sequence[str], multilabel: bool, fold: tuple[int, int], seed: int
) -> Parted:
    """(kept, held out): fold ``fold[0]`` of ``fold[1]``, counted from 0; together the folds hold every image once.

    Raises:
        DataError: no such fold, or too few patients.
    """
    index, count = fold
    if count < 2 or not 0 <= index < count:
        raise DataError(f"fold {index} of {count} is none; there must be at least 2, counted from 0")
    targets = _targets(samples, classes)
    remedy = "add patients, or take fewer folds"
    _refuse_few_patients(samples, targets, classes, multilabel, count, f"{count} folds", remedy)
    kept, held = _folds(samples, targets, multilabel, count, seed)[index]
    return [samples[i] for i in kept], [samples[i] for i in held]


def take_few(samples: list[Sample], most: int, seed: int) -> list[Sample]:
    """So many of each class, or all where there are fewer; fewer are among more of the same seed.

    Where images have several findings, at least so many with each and without any: one that is taken for a rare
    finding counts for the common ones it also has, so these may be more.
    """
    counts: Counter[int] = Counter()
    kept: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(samples)).tolist():
        present = [column for column, value in enumerate(samples[i].target) if value == 1] or [-1]
        if any(counts[column] < most for column in present):
            kept.append(i)
            counts.update(present)
    return [samples[i] for i in sorted(kept)]


def _targets(samples: Sequence[Sample], classes: Sequence[str]) -> Targets:
    return np.array([sample.target for sample in samples], np.int64).reshape(len(samples), len(classes))


def _refuse_few_patients(
    samples: Sequence[Sample],
    targets: Targets,
    classes: Sequence[str],
    multilabel: bool,
    least: int,
    what: str,
    remedy: str,
) -> None:
    patients = np.array([sample.patient for sample in samples])
    # Of one class an image has others, but what every image shows cannot be judged.
    wanted = ((1, "class", "has"), (0, "finding", "is absent in")) if multilabel else ((1, "class", "has"),)
    for value, kind, verb in wanted:
        for name, column in zip(classes, targets.T, strict=True):
            count = len(set(patients[column == value]))
            if count < least:
                raise DataError(
                    f"{kind} {name} {verb} images of {count} patient(s), and {what} needs at least {least}; {remedy}"
                )


def _folds(
    samples: Sequence[Sample], targets: Targets, multilabel: bool, folds: int, seed: int
) -> list[tuple[_Indices, _Indices]]:
    """(kept, held) for each fold, by patient; of several findings the rarest of each patient is the stratum."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    patients = np.array([sample.patient for sample in samples])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Of a rare class: the caller passes over a fold without it.
        if not multilabel:
            labels = targets.argmax(axis=1)
            # Of very few patients a larger share is held out: one patient is the least.
            folds = min(folds, len(set(patients)), int(np.bincount(labels).max()))
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            return list(splitter.split(np.zeros(len(samples)), labels, patients))
        names, owner = np.unique(patients, return_inverse=True)
        present = np.zeros((len(names), targets.shape[1]), np.int64)
        np.maximum.at(present, owner, (targets == 1).astype(np.int64))
        rarest = np.where(present == 1, present.sum(axis=0), len(names) + 1).argmin(axis=1)
        strata = np.where(present.any(axis=1), rarest, targets.shape[1])
        folds = min(folds, len(names), int(np.bincount(strata).max()))
        # Over patients, not images: the splitter for groups takes minutes where patients are tens of thousands.
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        drawn = splitter.split(np.zeros(len(names)), strata)
        held = [np.isin(owner, chosen) for _, chosen in drawn]
    return [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in held]


def _has_all(targets: Targets, multilabel: bool) -> bool:
    """Whether every class is there; of findings, also images without."""
    return bool((targets == 1).any(axis=0).all() and (not multilabel or (targets == 0).any(axis=0).all()))
