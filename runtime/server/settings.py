"""What is served, to whom, and within which bounds."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated

import msgspec

from ..errors import InputError

# How ``uvicorn --factory medcompress.runtime.server.app:create`` is told: Settings as JSON.
ENVIRONMENT = "MEDCOMPRESS_SERVE"
# 128 bits in hexadecimal have 32 letters; what is shorter than half of that can be guessed.
_LEAST_TOKEN = 16

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one server.

    Attributes:
        bundles: folders, or ``NAME=FOLDER``; the name of a bundle is that of its folder otherwise.
        ensembles: ``NAME=A,B,...``: the mean of the probabilities of these bundles.
        host: address to listen on; any but a loopback one needs ``token_file``.
        names: host names the server is reached by, besides localhost and IP addresses.
        token_file: holds the token every request but those for the page, /health and /ready must bear.
        variant, threads: as of :func:`medcompress.runtime.load`.
        measure: at the first start on a machine, which variant is the fastest there.
        workers: answers computed at once; None takes one for each ``threads`` cores.
        queue: requests that may wait for a worker; one more is answered 503.
        max_body_mib: of one request; ``max_memory_mib``: of all bodies that are held at once.
        body_s: a body must have arrived after this many seconds; ``answer_s``: an answer must be there.
        grace_s: how long a server that was asked to end waits for the answers that are under way.
        beat_s: every so often each model answers for its golden input.
        connections: open at once; one more is answered 503.
        audit: folder of the audit log.
        trust: public key, or folder of keys, the bundles must be signed with; ``allow_older``: serve them though
            a newer one was served here under the same name.
    """

    bundles: tuple[str, ...]
    ensembles: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8008
    names: tuple[str, ...] = ()
    token_file: str | None = None
    variant: str | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    measure: bool = True
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    queue: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 64
    max_body_mib: Annotated[int, msgspec.Meta(ge=1, le=512)] = 64
    max_memory_mib: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    body_s: _Seconds = 15.0
    answer_s: _Seconds = 15.0
    grace_s: _Seconds = 20.0
    beat_s: _Seconds = 10.0
    connections: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 2048
    audit: str | None = None
    trust: str | None = None
    allow_older: bool = False

    def __post_init__(self) -> None:
        if not self.bundles:
            raise ValueError("no bundle is named")
        if self.max_memory_mib < self.max_body_mib:
            raise ValueError("all bodies together may take less memory than one of them")


def from_environment() -> Settings:
    """The settings in the environment variable :data:`ENVIRONMENT`.

    Raises:
        InputError: it is not set, or is no JSON of :class:`Settings`.
    """
    text = os.environ.get(ENVIRONMENT)
    if text is None:
        example = '{"bundles": ["/srv/bundle"]}'
        raise InputError(f"{ENVIRONMENT} is not set; set it to the settings in JSON, for example {example}")
    try:
        return msgspec.json.decode(text, type=Settings)
    except msgspec.DecodeError as error:
        raise InputError(f"{ENVIRONMENT}: is not valid ({error})") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(settings: Settings) -> str | None:
    """The token requests must bear, or None where only this machine can ask and none is set.

    Raises:
        InputError: one is needed and not given, cannot be read, or can be guessed.
    """
    if settings.token_file is None:
        if not is_loopback(settings.host):
            raise InputError(
                f"other machines could ask at {settings.host}: give --token-file, a file with a long random word; "
                "make one with: openssl rand -hex 32"
            )
        return None
    path = Path(settings.token_file)
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds other characters than ASCII"
        raise InputError(f"{path}: the token cannot be read ({reason})") from error
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise InputError(
            f"{path}: a token is one word of at least {_LEAST_TOKEN} characters; make one with: openssl rand -hex 32"
        )
    return token
