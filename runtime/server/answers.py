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


class Error(msgspec.Struct, frozen=True):
    """``code``: 2 wrong input, 3 this machine lacks something, 70 a fault of medcompress, as of the command line."""

    code: int
    message: str
    kind: Kind


class Failure(msgspec.Struct, frozen=True):
    """Any request that has no answer. ``request`` is in the server's log too."""

    error: Error
    request: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The answer for one image.

    Attributes:
        bundle: sha256 of the manifest; of an ensemble, those of its members joined by ``+``.
        label: the class answered; of several findings the likeliest, null where there is none.
        positive: the class whose probability is held against its threshold, of two.
        thresholds: probability at or above which a class is answered; empty where the likeliest is.
        cautions: what a reader of this answer should know.
        time_ms: ``queue``, ``preprocess``, ``engine``, ``total``.
        heat: base64 of a PNG, 8-bit grey of the size of the rendered image, 0 nothing, 255 strongest.
        explained: the class ``heat`` is of.
        preview: base64 of a PNG: the image as the network sees it.
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
    """``GET /ready``: whether the models answer as they must; ``reason``: why not."""

    ready: bool
    reason: str = ""
    models: tuple[str, ...] = ()
