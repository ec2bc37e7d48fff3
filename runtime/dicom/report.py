"""A structured report of an answer: TID 1500 in a Comprehensive SR, beside the image it answers for.

Comprehensive SR is what most archives and viewers store and render of the TID 1500 carriers; nothing here needs the 3D
coordinates of its larger sibling. The document stays UNVERIFIED and PRELIMINARY: a program is no verifying observer.

    Imaging Measurement Report                                        TID 1500
        Comment: NOT FOR CLINICAL USE ...                             unless the caller says it is
        Comment: each caution
        Imaging Measurements
            Measurement Group                                         TID 1501
                Algorithm Name, Version, Parameters                   TID 4019
                Summary of Analyses: Succeeded | Not Attempted        CID 6042
                Finding: the class answered                           one of several classes
                <finding>: Present | Absent                           any number of findings
                Probability of <class>, Decision threshold of <class> TID 300, unit 1
                Source: the image

A class that was not answered is never a Finding: a reader that shows names without their values must not show it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle
from ..prediction import Prediction
from .derived import (
    MAKER,
    NOT_FOR_CLINICAL_USE,
    SCHEME,
    charset,
    code_value,
    encoding,
    frames_of,
    header_of,
    instance_uid,
    plain,
    require_highdicom,
    series_parts,
    uid,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KIND = "report"
_WARNING = f"{NOT_FOR_CLINICAL_USE}: research use only, not evaluated as a medical device"


def make_report(
    source: Dataset,
    answer: Prediction | str,
    bundle: Bundle,
    *,
    input_sha256: str,
    clinical: bool = False,
    receipt: str = "",
) -> Dataset:
    """The answer for one DICOM image as a structured report of the same study, in a series of its own.

    Args:
        source: the image's data set; its pixels are not needed.
        answer: with its cautions; or, in words that name no file, why there is none: silence would read as "nothing
            was found".
        bundle: that answered.
        input_sha256: of the file that was answered, as it stands in the audit log.
        clinical: leave "NOT FOR CLINICAL USE" out of the series description and of the content: whoever runs this
            model on patients says by it that it is approved for that.
        receipt: names this answering of the image: with the same one, the report gets the same UID.

    Raises:
        ImageError: the header is too damaged for anything to be filed beside the image.
        MachineError: highdicom is not installed.
    """
    require_highdicom()
    with encoding(KIND):
        header = header_of(source)
        if isinstance(answer, str):
            group, ran, comments = _nothing(), (), (f"No answer was given: {answer}",)
        else:
            group, ran, comments = _answer_items(answer, bundle), (f"variant={answer.variant}",), answer.cautions
        parameters = (*_parameters(bundle, input_sha256), *ran)
        return _document(header, frames_of(source, bundle), bundle, group, parameters, comments, clinical, receipt)


def _parameters(bundle: Bundle, input_sha256: str) -> tuple[str, ...]:
    """Algorithm Parameters (TID 4019): what must be equal for the answer to be the same."""
    preprocessing = bundle.manifest.preprocessing
    return (
        f"bundle sha256={bundle.identity}",
        f"preprocessing version={preprocessing.version}",
        f"input sha256={input_sha256}",
    )


def _nothing() -> dict[str, Any]:
    """That there is no answer, as arguments of a measurement group."""
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    return {"qualitative_evaluations": [QualitativeEvaluation(codes.DCM.SummaryOfAnalyses, codes.DCM.NotAttempted)]}


def _answer_items(prediction: Prediction, bundle: Bundle) -> dict[str, Any]:
    """The answer as arguments of a measurement group."""
    from highdicom.sr import Measurement, QualitativeEvaluation
    from pydicom.sr.codedict import codes

    decision = bundle.manifest.decision
    measurements = []
    for c, name in enumerate(decision.classes):
        threshold = decision.threshold_of(c) if decision.kind == "multilabel" or name == decision.positive else None
        values = [("P", "Probability", prediction.probabilities[name])]
        values += [] if threshold is None else [("T", "Decision threshold", threshold)]
        for letter, what, value in values:
            concept = _code(f"{letter}:{name}", f"{what} of {name}")
            measurements.append(Measurement(concept, round(value, 6), codes.UCUM.NoUnits))
    evaluations = [QualitativeEvaluation(codes.DCM.SummaryOfAnalyses, codes.DCM.Succeeded)]
    finding = None
    if decision.kind == "multilabel":
        for name in decision.classes:
            value = codes.cid240.Present if name in prediction.labels else codes.cid240.Absent
            evaluations.append(QualitativeEvaluation(_code(name, name), value))
    else:
        finding = _code(prediction.labels[0], prediction.labels[0])
    return {"finding_type": finding, "measurements": measurements, "qualitative_evaluations": evaluations}


def _document(
    header: Dataset,
    frames: list[int] | None,
    bundle: Bundle,
    group: dict[str, Any],
    parameters: tuple[str, ...],
    comments: tuple[str, ...],
    clinical: bool,
    receipt: str,
) -> Dataset:
    from highdicom import sr
    from highdicom.sr import RelationshipTypeValues
    from pydicom.sr.codedict import codes

    made_by = version("medcompress")
    instance = instance_uid(header, bundle, KIND, receipt)
    image = sr.SourceImageForMeasurementGroup(str(header.SOPClassUID), str(header.SOPInstanceUID), frames)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid("device", bundle.identity), MAKER, MAKER, f"{MAKER} {made_by}", bundle.identity
    )
    measured = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid("answer", instance), "answer for one image"),
        algorithm_id=sr.AlgorithmIdentification(MAKER, made_by, parameters, manufacturer=MAKER),
        source_images=[image],
        **group,
    )
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        codes.SCT.ImagingProcedure,
        [measured],
    )
    said = comments if clinical else (_WARNING, *comments)
    # Ahead of the measurements, so that a renderer that works from the top says it first.
    for place, text in enumerate(said, start=len(content[0].ContentSequence) - 1):
        comment = sr.TextContentItem(codes.DCM.Comment, plain(text, 1000), RelationshipTypeValues.CONTAINS)
        content[0].ContentSequence.insert(place, comment)
    texts = (*said, *bundle.manifest.decision.classes)
    document = sr.ComprehensiveSR(
        evidence=[header],
        content=content,
        sop_instance_uid=instance,
        is_complete=True,
        specific_character_set=charset(header, texts),
        **series_parts(header, bundle, KIND, clinical),
    )
    _declare_scheme(document)
    return document


def _declare_scheme(document: Dataset) -> None:
    """Say whose the codes of our own scheme are (PS3.3 section C.12.1, Coding Scheme Identification Sequence)."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = "Class names of the bundles of medcompress"
    item.CodingSchemeResponsibleOrganization = MAKER
    document.CodingSchemeIdentificationSequence = [item]


def _code(value: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code_value(value), SCHEME, plain(meaning))
