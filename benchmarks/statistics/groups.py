"""Two models' answers over the images of each subgroup: where a variant is worse that is as good over all."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError
from ..data.subgroups import Grouping
from ..evidence import GroupEvidence
from .delong import auroc_loss
from .judged import Judged, judged
from .metrics import require_scikit_learn
from .multiplicity import holm
from .paired import PairedProportion, paired_proportion


def compare_groups(
    decision: Decision,
    target: npt.NDArray[np.int8],
    reference_probabilities: npt.NDArray[np.float64],
    variant_probabilities: npt.NDArray[np.float64],
    patients: Sequence[str],
    groupings: Sequence[Grouping],
    minimum: int,
    confidence: float,
) -> tuple[GroupEvidence, ...]:
    """The comparison over the images of each group; groups without an image of known truth are left out.

    Of two classes the figures are the positive one's. Of several, sensitivity is the share of images answered right,
    and there is no specificity. Of findings, sensitivity is over all pairs of an image and a finding that is present
    in it, specificity over those of one that is absent. AUROC is the mean over the classes which in the group have
    images with and without. p-values are adjusted over all groups of all groupings.

    Args:
        target: (N, classes), see :func:`medcompress.benchmarks.statistics.metrics.truth`.
        reference_probabilities, variant_probabilities: (N, classes).
        patients: N names.
        groupings: each with N values.
        minimum: images with and without, or of several classes images, below which a group is descriptive.
        confidence: of the intervals.

    Raises:
        DataError: the arguments do not line up.
        MachineError: scipy is not installed.
    """
    require_scikit_learn()  # brings scipy
    found = []
    for grouping in groupings:
        if len(grouping.values) != len(target):
            raise DataError(
                f"subgroups {grouping.title!r} are of {len(grouping.values)} images, and {len(target)} were answered; "
                "give the metadata of these images"
            )
        values = np.asarray(grouping.values, dtype=object)
        for name in grouping.order:
            rows = np.flatnonzero(values == name)
            whose = [patients[row] for row in rows.tolist()]
            reference = judged(decision, target[rows], reference_probabilities[rows], whose)
            variant = judged(decision, target[rows], variant_probabilities[rows], whose)
            if len(reference):
                found.append(_compare(grouping.title, name, reference, variant, minimum, confidence))
    return _adjusted(found)


def _compare(by: str, name: str, reference: Judged, variant: Judged, minimum: int, confidence: float) -> GroupEvidence:
    target, columns = reference.target, reference.judgeable
    auroc = None
    if columns:
        auroc = auroc_loss(
            target, reference.probabilities, variant.probabilities, columns, reference.patients, confidence
        )
    if reference.decision.kind == "multiclass":
        before, after = ((model.answers == target).all(axis=1) for model in (reference, variant))
        sensitivity, specificity = paired_proportion(before, after, reference.patients, confidence), None
        positive, negative = len(reference), 0
    else:
        sensitivity = _share(reference, variant, 1, confidence)
        specificity = _share(reference, variant, 0, confidence)
        positive, negative = (side.images if side else 0 for side in (sensitivity, specificity))
    changed = (reference.answers != variant.answers) & (target >= 0)
    lacks = _lacks(reference, positive, negative)
    few = _few(reference, positive, negative, minimum)
    return GroupEvidence(
        by=by,
        name=name,
        images=len(reference),
        patients=len(set(reference.patients)),
        positive=positive,
        negative=negative,
        auroc=auroc,
        sensitivity=sensitivity,
        specificity=specificity,
        flips=int(changed.any(axis=1).sum()),
        descriptive=bool(lacks or few),
        note="; ".join(filter(None, (lacks, few, _averaged(reference)))),
    )


def _adjusted(groups: Sequence[GroupEvidence]) -> tuple[GroupEvidence, ...]:
    for side in ("auroc", "sensitivity", "specificity"):
        losses = [getattr(group, side) for group in groups]
        adjusted = holm([loss.p_value if loss else None for loss in losses])
        groups = [
            msgspec.structs.replace(group, **{side: msgspec.structs.replace(loss, p_adjusted=p)}) if loss else group
            for group, loss, p in zip(groups, losses, adjusted, strict=True)
        ]
    return tuple(groups)


def _share(reference: Judged, variant: Judged, value: int, confidence: float) -> PairedProportion | None:
    """Of the pairs of an image and a class (of two the positive one) where it is present (1), or absent (0)."""
    columns = reference.columns
    rows, places = np.nonzero(reference.target[:, columns] == value)
    if not len(rows):
        return None
    before, after = (model.answers[:, columns][rows, places] == value for model in (reference, variant))
    return paired_proportion(before, after, [reference.patients[row] for row in rows.tolist()], confidence)


def _lacks(found: Judged, positive: int, negative: int) -> str:
    """Which side a group of one class alone lacks, and what therefore cannot be said."""
    decision = found.decision
    if decision.kind == "multiclass":
        return "" if found.judgeable else f"all are {decision.classes[found.target[0].argmax()]}, so there is no AUROC"
    all_have, none_has = f"all have {decision.positive}", f"none has {decision.positive}"
    if decision.kind == "multilabel":
        all_have, none_has = "every finding is present in all", "no finding is present in any"
    if not negative:
        return f"{all_have}, so there is no specificity and no AUROC"
    if not positive:
        return f"{none_has}, so there is no sensitivity and no AUROC"
    return "" if found.judgeable else "no finding is present in some and absent in others, so there is no AUROC"


def _few(found: Judged, positive: int, negative: int, minimum: int) -> str:
    """Of what there is too little."""
    sides = ((positive, "with the finding"), (negative, "without the finding"))
    if found.decision.kind == "multiclass":
        sides = ()
    elif found.decision.kind == "multilabel":
        sides = ((positive, "findings present"), (negative, "findings absent"))
    few = [f"{count} {words}" for count, words in sides if 0 < count < minimum]
    # Findings of one image are no independent evidence, and several classes have no sides.
    if found.decision.kind != "binary" and len(found) < minimum:
        few = [f"{len(found)} images"]
    return f"{' and '.join(few)}; fewer than {minimum}" if few else ""


def _averaged(found: Judged) -> str:
    """Over which part of the classes AUROC is the mean."""
    several, of = len(found.judgeable), len(found.columns)
    if not 0 < several < of:
        return ""
    what = "findings" if found.decision.kind == "multilabel" else "classes"
    return f"AUROC is over {several} of {of} {what}: the others are in none of these images, or in all"
