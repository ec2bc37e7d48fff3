"""From answers to evidence and verdicts: every variant against the reference, on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ..runtime.decision import Decision
from ..runtime.images import pixel_hash, read_image
from .data.labelled import Labelled
from .data.subgroups import Grouping
from .evaluation import Answers, Logits
from .evidence import Change, ClassEvidence, Evidence, Operating
from .flips import find_flips
from .progress import track
from .row import Row
from .statistics.agreement import Agreement, agreement
from .statistics.assessment import mean_figures
from .statistics.curves import reliability_curves, roc_curves
from .statistics.delong import AurocLoss, auroc_loss
from .statistics.groups import compare_groups
from .statistics.judged import Judged, judged, known_images
from .statistics.measures import overall_values
from .statistics.multiplicity import holm
from .statistics.operating import own_thresholds
from .statistics.paired import PairedProportion, paired_proportion
from .statistics.shift import shift
from .statistics.temperature import fit_temperature
from .tolerance import Tolerance
from .verdict import Criterion, judge, of_auroc, of_calibration, of_flips, of_probability, of_share

# Of an image's largest raw output: what another order of float additions leaves. INT8 and bfloat16 move more.
IDENTICAL = 1e-4


def weigh(
    answers: Answers,
    reference: str,
    decision: Decision,
    test: Labelled,
    validation: Labelled | None,
    tolerance: Tolerance,
    groupings: Sequence[Grouping] = (),
    *,
    hashed: bool = True,
) -> tuple[tuple[Row, ...], tuple[Evidence, ...]]:
    """The rows with their figures and verdicts, and the evidence of each row that answered, the reference's first.

    Args:
        answers: with the part ``test``, and ``val`` where there are validation images.
        decision: locked.
        hashed: name the images whose answer changed by their pixels' hash, for which their files are read.

    Raises:
        DataError: nothing is known of the images.
        MachineError: scikit-learn is not installed.
    """
    found = answers.logits["test"]
    names = [reference, *(row.name for row in answers.rows if row.name in found and row.name != reference)]
    hashes: dict[int, str] = {} if hashed else dict.fromkeys(range(len(test)), "")
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
    confidence = tolerance.confidence
    before, after = decision.probabilities(reference_logits), decision.probabilities(variant_logits)
    # What is known of no image says nothing of either model; only the list of changed answers holds all.
    known = known_images(decision, test.target)
    reference, variant = (judged(decision, test.target, chances, test.patients) for chances in (before, after))
    target, patients = reference.target, reference.patients
    people, chances = len(set(patients)), (reference.probabilities, variant.probabilities)
    outputs = reference_logits[known], variant_logits[known]
    auroc = auroc_loss(target, *chances, reference.judgeable, patients, confidence) if reference.judgeable else None
    classes = _classes(reference, variant, confidence)
    alike = agreement(decision, *outputs, patients, confidence)
    draws = tolerance.draws if variant_logits is not reference_logits else 0
    differences = mean_figures([variant], [reference], draws, tolerance.seed, confidence)
    bases, values = overall_values(reference), overall_values(variant)
    changes = {
        figure: Change(_known(bases[figure]), _known(values[figure]), difference)
        for figure, difference in differences.items()
    }
    criteria = _criteria(reference, variant, auroc, classes, alike, changes["ece"].difference.value, people, tolerance)
    verdict = judge(criteria, identical=alike.flips == 0 and _identical(*outputs))
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
        groups=compare_groups(
            decision, test.target, before, after, test.patients, groupings, tolerance.minimum, confidence
        ),
        roc=roc_curves(variant),
        reliability=reliability_curves(variant),
        flips=find_flips(decision, test.target, before, after, [hashes.get(row, "") for row in range(len(test))]),
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


def _criteria(
    reference: Judged,
    variant: Judged,
    auroc: AurocLoss | None,
    classes: Sequence[ClassEvidence],
    alike: Agreement,
    rise: float | None,
    patients: int,
    tolerance: Tolerance,
) -> list[Criterion]:
    images = len(reference)
    fewest = min((min(each.sensitivity.images, each.specificity.images) for each in classes), default=0)
    moved = shift(reference, variant, tolerance.confidence)
    return [
        of_auroc(auroc, images, fewest, patients, tolerance),
        *(of_share("sensitivity", each.name, each.sensitivity, tolerance) for each in classes),
        *(of_share("specificity", each.name, each.specificity, tolerance) for each in classes),
        of_calibration(rise, moved, images, patients, tolerance),
        of_flips(alike, patients, tolerance),
        of_probability(alike, patients, tolerance),
    ]


def _identical(reference: Logits, variant: Logits) -> bool:
    """Whether each image's outputs are those of the reference, to :data:`IDENTICAL` of their own size."""
    own = np.abs(reference).max(axis=1)
    # An image whose outputs are all near 0 is held to what is usual.
    size = np.maximum(own, np.median(own))
    return bool((np.abs(variant.astype(np.float64) - reference).max(axis=1) <= IDENTICAL * size).all())


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


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
