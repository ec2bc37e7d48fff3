"""The margins written down before a run."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ..runtime.errors import InputError, missing_package

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Inside: TypeAlias = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


# The fields that are margins.
MARGINS = ("auroc_drop", "sensitivity_drop", "specificity_drop", "ece_rise", "flips", "probability_change")


class OperatingPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where on the reference's ROC curve of the validation images the threshold is put; exactly one of them.

    Attributes:
        sensitivity: the highest threshold that reaches it.
        specificity: the lowest threshold that reaches it.
        cost: false alarms that one missed disease is worth; the threshold of the lowest total cost.
    """

    sensitivity: Inside | None = None
    specificity: Inside | None = None
    cost: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None

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
        rising = list(self.bands) == sorted(set(self.bands)) and all(map(math.isfinite, self.bands))
        if self.bands and (self.pattern or not rising):
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
        sensitivity_drop, specificity_drop: likewise, at the locked threshold, of every class for itself.
        ece_rise: largest rise of the expected calibration error.
        flips: largest share of images whose answer changes, in either direction.
        probability_change: largest change of any probability of any image: what a mean hides.
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

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader must know before a verdict by these margins, a sentence each."""
        said = []
        wide = [name.replace("_", " ") for name in MARGINS if getattr(self, name) >= 1]
        if wide:
            said.append(f"Not judged, for the tolerance allows every loss: {', '.join(wide)}.")
        default = Tolerance.__struct_defaults__
        fields = dict(zip(Tolerance.__struct_fields__, default, strict=True))
        for name in ("confidence", "minimum"):
            if getattr(self, name) < fields[name]:
                said.append(f"The tolerance asks for less than usual: {name} {getattr(self, name):g}.")
        return tuple(said)


# Where the network itself is another one, learned anew: what a single image may change by is not limited, and more
# answers may change, for half of two equally good networks' disagreements are corrections. That no disease is lost, and
# no alarm raised, is held to the same margins as ever.
BETWEEN_NETWORKS = Tolerance(flips=0.05, probability_change=1.0)


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the margins were written down.

    Attributes:
        source: the file's name; empty for the defaults.
        sha256: of the file's bytes; without a file of the margins as JSON.
        written: when the file was last changed by its own time, UTC, ISO 8601; empty where there is no file.
        measured: when these images were first answered, as far as the run and the bundle it replaces tell.
    """

    source: str
    sha256: str
    written: str
    measured: str

    @property
    def before(self) -> bool:
        """Whether the margins are older than the results; defaults always are, what has no date never is."""
        return not self.source or (bool(self.written) and self.written < self.measured)


def registered(tolerance: Tolerance) -> Registration:
    """Of margins that no file holds: the defaults, or those of a caller, whose age is not known."""
    source = "" if tolerance == Tolerance() else "not from a file"
    return Registration(source, hashlib.sha256(msgspec.json.encode(tolerance)).hexdigest(), "", "")


def read_tolerance(path: Path) -> tuple[Tolerance, Registration]:
    """Margins from a YAML (or JSON) file, and how old they are; those it does not name keep their defaults.

    Raises:
        InputError: unreadable, unknown or repeated keys, or impossible values.
    """
    try:
        import yaml
    except ImportError as error:
        raise missing_package("pyyaml", "report") from error
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file; write the margins into one, so that their age can be told")
    try:
        content = path.read_bytes()
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    keys = ", ".join(Tolerance.__struct_fields__)
    try:
        found = yaml.load(content, _loader())
        tolerance = None if found is None else msgspec.convert(found, Tolerance)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is not a tolerance ({error}); its keys are: {keys}; numbers are written 0.01"
        ) from error
    if tolerance is None:
        raise InputError(f"{path}: is empty; write the margins that differ, or leave --tolerance out for the defaults")
    return tolerance, Registration(path.name, hashlib.sha256(content).hexdigest(), written, "")


def _loader() -> Any:
    """YAML's safe loader, which takes the last of repeated keys: which margin was meant is not ours to guess."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [str(key.value) for key, _ in node.value]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise yaml.YAMLError(f"{repeated[0]} stands in it twice")
            return super().construct_mapping(node, deep)

    return Loader
