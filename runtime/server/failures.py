"""Why a request has no answer: one exception, with the status and the kind a client is told."""

from __future__ import annotations

import logging
from http import HTTPStatus

from ..errors import EngineError, ImageError, ImageRefused, InputError, MedcompressError
from .answers import Error, Kind, Why

log = logging.getLogger("medcompress.serve")

# RFC 9110, section 15; 499 is nginx's for a client that went away, and is only counted, never sent.
CLIENT_GONE = 499
_STATUS: dict[Kind, int] = {
    "refused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unreadable": HTTPStatus.UNPROCESSABLE_ENTITY,
    "usage": HTTPStatus.UNPROCESSABLE_ENTITY,
    "ambiguous": HTTPStatus.UNPROCESSABLE_ENTITY,
    "no_model": HTTPStatus.NOT_FOUND,
    "no_route": HTTPStatus.NOT_FOUND,
    "malformed": HTTPStatus.BAD_REQUEST,
    "host": HTTPStatus.MISDIRECTED_REQUEST,
    "origin": HTTPStatus.FORBIDDEN,
    "token": HTTPStatus.UNAUTHORIZED,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "slow_body": HTTPStatus.REQUEST_TIMEOUT,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "stopping": HTTPStatus.SERVICE_UNAVAILABLE,
    "audit": HTTPStatus.SERVICE_UNAVAILABLE,
    "timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "engine": HTTPStatus.INTERNAL_SERVER_ERROR,
    "fault": HTTPStatus.INTERNAL_SERVER_ERROR,
}
_CODES: dict[Kind, int] = {
    "busy": 3,
    "not_ready": 3,
    "stopping": 3,
    "audit": 3,
    "timeout": 3,
    "engine": 3,
    "fault": 70,
}


class ServingError(Exception):
    """A request that has no answer; ``why`` and ``preview`` of an image, as of a :class:`Failure`."""

    def __init__(self, kind: Kind, message: str, why: Why | None = None, preview: str | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.why = why
        self.preview = preview

    @property
    def status(self) -> int:
        """Of the response."""
        return int(_STATUS[self.kind])

    @property
    def error(self) -> Error:
        """What a client is told."""
        return Error(_CODES.get(self.kind, 2), " ".join(str(self).split()), self.kind, self.why)

    @property
    def headers(self) -> dict[str, str]:
        """That go with the status."""
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": "1" if self.kind == "busy" else "5"}
        return {"WWW-Authenticate": "Bearer"} if self.kind == "token" else {}


class ClientGone(Exception):
    """The client closed its connection: nobody is there to be answered."""


def failure_of(error: Exception) -> ServingError:
    """What a client is told of an error; one that nobody foresaw tells nothing of itself."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, ImageError):
        kind: Kind = "refused" if isinstance(error, ImageRefused) else "unreadable"
        # A request's image has no name.
        words = str(error).removeprefix("image bytes: ").removeprefix("image: ")
        return ServingError(kind, f"the image {words}", Why(error.code, error.values))
    if isinstance(error, InputError):
        return ServingError("usage", str(error))
    if isinstance(error, (EngineError, MedcompressError)):
        return ServingError("engine", str(error))
    return ServingError("fault", "a fault in medcompress; the server's log says where, please report it")


def log_fault(request: str, error: BaseException) -> None:
    """A fault of ours, by its kind and place: what it says could hold a name."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    log.error("%s fault %s at %s", request, type(error).__name__, " < ".join(reversed(places[-6:])))
