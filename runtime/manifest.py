"""What a bundle says of itself: the records of its manifest, and what none may say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from .decision import Decision
from .errors import InputError
from .guard import Guard
from .preprocessing import Preprocessing

SCHEMA = 3
# Older manifests have fewer fields and mean the same.
READ = (1, 2, 3)
_MAX_FILES = 1000
_MAX_VARIANTS = 100
# No classifier's weights are longer; longer ones would take minutes to hash.
_MAX_FILE_BYTES = 4 * 1024**3
# Letters, digits, '.', '_' and '-' in at most three folders; no part starts with a dot, so none climbs out.
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,60}")
_SAFE_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/){0,3}[A-Za-z0-9_][A-Za-z0-9._-]*")


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How heat maps of a variant's answers are made, see :mod:`medcompress.runtime.explanation`.

    Attributes:
        graph: file of the bundle: an ONNX graph from the tensors, each of one image, and the class to the map.
        tensors: of the variant's model, by name, the feature maps first.
        grid: (height, width) of the feature maps.
        off: largest difference of any heat map from the one torch makes of the network, of the golden inputs and a
            dozen training images.
        correlation: of the training images' heat maps with torch's, on average.
        method: what they are.
    """

    graph: str
    tensors: tuple[str, ...]
    grid: tuple[int, int]
    off: float
    correlation: float
    method: Literal["grad-cam"] = "grad-cam"


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One runnable form of the model.

    Attributes:
        name: ``onnxruntime-int8-vnni`` and the like.
        engine: a name of :data:`medcompress.runtime.engines.ENGINES`.
        precision: that the engine is made to execute, see :class:`medcompress.runtime.engines.Executed`.
        files: of the bundle, the model first.
        requires: CPU features, or devices (:mod:`.requirements`), without which its answers, or its speed, are not
            those that were measured.
        figures: measured on the build machine, on the test split: auroc, sensitivity, p50_ms, ...
        explanation: None where its answers cannot be explained.
    """

    name: str
    engine: str
    precision: str
    files: tuple[str, ...]
    requires: tuple[str, ...] = ()
    figures: dict[str, float | None] = {}
    explanation: Explanation | None = None

    @property
    def listed(self) -> tuple[str, ...]:
        """Every file of the bundle that it names."""
        return (*self.files, *([self.explanation.graph] if self.explanation else []))


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The images INT8 ranges were taken from, without their names.

    Attributes:
        seed: of the choice.
        sha256: of each image's decoded pixels (:func:`medcompress.runtime.images.pixel_hash`).
        classes: how many of each class.
    """

    seed: int
    sha256: tuple[str, ...]
    classes: dict[str, int]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes and sha256 of one file of the bundle."""

    size: Annotated[int, msgspec.Meta(ge=0, le=_MAX_FILE_BYTES)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bundle says of itself.

    Attributes:
        schema: of this record; newer ones are refused.
        verdict: ``pass``; ``fail``: nothing compressed was as good; ``inconclusive``: nothing was shown to be. Of the
            last two only float forms are here, unless ``accepted``.
        reason: why ``chosen`` was chosen, in a sentence.
        chosen: name of the variant to run on a machine like the one it was measured on.
        reference: name of the variant all others were compared with.
        threads: the figures were measured with, and the default of the runtime.
        spec: of the network (``medcompress.trained.spec.ModelSpec``): the runtime reads nothing from it.
        accepted: an inconclusive form was let through on the maker's word.
        lineage: checkpoint and data fingerprints, tolerance, package versions, CPU of the build machine.
        files: every other file of the bundle.
        guard: what tells images the model was not made for; None where none could be learned.
    """

    schema: int
    created: str
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str
    chosen: str
    reference: str
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)]
    decision: Decision
    preprocessing: Preprocessing
    variants: tuple[Variant, ...]
    spec: dict[str, Any]
    lineage: dict[str, Any]
    files: dict[str, FileEntry] = {}
    accepted: bool = False
    guard: Guard | None = None

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(names) > _MAX_VARIANTS or len(self.files) > _MAX_FILES:
            raise ValueError(f"there are {len(names)} variants and {len(self.files)} files, which no bundle has")
        # They are printed: a name is not to draw on the terminal, or to write a line of its own.
        odd = [name for name in (*names, *self.decision.classes) if not name.isprintable()]
        if odd:
            raise ValueError(f"a variant or class is named {odd[0]!a}, which cannot be printed")
        if len(set(names)) != len(names) or not {self.chosen, self.reference} <= set(names):
            raise ValueError("the variants' names repeat, or the chosen one or the reference is not among them")
        unsafe = [name for name in self.files if not _SAFE_NAME.fullmatch(name)]
        if unsafe:
            raise ValueError(f"a file of the bundle is named {unsafe[0]!r}, which may lead outside it")
        # Windows and macOS would write one over the other.
        if len({name.lower() for name in self.files}) != len(self.files):
            raise ValueError("two files' names differ by capitals only")
        for variant in self.variants:
            unlisted = [name for name in variant.listed if name not in self.files]
            if self.files and (unlisted or not variant.files):
                raise ValueError(f"variant {variant.name} names files that are not listed: {unlisted}")
            _check_form(variant)

    @property
    def made_on(self) -> str:
        """The CPU it was measured on when it was made; empty where it does not say."""
        cpu = self.lineage.get("cpu")
        model = cpu.get("model") if isinstance(cpu, dict) else None
        return model if isinstance(model, str) else ""

    def made_with(self, package: str) -> str:
        """The version of a package it was made with; empty where it does not say one."""
        versions = self.lineage.get("versions")
        found = versions.get(package) if isinstance(versions, dict) else None
        # It is printed within a command that is to be copied.
        return found if isinstance(found, str) and _VERSION.fullmatch(found) else ""

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            InputError: there is none; the message lists those there are.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(variant.name for variant in self.variants)
        raise InputError(f"the bundle has no variant {name!r}; it has: {names}")


def _check_form(variant: Variant) -> None:
    """An engine looks for what a model lacks beside it, by name: every file it may open is to be listed."""
    ends = tuple(name.rpartition(".")[2] for name in variant.files)
    forms = {"onnxruntime": [("onnx",)], "openvino": [("onnx",), ("xml", "bin")], "tensorrt": [("onnx",)]}
    allowed = forms.get(variant.engine.partition("-")[0], [ends])
    same = {name.rpartition(".")[0] for name in variant.files}
    if variant.files and (ends not in allowed or len(same) > 1):
        raise ValueError(f"variant {variant.name} is not of a form {variant.engine} opens: {list(variant.files)}")
    if variant.explanation and not variant.explanation.graph.endswith(".onnx"):
        raise ValueError(f"the explanation of variant {variant.name} is no ONNX graph")
