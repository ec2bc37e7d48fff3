"""What the server says, as records: the JSON is a contract, fields are added and never renamed or removed."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..engines import Executed

# Why there is no answer, for a program; the message is for a person.
Kind: TypeAlias = Literal[
    "refused",
    "unreadable",
    "usage",
    "ambiguous",
    "no_model",
    "no_route",
    "malformed",
    "host",
    "origin",
    "token",
    "too_large",
    "slow_body",
    "busy",
    "not_ready",
    "stopping",
    "timeout",
    "engine",
    "audit",
    "fault",
]

NOTICE = "research use only; not a medical device"


class Why(msgspec.Struct, frozen=True):
    """Of a caution or a refusal, what a program can say in another language.

    Attributes:
        code: stable, words with hyphens; see :class:`medcompress.runtime.reasons.Reason`.
        values: numbers and DICOM's codes that stand in the sentence.
    """

    code: str
    values: dict[str, str | int | float] = {}


class Error(msgspec.Struct, frozen=True):
    """``code``: 2 wrong input, 3 this machine lacks something, 70 a fault of medcompress, as of the command line.

    ``why``: of an image that is refused or cannot be read.
    """

    code: int
    message: str
    kind: Kind
    why: Why | None = None


class Failure(msgspec.Struct, frozen=True):
    """Any request that has no answer. ``request`` is in the server's log too.

    ``preview``: as of an :class:`Answer`, of an image that was read and refused.
    """

    error: Error
    request: str = ""
    preview: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """The answer for one image.

    Attributes:
        bundle: sha256 of the manifest; of an ensemble, those of its members joined by ``+``.
        label: the class answered; of several findings the likeliest, null where there is none.
        positive: the class whose probability is held against its threshold, of two.
        thresholds: probability at or above which a class is answered; empty where the likeliest is.
        cautions: what a reader of this answer should know, a sentence each; ``whys``: the same for a program.
        time_ms: ``queue``, ``preprocess``, ``engine``, ``total``.
        heat: base64 of a PNG, 8-bit grey of the size of the rendered image, 0 nothing, 255 strongest.
        explained: the class ``heat`` is of.
        preview: base64 of a PNG: the image as the bundle renders it, whole, before it is brought to the network's size;
            its longer side has at most 1024 pixels. Nothing of the file is in it but pixels.
        request: number of the request.
    """

    model: str
    task: str
    bundle: str
    variant: str
    label: str | None
    labels: tuple[str, ...]
    probabilities: dict[str, float]
    positive: str | None
    thresholds: dict[str, float]
    cautions: tuple[str, ...]
    time_ms: dict[str, float]
    heat: str | None = None
    explained: str | None = None
    preview: str | None = None
    request: str = ""
    whys: tuple[Why, ...] = ()


class ModelInfo(msgspec.Struct, frozen=True):
    """One served model.

    Attributes:
        bundles: sha256 of each manifest; one, or the members of an ensemble.
        members: names of the models an ensemble takes the mean of.
        kind: ``binary``, ``multiclass`` or ``multilabel``.
        size: (height, width) the network sees, pixels; ``fit`` and ``shorter_side``: how an image is brought to it, as
            of ``Preprocessing``: what a page needs to lay a heat map over the image.
        modalities, body_parts: of DICOM images the bundle is made for; empty where it does not say.
        variant, executed: of each bundle; empty before the self-test has passed.
        verdict: of each bundle's gate.
        figures: measured for the variant on the test images when the bundle was made.
    """

    name: str
    task: str
    kind: str
    classes: tuple[str, ...]
    positive: str | None
    thresholds: dict[str, float]
    size: tuple[int, int]
    fit: str
    shorter_side: int
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    bundles: tuple[str, ...]
    members: tuple[str, ...]
    variant: tuple[str, ...]
    executed: tuple[Executed, ...]
    verdict: tuple[str, ...]
    figures: dict[str, float | None]
    notice: str = NOTICE


class Limits(msgspec.Struct, frozen=True):
    """What a client must keep to."""

    max_body_bytes: int
    max_batch: int
    body_s: float
    answer_s: float


class Info(msgspec.Struct, frozen=True):
    """``GET /model/info``."""

    models: tuple[ModelInfo, ...]
    limits: Limits
    version: str
    notice: str = NOTICE


class Health(msgspec.Struct, frozen=True):
    """``GET /health``: the process answers."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct, frozen=True):
    """``GET /ready``: whether a model answers as it must.

    Attributes:
        reason: why none does; ``state``: the same for a program.
        models: that are served; ``failed``: those of them that do not answer, and why. Who bears no token where one is
            asked for is told neither, and no more than the state.
    """

    ready: bool
    reason: str = ""
    models: tuple[str, ...] = ()
    state: Literal["ready", "starting", "failed", "ending"] = "ready"
    failed: dict[str, str] = {}
