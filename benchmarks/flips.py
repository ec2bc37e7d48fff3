"""The images whose answer changed between the reference and a variant, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ..runtime.decision import Decision
from ..runtime.errors import DataError

# The gravest first: what a patient could be harmed by, then what cannot be told to be better or worse.
KINDS = (
    "lost finding",
    "new false alarm",
    "lost",
    "changed",
    "found finding",
    "false alarm mended",
    "mended",
)
UNKNOWN = "unknown"


class Flip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image whose answer changed; of several findings, one finding of one image.

    Attributes:
        case: its number among the variant's flips from 1, the gravest first.
        kind: ``lost finding`` (right to wrong, a finding missed), ``new false alarm``, ``lost`` (right to wrong, of
            several classes), ``found finding``, ``false alarm mended``, ``mended``, ``changed`` (wrong to wrong, or
            the truth is not known).
        of: the class or finding whose probability is shown: of two classes the positive one, of several the true one
            (the reference's answer where the truth is not known).
        truth, reference, variant: the classes answered, as words; of findings ``present`` or ``absent``. A truth that
            is not known is ``unknown``.
        reference_probability, variant_probability: of ``of``.
        threshold: of ``of``; of several classes None, where the likeliest class is the answer.
        sha256: of the decoded pixels, so that the image can be found without its name.
        index: its place among the held-out images; where to look for the file.
    """

    case: int
    kind: str
    of: str
    truth: str
    reference: str
    variant: str
    reference_probability: float
    variant_probability: float
    threshold: float | None
    sha256: str
    index: int

    @property
    def moved(self) -> float:
        """How far the probability rose from the reference to the variant; negative where it fell."""
        return self.variant_probability - self.reference_probability

    @property
    def reference_distance(self) -> float | None:
        """The reference's probability less the threshold; None where there is no threshold."""
        return None if self.threshold is None else self.reference_probability - self.threshold

    @property
    def variant_distance(self) -> float | None:
        """The variant's probability less the threshold; None where there is no threshold."""
        return None if self.threshold is None else self.variant_probability - self.threshold


def find_flips(
    decision: Decision,
    target: npt.ArrayLike,
    reference_probabilities: npt.NDArray[np.floating],
    variant_probabilities: npt.NDArray[np.floating],
    hashes: Sequence[str],
) -> tuple[Flip, ...]:
    """Every image whose answer changed; in the order of :data:`KINDS`, then by how far the probability moved.

    Args:
        target: (N, classes), see :func:`medcompress.benchmarks.statistics.metrics.truth`; of all held-out images, those
            of unknown truth too.
        reference_probabilities, variant_probabilities: (N, classes), on the same images.
        hashes: SHA-256 of each image's decoded pixels.

    Raises:
        DataError: the four do not line up.
    """
    matrix = np.asarray(target, np.int8).reshape(-1, len(decision.classes))
    before, after = (
        np.asarray(probabilities, np.float64).reshape(-1, len(decision.classes))
        for probabilities in (reference_probabilities, variant_probabilities)
    )
    if not len(matrix) == len(before) == len(after) == len(hashes):
        raise DataError(
            f"{len(matrix)} labels, {len(before)} and {len(after)} predictions and {len(hashes)} hashes do not line "
            "up; each image needs one of each"
        )
    changes = _changed_findings if decision.kind == "multilabel" else _changed_classes
    found = [
        Flip(
            case=0,
            kind=kind,
            of=decision.classes[c],
            truth=words[0],
            reference=words[1],
            variant=words[2],
            reference_probability=float(before[index, c]),
            variant_probability=float(after[index, c]),
            threshold=decision.threshold_of(c),
            sha256=hashes[index],
            index=index,
        )
        for index, c, kind, words in changes(decision, matrix, decision.answers(before), decision.answers(after))
    ]
    found.sort(key=lambda flip: (KINDS.index(flip.kind), -abs(flip.moved), flip.index))
    return tuple(msgspec.structs.replace(flip, case=case) for case, flip in enumerate(found, 1))


# Of one change: the image, the class shown, its kind, and (truth, reference, variant) in words.
_Change = tuple[int, int, str, tuple[str, str, str]]
_Answers = npt.NDArray[np.bool_]


def _changed_classes(
    decision: Decision, target: npt.NDArray[np.int8], before: _Answers, after: _Answers
) -> Iterator[_Change]:
    for index in np.flatnonzero((before != after).any(axis=1)).tolist():
        old, new = int(before[index].argmax()), int(after[index].argmax())
        row = target[index]
        known = bool((row >= 0).all()) and int(row.sum()) == 1
        true = int(row.argmax()) if known else None
        if decision.kind == "binary":
            shown = decision.positive_index
            kind = _kind(None if true is None else true == shown, new == shown)
        else:
            shown = old if true is None else true
            kind = "lost" if old == true else "mended" if new == true else "changed"
        names = decision.classes
        yield index, shown, kind, (UNKNOWN if true is None else names[true], names[old], names[new])


def _changed_findings(
    decision: Decision, target: npt.NDArray[np.int8], before: _Answers, after: _Answers
) -> Iterator[_Change]:
    word = {1: "present", 0: "absent", -1: UNKNOWN}
    for index, c in np.argwhere(before != after).tolist():
        present = int(target[index, c])
        old, new = bool(before[index, c]), bool(after[index, c])
        kind = _kind(None if present < 0 else present == 1, new)
        yield index, c, kind, (word[present], word[old], word[new])


def _kind(present: bool | None, answered: bool) -> str:
    """Of a change to ``answered`` where the truth is ``present``: of two answers, the other one was given before."""
    if present is None:
        return "changed"
    if present:
        return "found finding" if answered else "lost finding"
    return "new false alarm" if answered else "false alarm mended"
