"""What a flipped case looks like."""

from __future__ import annotations

import msgspec


class Picture(msgspec.Struct, frozen=True):
    """One image whose answer changed, as a reviewer looks at it. It shows a patient: never part of a bundle.

    Attributes:
        file, patient: where the image lies among the held-out ones, and whose it is.
        image, reference_map, variant_map: ``data:image/...`` URIs: the image, and where each model looked.
    """

    file: str
    patient: str
    image: str
    reference_map: str
    variant_map: str
