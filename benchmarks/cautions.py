"""What keeps figures from meaning much: the reader is told before the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .row import Row
from .tolerance import Tolerance

# Below these the figures say little of any model, let alone of two.
LEAST_AUROC = 0.6
LEAST_IMAGES_A_CLASS = 30


def cautions_of(
    rows: Sequence[Row], reference: str, images: Mapping[str, int], tolerance: Tolerance
) -> tuple[str, ...]:
    """What keeps the figures from meaning much, a sentence each.

    Args:
        images: held-out images of each class.
    """
    auroc = next(row for row in rows if row.name == reference).auroc
    few = [f"{count} of {name}" for name, count in images.items() if count < LEAST_IMAGES_A_CLASS]
    said = []
    if auroc is not None and auroc < LEAST_AUROC:
        said.append(f"The model itself hardly tells the classes apart (AUROC {auroc:.3f}), so passing says little.")
    if few:
        said.append(f"The held-out images are few ({', '.join(few)}), so they show little.")
    return (*said, *tolerance.cautions)
