"""Which body part a coded anatomic region is: from its code, never from its meaning, which may be in any language.

DICOM PS3.3 8.3: Code Meaning is for people to read, and no key to anything. The codes are those of PS3.16 CID 4031 and
Annex L: SNOMED CT's of today, those it had before regions were told from their contents, and SNOMED RT's, now retired.
"""

from __future__ import annotations

# What a body part is called by that is none of the below: no model is made for it.
ANOTHER = "*"

_CODES = {
    "ABDOMEN": ("818981001", "113345001", "T-D4000"),
    "ANKLE": ("70258002", "T-15750"),
    "ARM": ("40983000", "T-D8200"),
    "BREAST": ("76752008", "T-04000"),
    "CHEST": ("816094009", "51185008", "T-D3000"),
    "CLAVICLE": ("51299004", "T-12310"),
    "CSPINE": ("122494005", "T-11501"),
    "ELBOW": ("16953009", "T-15430"),
    "EXTREMITY": ("66019005", "T-D0300"),
    "EYE": ("81745001", "T-AA000"),
    "FEMUR": ("71341001", "T-12710"),
    "FINGER": ("7569003", "T-D8800"),
    "FOOT": ("56459004", "T-D9700"),
    "HAND": ("85562004", "T-D8700"),
    "HEAD": ("69536005", "T-D1100"),
    "HEART": ("80891009", "T-32000"),
    "HIP": ("24136001", "29836001", "T-15710"),
    "KNEE": ("72696002", "T-D9200"),
    "LEG": ("30021000", "T-D9400"),
    "LSPINE": ("122496007", "T-11503"),
    "NECK": ("45048000", "T-D1600"),
    "PELVIS": ("816092008", "12921003", "T-D6000"),
    "RIB": ("113197003", "T-11300"),
    "SHOULDER": ("16982005", "T-D2220"),
    "SKULL": ("89546000", "T-11100"),
    "SPINE": ("421060004", "T-D0146"),
    "TSPINE": ("122495006", "T-11502"),
    "WHOLEBODY": ("38266002", "T-D0010"),
    "WRIST": ("74670003", "T-15460"),
}
_SCHEMES = {"SCT", "SRT", "SNM3", "99SDM"}
_PARTS = {code: part for part, codes in _CODES.items() for code in codes}


def body_part(scheme: str, code: str) -> str:
    """The defined term of Body Part Examined for a code; :data:`ANOTHER` for one that is not known here.

    Args:
        scheme: Coding Scheme Designator.
        code: Code Value.
    """
    return _PARTS.get(code, ANOTHER) if scheme in _SCHEMES else ANOTHER
