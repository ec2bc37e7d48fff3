"""The margins written down before a run, and the verdict after it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ..runtime.errors import InputError, missing_package
from .statistics.metrics import Change, Scores


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse than the reference a variant may be, on the held-out images.

    Attributes:
        auroc_drop: largest loss, absolute (0.01 is one point of a hundred).
        sensitivity_drop, specificity_drop: likewise, of any class: what a mean over classes hides.
        flips: largest share of images whose answer changes, in either direction.
        probability_change: largest change of any probability of any image: what a mean hides.
    """

    auroc_drop: float = 0.005
    sensitivity_drop: float = 0.01
    specificity_drop: float = 0.01
    flips: float = 0.02
    probability_change: float = 0.25

    def __post_init__(self) -> None:
        wrong = [name for name, margin in msgspec.structs.asdict(self).items() if not 0 <= margin <= 1]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must lie in 0..1")


class Verdict(msgspec.Struct, frozen=True):
    """Of one variant: ``pass``, or ``fail`` with every margin it broke."""

    outcome: Literal["pass", "fail"]
    reasons: tuple[str, ...] = ()


def judge(tolerance: Tolerance, reference: Scores, candidate: Scores, changed: Change, images: int) -> Verdict:
    """Hold a candidate's scores on ``images`` images against the margins."""
    pairs = list(zip(reference.by_class, candidate.by_class, strict=True))
    losses = {
        "AUROC falls by": (reference.auroc - candidate.auroc, tolerance.auroc_drop),
        "sensitivity falls by": (max(before[0] - after[0] for before, after in pairs), tolerance.sensitivity_drop),
        "specificity falls by": (max(before[1] - after[1] for before, after in pairs), tolerance.specificity_drop),
        "the share of changed answers is": (changed.flips / images, tolerance.flips),
        "a probability moves by": (changed.probability_change, tolerance.probability_change),
    }
    # NaN compares false with everything: it must not pass.
    broken = [f"{what} {loss:.4f} ({margin} allowed)" for what, (loss, margin) in losses.items() if not loss <= margin]
    return Verdict("fail" if broken else "pass", tuple(broken))


def read_tolerance(path: Path) -> Tolerance:
    """Margins from a YAML (or JSON) file; those it does not name keep their defaults.

    Raises:
        InputError: unreadable, unknown keys, or margins outside 0..1.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Tolerance)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ImportError as error:
        raise missing_package("pyyaml", "report") from error
    except msgspec.DecodeError as error:
        keys = ", ".join(Tolerance.__struct_fields__)
        raise InputError(f"{path}: is not a tolerance ({error}); its keys are: {keys}") from error
