"""Single values of a DICOM header. What a value holds is never told: it could name a patient."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from ..errors import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# An item of a sequence takes microseconds and 8 bytes: a header of nothing else would take minutes.
MAX_ITEMS = 20_000
# And so does an element of an item. The groups of a thousand frames take one to two MiB.
MAX_SEQUENCE_BYTES = 2 * 1024 * 1024


def value_of(source: Dataset, keyword: str) -> Any:
    """The value of an attribute, None where there is none.

    Raises:
        ImageError: it cannot be read; what it holds is not told.
    """
    try:
        raw = source.get_item(keyword) if keyword in source else None
        value = getattr(raw, "value", None)
        if isinstance(value, bytes) and keyword.endswith("Sequence"):
            items = max(value.count(tag) for tag in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"))
            if items > MAX_ITEMS or len(value) > MAX_SEQUENCE_BYTES:
                raise ImageError(f"has more in its {keyword} than is read: {items:,} items, {len(value):,} bytes")
        return source.get(keyword)
    except ImageError:
        raise
    except Exception as error:  # pydicom raises what its parsers meet first
        raise ImageError(f"has a damaged {keyword}") from error


def text_of(source: Dataset, keyword: str) -> str:
    value = value_of(source, keyword)
    if value is None:
        return ""
    return str(value if isinstance(value, str) else next(iter(value), "")).strip().upper()


def numbers_of(source: Dataset, keyword: str) -> list[float]:
    value = value_of(source, keyword)
    try:
        found = (
            [] if value in (None, "") else [float(value)] if isinstance(value, (int, float)) else [*map(float, value)]
        )
    except (TypeError, ValueError) as error:
        raise ImageError(f"has a {keyword} that is no number") from error
    if not all(map(math.isfinite, found)):
        raise ImageError(f"has a {keyword} that is no number")
    return found


def number_of(source: Dataset, keyword: str, default: float) -> float:
    found = numbers_of(source, keyword)
    return found[0] if found else default


def integer_of(source: Dataset, keyword: str, default: int = 0) -> int:
    return int(number_of(source, keyword, default))


def needed(source: Dataset, keyword: str) -> int:
    if not numbers_of(source, keyword):
        raise ImageError(f"does not say its {keyword}; copy it again, or export it again")
    return integer_of(source, keyword)


def words_of(source: Dataset, keyword: str) -> list[int]:
    """16-bit values; bytes where the header does not say whether they are signed (implicit VR)."""
    value = value_of(source, keyword)
    if isinstance(value, (bytes, bytearray)):
        return list(struct.unpack(f"<{len(value) // 2}H", value[: len(value) // 2 * 2]))
    return [int(number) for number in numbers_of(source, keyword)]


def items_of(source: Dataset, keyword: str) -> list[Dataset]:
    value = value_of(source, keyword)
    if value is None:
        return []
    if isinstance(value, (bytes, str)) or not hasattr(value, "__getitem__"):
        raise ImageError(f"has a damaged {keyword}")
    return list(value)


def as_signed(word: int, signed: bool) -> int:
    """A 16-bit value as those around it are meant: US and SS are often confused."""
    return word - 65536 if signed and word >= 32768 else word
