"""From answers to evidence and verdicts: every variant against the reference, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from ..runtime.decision import Decision
from ..runtime.errors import DataError
from ..runtime.images import pixel_hash, read_image
from .data.labelled import Labelled
from .data.subgroups import Grouping
from .evaluation import Answers, Logits
from .evidence import Change, ClassEvidence, Evidence, Operating
from .flips import find_flips
from .progress import track
from .row import Row
from .statistics.agreement import Agreement, agreement
from .statistics.assessment import Figure, mean_figures
from .statistics.curves import reliability_curves, roc_curves
from .statistics.delong import AurocLoss, auroc_loss
from .statistics.groups import compare_groups
from .statistics.judged import Judged, judged
from .statistics.measures import overall_values
from .statistics.multiplicity import holm
from .statistics.operating import lock, own_thresholds
from .statistics.paired import PairedProportion, paired_proportion
from .statistics.temperature import fit_temperature
from .tolerance import Tolerance
from .verdict import Criterion, Verdict, judge, of_auroc, of_bootstrap, of_flips, of_probability, of_share

# Of the largest raw output, at least 1: what another order of float additions leaves. INT8 and bfloat16 move more.
IDENTICAL = 1e-4


def check_rule(decision: Decision, rule: object) -> None:
    """Refuse a rule for the threshold where there is none, before anything is measured."""
    if decision.kind == "multiclass" and rule != "keep":
        raise DataError(
            "the tolerance names a threshold, and of several classes the likeliest is the answer; leave it out"
        )


def locked(decision: Decision, tolerance: Tolerance, validation: Labelled | None, logits: Logits | None) -> Decision:
    """The decision with the threshold and the temperature that the reference's answers on validation images give.

    Raises:
        DataError: the rule needs validation images and there are none, or cannot be followed on them.
    """
    rule = tolerance.threshold
    if tolerance.temperature == "keep" and isinstance(rule, float):
        return lock(decision, rule, np.zeros((0, len(decision.classes)), np.int8), np.zeros((0, len(decision.classes))))
    if tolerance.temperature == "keep" and rule == "keep":
        return decision
    if validation is None or logits is None:
        raise DataError("the tolerance locks threshold or temperature on validation images, and there are none")
    if tolerance.temperature == "refit":
        found = fit_temperature(decision, validation.target, logits)
        decision = msgspec.structs.replace(decision, temperature=found)
    return lock(decision, rule, validation.target, logits)


def weigh(
    answers: Answers,
    reference: str,
    decision: Decision,
    test: Labelled,
    validation: Labelled | None,
    tolerance: Tolerance,
    groupings: Sequence[Grouping] = (),
) -> tuple[tuple[Row, ...], tuple[Evidence, ...]]:
    """The rows with their figures and verdicts, and the evidence of each row that answered, the reference's first.

    Args:
        answers: with the part ``test``, and ``val`` where there are validation images.
        decision: locked.

    Raises:
        DataError: nothing is known of the images.
        MachineError: scikit-learn is not installed.
    """
    found = answers.logits["test"]
    names = [reference, *(row.name for row in answers.rows if row.name in found and row.name != reference)]
    hashes: dict[int, str] = {}
    by_name: dict[str, Evidence] = {}
    for name in track(names, "Comparing answers", len(names)):
        operating = _operating(decision, tolerance, validation, answers.logits.get("val", {}).get(name))
        by_name[name] = _compare(
            name, decision, test, found[reference], found[name], tolerance, groupings, hashes, operating
        )
    rows = tuple(_with_figures(row, by_name.get(row.name), reference) for row in answers.rows)
    return rows, tuple(by_name.values())


def _compare(
    name: str,
    decision: Decision,
    test: Labelled,
    reference_logits: Logits,
    variant_logits: Logits,
    tolerance: Tolerance,
    groupings: Sequence[Grouping],
    hashes: dict[int, str],
    operating: Operating | None,
) -> Evidence:
    target, patients, confidence = test.target, test.patients, tolerance.confidence
    before, after = decision.probabilities(reference_logits), decision.probabilities(variant_logits)
    reference, variant = judged(decision, target, before, patients), judged(decision, target, after, patients)
    people = len(set(reference.patients))
    auroc = (
        auroc_loss(target, before, after, reference.judgeable, patients, confidence) if reference.judgeable else None
    )
    classes = _classes(reference, variant, confidence)
    alike = agreement(decision, reference_logits, variant_logits, patients, confidence)
    draws = tolerance.draws if variant_logits is not reference_logits else 0
    differences = mean_figures([variant], [reference], draws, tolerance.seed, confidence)
    bases, values = overall_values(reference), overall_values(variant)
    changes = {
        figure: Change(_known(bases[figure]), _known(values[figure]), difference)
        for figure, difference in differences.items()
    }
    largest = max(1.0, float(np.abs(reference_logits).max()))
    identical = alike.flips == 0 and alike.largest_logit_change <= IDENTICAL * largest
    verdict = _verdict(reference, auroc, classes, alike, differences, people, tolerance, identical)
    changed = np.flatnonzero((decision.answers(before) != decision.answers(after)).any(axis=1)).tolist()
    for row in changed:
        if row not in hashes:
            hashes[row] = pixel_hash(read_image(test.samples[row].path))
    return Evidence(
        variant=name,
        verdict=verdict,
        images=len(reference),
        patients=people,
        auroc=auroc,
        classes=classes,
        agreement=alike,
        changes=changes,
        groups=compare_groups(decision, target, before, after, patients, groupings, tolerance.minimum, confidence),
        roc=roc_curves(variant),
        reliability=reliability_curves(variant),
        flips=find_flips(decision, target, before, after, [hashes.get(row, "") for row in range(len(target))]),
        operating=operating,
    )


def _classes(reference: Judged, variant: Judged, confidence: float) -> tuple[ClassEvidence, ...]:
    """Each class, p-values adjusted over them."""
    found = []
    patients = np.asarray(reference.patients)
    for c in reference.columns:
        area = auroc_loss(
            reference.target, reference.probabilities, variant.probabilities, [c], reference.patients, confidence
        )

        def side(present: bool, c: int = c) -> PairedProportion:
            rows = reference.target[:, c] == int(present)
            before, after = (model.answers[rows, c] == present for model in (reference, variant))
            return paired_proportion(before, after, patients[rows].tolist(), confidence)

        found.append(ClassEvidence(reference.decision.classes[c], area, side(True), side(False)))
    if len(found) < 2:
        return tuple(found)
    adjusted = {
        side: holm([getattr(each, side).p_value if getattr(each, side) else None for each in found])
        for side in ("auroc", "sensitivity", "specificity")
    }
    return tuple(
        msgspec.structs.replace(
            each,
            **{
                side: msgspec.structs.replace(getattr(each, side), p_adjusted=adjusted[side][place])
                for side in adjusted
                if getattr(each, side)
            },
        )
        for place, each in enumerate(found)
    )


def _verdict(
    reference: Judged,
    auroc: AurocLoss | None,
    classes: Sequence[ClassEvidence],
    alike: Agreement,
    differences: Mapping[str, Figure],
    patients: int,
    tolerance: Tolerance,
    identical: bool,
) -> Verdict:
    images = len(reference)
    sides = [min(each.sensitivity.images, each.specificity.images) for each in classes]
    fewest = min(sides, default=0)
    criteria: list[Criterion] = [of_auroc(auroc, images, fewest, patients, tolerance)]
    margins: dict[Literal["sensitivity", "specificity"], float] = {
        "sensitivity": tolerance.sensitivity_drop,
        "specificity": tolerance.specificity_drop,
    }
    for figure, margin in margins.items():
        if tolerance.classes == "mean" and len(classes) > 1:
            loss = _negated(differences[figure])
            criteria.append(of_bootstrap(figure, loss, margin, images, fewest, patients, tolerance))
        else:
            criteria += [of_share(figure, each.name, getattr(each, figure), tolerance) for each in classes]
    criteria.append(of_bootstrap("ece", differences["ece"], tolerance.ece_rise, images, images, patients, tolerance))
    criteria += [of_flips(alike, patients, tolerance), of_probability(alike, patients, tolerance)]
    return judge(criteria, identical=identical)


def _operating(
    decision: Decision, tolerance: Tolerance, validation: Labelled | None, logits: Logits | None
) -> Operating | None:
    """What validation says of a variant at the locked threshold, and where its own would be."""
    if validation is None or logits is None:
        return None
    own = fit_temperature(decision, validation.target, logits) if tolerance.temperature == "refit" else None
    values = overall_values(judged(decision, validation.target, decision.probabilities(logits), validation.patients))
    thresholded = decision.kind != "multiclass"
    return Operating(
        thresholds=own_thresholds(decision, tolerance.threshold, validation.target, logits),
        temperature=own,
        sensitivity=_known(values["sensitivity"]) if thresholded else None,
        specificity=_known(values["specificity"]) if thresholded else None,
    )


def _with_figures(row: Row, evidence: Evidence | None, reference: str) -> Row:
    if evidence is None:
        return row
    status = row.status
    if status == "measured":
        verdict = evidence.verdict
        told = verdict.outcome if verdict.outcome == "pass" else f"{verdict.outcome}: {verdict.reason}"
        status = "reference" if row.name == reference else told
    values = {name: change.variant for name, change in evidence.changes.items()}
    return msgspec.structs.replace(
        row,
        status=status,
        auroc=values["auroc"],
        auroc_drop=evidence.auroc.loss if evidence.auroc else None,
        auroc_drop_bound=evidence.auroc.bound if evidence.auroc and row.name != reference else None,
        accuracy=values["accuracy"],
        sensitivity=values["sensitivity"],
        specificity=values["specificity"],
        probability_change=evidence.agreement.largest_change,
        flips=evidence.agreement.flips,
    )


def _negated(figure: Figure) -> Figure:
    """Of a difference, the loss."""
    value, low, high = (None if end is None else -end for end in (figure.value, figure.low, figure.high))
    return msgspec.structs.replace(figure, value=value, low=high, high=low)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
