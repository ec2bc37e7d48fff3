"""What the held-out images say of one variant against the reference: everything a verdict and a page are made from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .flips import Flip
from .statistics.agreement import Agreement
from .statistics.assessment import Figure
from .statistics.curves import Curve
from .statistics.delong import AurocLoss
from .statistics.paired import PairedProportion
from .verdict import GRAVITY, Verdict


class ClassEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class against the rest, or one finding; of two classes the positive one alone.

    Attributes:
        auroc: None where no image, or every one, has the class.
        sensitivity: among the images that have it; ``specificity``: among those that have not.
    """

    name: str
    auroc: AurocLoss | None
    sensitivity: PairedProportion
    specificity: PairedProportion


class GroupEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same over the images of one subgroup; of several classes sensitivity is the share answered right.

    Attributes:
        by: the subgroups' title, ``name`` the group's.
        positive, negative: images with and without the finding; of several classes all, and none; of several findings
            pairs of an image and a finding.
        auroc, sensitivity, specificity: None where the group has no images to say it of.
        descriptive: too few images, or one class alone: shown, and no ground for a decision.
        note: what a reader must know of it: why it is descriptive, or over which classes the AUROC is; empty where
            nothing.
    """

    by: str
    name: str
    images: int
    patients: int
    positive: int
    negative: int
    auroc: AurocLoss | None
    sensitivity: PairedProportion | None
    specificity: PairedProportion | None
    flips: int
    descriptive: bool
    note: str


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of :data:`medcompress.benchmarks.statistics.measures.OVERALL`, both models on the same images.

    Attributes:
        difference: variant minus reference, with its paired interval by patient.
    """

    reference: float | None
    variant: float | None
    difference: Figure


class Operating(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The threshold and temperature locked in the bundle, and what this variant's own would have been.

    Attributes:
        thresholds: class -> own threshold by the rule, on the validation images; empty where the rule is ``keep``.
        temperature: own, where it was refit.
        sensitivity, specificity: of the variant on the validation images at the locked threshold; None of several
            classes.
    """

    thresholds: dict[str, float]
    temperature: float | None
    sensitivity: float | None
    specificity: float | None


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of one variant; the reference has one too, compared with itself.

    Attributes:
        variant: its name.
        images, patients: held-out images it was judged on, and whose they are.
        auroc: the loss, over the classes; None where no class has images with and without.
        classes: in the order of the decision; of two the positive one alone.
        changes: by the names of :data:`medcompress.benchmarks.statistics.measures.OVERALL`.
        groups: of all subgroups, in their order.
        roc, reliability: one curve a class (reliability: of several classes one, of the answer).
        flips: the gravest first.
        operating: None where there were no validation images.
    """

    variant: str
    verdict: Verdict
    images: int
    patients: int
    auroc: AurocLoss | None
    classes: tuple[ClassEvidence, ...]
    agreement: Agreement
    changes: dict[str, Change]
    groups: tuple[GroupEvidence, ...]
    roc: tuple[Curve, ...]
    reliability: tuple[Curve, ...]
    flips: tuple[Flip, ...]
    operating: Operating | None


def nearest(evidence: Sequence[Evidence]) -> Evidence | None:
    """Of those that did not pass, the one that came nearest: whose worst criterion is least beyond its margin."""

    def distance(each: Evidence) -> tuple[int, float, str]:
        worst = max((criterion.beyond for criterion in each.verdict.criteria), default=float("inf"))
        return GRAVITY.index(each.verdict.outcome), worst, each.variant

    refused = [each for each in evidence if each.verdict.outcome != "pass"]
    return min(refused, key=distance) if refused else None
