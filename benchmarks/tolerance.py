"""The margins written down before a run."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ..runtime.errors import InputError, missing_package

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Inside: TypeAlias = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class OperatingPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where on the reference's ROC curve of the validation images the threshold is put; exactly one of them.

    Attributes:
        sensitivity: the highest threshold that reaches it.
        specificity: the lowest threshold that reaches it.
        cost: false alarms that one missed disease is worth; the threshold of the lowest total cost.
    """

    sensitivity: Inside | None = None
    specificity: Inside | None = None
    cost: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.sensitivity, self.specificity, self.cost)) != 1:
            raise ValueError("an operating point is given by one of: sensitivity, specificity, cost")


class Subgroups(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way to divide the images; shown, not part of the verdict.

    Attributes:
        column: of the table of metadata; its values are the groups.
        pattern: or a regular expression, searched in the file's path: its first group is the group's name.
        bands: limits between the groups of a column of numbers: ``[18, 65]`` makes below 18, 18 to 65, 65 and above.
        name: shown; by default the column's.
    """

    column: str = ""
    pattern: str = ""
    bands: tuple[float, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if bool(self.column) == bool(self.pattern):
            raise ValueError("subgroups are given by a column or by a pattern")
        if self.bands and (self.pattern or list(self.bands) != sorted(set(self.bands))):
            raise ValueError("bands are the limits of a column of numbers, rising")
        if self.pattern and not self.name:
            raise ValueError("subgroups by a pattern need a name")

    @property
    def title(self) -> str:
        """The name, or the column's."""
        return self.name or self.column


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse than the reference a variant may be, on the held-out images, and what proves that it is not.

    The first five are held against the one-sided bound, at ``confidence``, of what these images leave possible; the
    next one, of which there is no bound, against what was measured.

    Attributes:
        auroc_drop: largest loss, absolute (0.01 is one point of a hundred); of several classes of their mean.
        sensitivity_drop, specificity_drop: likewise, at the locked threshold.
        ece_rise: largest rise of the expected calibration error.
        flips: largest share of images whose answer changes, in either direction.
        probability_change: largest change of any probability of any image: what a mean hides.
        classes: of several, sensitivity and specificity are held against the margins in ``each`` class, or in their
            ``mean``, which a rare one hardly moves.
        confidence: of every bound.
        power: of the number of patients that would settle what is inconclusive.
        minimum: images with the class, and without, below which nothing is judged.
        threshold: ``keep`` the checkpoint's; a number; ``youden``; or an operating point; the last two are found on
            the validation images with the reference.
        temperature: ``keep`` the probabilities, or ``refit`` a temperature on the validation images.
        subgroups: the images are also looked at by these.
        draws, seed: of the bootstrap.
    """

    auroc_drop: Share = 0.01
    sensitivity_drop: Share = 0.03
    specificity_drop: Share = 0.05
    ece_rise: Share = 0.03
    flips: Share = 0.03
    probability_change: Share = 0.25
    classes: Literal["each", "mean"] = "each"
    confidence: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.95
    power: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.8
    minimum: Count = 30
    threshold: Inside | Literal["keep", "youden"] | OperatingPoint = "keep"
    temperature: Literal["keep", "refit"] = "keep"
    subgroups: tuple[Subgroups, ...] = ()
    draws: Annotated[int, msgspec.Meta(ge=100, le=100_000)] = 2000
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        names = [entry.title for entry in self.subgroups]
        if len(set(names)) < len(names):
            raise ValueError("two subgroups have the same name")


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the margins were written down.

    Attributes:
        source: the file's name; empty for the defaults.
        sha256: of the file's bytes, or of the defaults as JSON.
        written: when the file was last changed, UTC, ISO 8601; empty for the defaults.
        measured: when these images were first answered, as far as the run and the bundle it replaces tell.
    """

    source: str
    sha256: str
    written: str
    measured: str

    @property
    def before(self) -> bool:
        """Whether the margins are older than the results; defaults always are."""
        return self.written <= self.measured


def read_tolerance(path: Path) -> Tolerance:
    """Margins from a YAML (or JSON) file; those it does not name keep their defaults.

    Raises:
        InputError: unreadable, unknown keys, or impossible values.
    """
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=Tolerance | None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ImportError as error:
        raise missing_package("pyyaml", "report") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        keys = ", ".join(Tolerance.__struct_fields__)
        raise InputError(f"{path}: is not a tolerance ({error}); its keys are: {keys}") from error
    if found is None:
        raise InputError(f"{path}: is empty; write the margins that differ, or leave --tolerance out for the defaults")
    return found


def register(path: Path | None, measured: str) -> Registration:
    """What is known of the margins' age.

    Args:
        path: their file; None for the defaults.
        measured: UTC, ISO 8601.
    """
    if path is None:
        digest = hashlib.sha256(msgspec.json.encode(Tolerance())).hexdigest()
        return Registration("", digest, "", measured)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return Registration(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), written, measured)
