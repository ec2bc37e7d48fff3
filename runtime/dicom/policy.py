"""Which DICOM files a model takes: the wrong ones are refused, the doubtful ones answered with a caution."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from ..errors import ImageRefused
from ..reasons import Reason, Value

Action: TypeAlias = Literal["refuse", "flag", "ignore"]

# Secondary Capture Image Storage and its multi-frame kinds (PS3.4 B.5).
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Those of raw data (PS3.4 B.5): radiographs, mammograms, dental ones, and breast projections.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
FOR_PROCESSING = frozenset(f"{_STORAGE}{kind}" for kind in ("1.1.1", "1.2.1", "1.3.1", "13.1.5"))
# What a Code String may hold (PS3.5 6.2).
_CODE = re.compile(r"[A-Z0-9 _]{1,16}")
# What of a file is repeated in a message: anything else in these fields might be a name.
_MODALITIES = frozenset(
    (
        *("CR", "CT", "DX", "ES", "IO", "MG", "MR", "NM", "OP"),
        *("OT", "PT", "PX", "RF", "SC", "SM", "US", "XA", "XC"),
    )
)
_BODY_PARTS = frozenset(
    (
        *("ABDOMEN", "ANKLE", "ARM", "BREAST", "CHEST", "CLAVICLE", "CSPINE", "ELBOW", "EXTREMITY", "EYE"),
        *("FEMUR", "FINGER", "FOOT", "HAND", "HEAD", "HEART", "HIP", "KNEE", "LEG", "LSPINE"),
        *("NECK", "PELVIS", "RIB", "SHOULDER", "SKULL", "SPINE", "THORAX", "TSPINE", "WHOLEBODY", "WRIST"),
    )
)


class DicomPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done about a file that the model was not made for, or whose pixels were changed.

    ``refuse`` gives no answer, ``flag`` an answer with a caution, ``ignore`` an answer.

    Attributes:
        modalities: that the model was made for, DICOM's codes (PS3.3 C.7.3.1.1.1): ``CR``, ``DX``; empty takes any.
        body_parts: in DICOM's defined terms (PS3.16 Annex L): ``CHEST``; empty takes any.
        wrong_modality: a file of another modality, or of none.
        wrong_body_part: a file of another body part. One that names none, as many do, is flagged at most.
        for_processing: a detector's raw data, not meant to be looked at (PS3.3 C.8.11.1.1.1).
        secondary_capture: a screenshot, a scanned film or document, a picture another program made (PS3.3 A.8).
        burned_in: Burned In Annotation YES: the pixels may name the patient, and text may mislead (PS3.3 C.7.6.1.1).
        lossy: Lossy Image Compression 01 (PS3.3 C.7.6.1.1.5), or a JPEG process that always is: detail may be gone.
        no_window: more than 8 bits and no window, so the grey levels were chosen by what the image holds.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    wrong_modality: Action = "refuse"
    wrong_body_part: Action = "refuse"
    for_processing: Action = "refuse"
    secondary_capture: Action = "refuse"
    burned_in: Action = "flag"
    lossy: Action = "flag"
    no_window: Action = "flag"

    def __post_init__(self) -> None:
        for code in (*self.modalities, *self.body_parts):
            if not _CODE.fullmatch(code):
                raise ValueError(f"{code!r} is no DICOM code: capital letters, digits and _, at most 16")


# Looks at pixels without asking whether a model may: for counting, comparing and showing images.
ANY = DicomPolicy(
    wrong_modality="ignore",
    wrong_body_part="ignore",
    for_processing="ignore",
    secondary_capture="ignore",
    burned_in="ignore",
    lossy="ignore",
    no_window="ignore",
)


class Origin(msgspec.Struct, frozen=True):
    """What a file says of how its image came about; of the patient nothing.

    Attributes:
        modality, body_part: empty where the file does not say.
        sop_class: UID of the kind of object.
        intent: ``FOR PRESENTATION`` or ``FOR PROCESSING``, or empty.
        burned_in, lossy: as the file marks them.
    """

    modality: str = ""
    body_part: str = ""
    sop_class: str = ""
    intent: str = ""
    burned_in: bool = False
    lossy: bool = False


def judge(policy: DicomPolicy, origin: Origin, windowed: bool) -> tuple[Reason, ...]:
    """The cautions an image is to be answered with.

    Args:
        windowed: whether its grey levels are shown as the file, or the model, says.

    Raises:
        ImageRefused: the policy refuses it.
    """
    modality, body_part = _said(origin.modality, _MODALITIES), _said(origin.body_part, _BODY_PARTS)
    wanted = " or ".join(policy.modalities)
    parts = " or ".join(policy.body_parts)
    found = [
        (
            policy.wrong_modality,
            bool(policy.modalities) and origin.modality not in policy.modalities,
            f"its modality is {modality}, the model was made for {wanted}",
        ),
        (
            policy.wrong_body_part,
            bool(policy.body_parts) and bool(origin.body_part) and origin.body_part not in policy.body_parts,
            f"it shows {body_part}, the model was made for {parts}",
        ),
        (
            "ignore" if policy.wrong_body_part == "ignore" else "flag",
            bool(policy.body_parts) and not origin.body_part,
            f"it does not say which body part it shows, the model was made for {parts}",
        ),
        (
            policy.for_processing,
            origin.intent == "FOR PROCESSING" or origin.sop_class in FOR_PROCESSING,
            "it holds the detector's raw data (FOR PROCESSING); send the image FOR PRESENTATION",
        ),
        (
            policy.secondary_capture,
            origin.sop_class == SECONDARY_CAPTURE or origin.sop_class.startswith(SECONDARY_CAPTURE + "."),
            "it is a secondary capture (a screenshot, a scan, or another program's picture); send the original image",
        ),
        (
            policy.burned_in,
            origin.burned_in,
            "it is marked as having text burned into its pixels, which can mislead the model",
        ),
        (policy.lossy, origin.lossy, "it was compressed with loss, and fine detail may be missing"),
        (
            policy.no_window,
            not windowed,
            "it has no window (which grey levels to show): all from its darkest to its brightest pixel were shown",
        ),
    ]
    about = (
        _code("modality", origin.modality, _MODALITIES, policy.modalities),
        _code("body-part", origin.body_part, _BODY_PARTS, policy.body_parts),
        _code("body-part", "", _BODY_PARTS, policy.body_parts),
        *((code, {}) for code in ("for-processing", "secondary-capture", "burned-in", "lossy", "no-window")),
    )
    reasons = [
        (action, Reason(code, words, values))
        for (action, applies, words), (code, values) in zip(found, about, strict=True)
        if applies
    ]
    for action, reason in reasons:
        if action == "refuse":
            raise ImageRefused(f"is refused: {reason.text}", reason.code, **reason.values)
    return tuple(reason for action, reason in reasons if action == "flag")


def _code(name: str, found: str, known: frozenset[str], wanted: tuple[str, ...]) -> tuple[str, dict[str, Value]]:
    """Code and values of a reason: only what is no name is repeated of the file."""
    values: dict[str, Value] = {"wanted": ", ".join(wanted)}
    if found in known:
        return name, {**values, "found": found}
    return f"{name}-{'unknown' if found else 'absent'}", values


def _said(code: str, known: frozenset[str]) -> str:
    return code if code in known else "another" if code else "not given"
