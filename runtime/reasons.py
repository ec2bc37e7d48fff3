"""Why an image is refused, or what to beware of: for a person a sentence, for a program a code that stays the same."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Value: TypeAlias = "str | int | float"


class Reason(msgspec.Struct, frozen=True):
    """One caution, or one refusal.

    Attributes:
        code: stable, words with hyphens: a page says it in another language by it.
        text: the sentence, in English.
        values: what stands in the sentence: DICOM's codes, numbers. Nothing a file says that might be a name.
    """

    code: str
    text: str
    values: dict[str, Value] = {}
