"""From class names to the decision a network is trained for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..runtime.decision import Decision
from ..runtime.errors import InputError

# Names of the class without a finding, in lower case and without punctuation.
HEALTHY = frozenset(
    {"normal", "healthy", "negative", "neg", "nofinding", "nofindings", "benign", "control", "clear"}
    | {"notumor", "notumour", "none", "absent", "nodisease", "nopneumonia"}
)


def decision_for(classes: Sequence[str], positive: str = "") -> Decision:
    """The decision over class folders: binary for two, else multiclass.

    Args:
        classes: names in the order of the outputs.
        positive: the finding, of two classes; empty takes the one that does not look healthy by its name, and
            where that is not clear the second.

    Raises:
        InputError: ``positive`` is no class, or was given for more than two.
    """
    names = tuple(classes)
    if len(names) != 2:
        if positive:
            raise InputError(f"--positive goes with two classes, and there are {len(names)}; leave it out")
        return Decision("multiclass", names)
    if positive and positive not in names:
        raise InputError(f"--positive {positive!r} is no class of the data; it is one of {', '.join(names)}")
    healthy = [name for name in names if re.sub(r"[^a-z]", "", name.lower()) in HEALTHY]
    if not positive:
        positive = next(name for name in names if name not in healthy) if len(healthy) == 1 else names[1]
    return Decision("binary", names, positive)
