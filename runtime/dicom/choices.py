"""Rendering and policy from words: ``--modality CR,DX --body-part CHEST --dicom secondary-capture=flag``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..errors import InputError
from .policy import DicomPolicy
from .rendering import DicomRendering

# What has an option of its own.
_ELSEWHERE = {"policy", "modalities", "body_parts"}


def chosen_rendering(
    usual: DicomRendering, modalities: Iterable[str], body_parts: Iterable[str], settings: Iterable[str]
) -> DicomRendering:
    """``usual`` with what was chosen in place of its own.

    Args:
        modalities, body_parts: that the model is made for, in any case; none leaves those of ``usual``.
        settings: NAME=VALUE, of the fields of :class:`DicomRendering` and :class:`DicomPolicy`; a window is
            CENTRE/WIDTH.

    Raises:
        InputError: no such name, or a value it cannot have.
    """
    of_rendering, of_policy = (set(kind.__struct_fields__) - _ELSEWHERE for kind in (DicomRendering, DicomPolicy))
    rendering = msgspec.to_builtins(usual)
    policy = rendering["policy"]
    for setting in settings:
        name, equals, value = setting.partition("=")
        field = name.strip().replace("-", "_")
        if not equals or field not in of_rendering | of_policy:
            names = ", ".join(sorted(known.replace("_", "-") for known in of_rendering | of_policy))
            raise InputError(f"--dicom {setting}: give NAME=VALUE; the names are {names}")
        (rendering if field in of_rendering else policy)[field] = _value(field, value.strip())
    for field, codes in (("modalities", modalities), ("body_parts", body_parts)):
        policy[field] = [code.strip().upper() for code in codes if code.strip()] or policy[field]
    try:
        return msgspec.convert(rendering, DicomRendering)
    except msgspec.ValidationError as error:
        raise InputError(f"--modality, --body-part or --dicom: {error}") from error


def _value(field: str, value: str) -> Any:
    try:
        if field == "window":
            return [float(part) for part in value.split("/")] if value else None
        return int(value) if value.lstrip("-").isdigit() else value
    except ValueError as error:
        raise InputError(f"--dicom window={value}: give CENTRE/WIDTH, as in 40/400") from error
