"""In front of every route: who asks, from where, what goes out with every answer, and one line of log for each.

The line has the request's number, the method, the route, the status and the time: no path, no address, no file name.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec

from .answers import Failure
from .bodies import Receive, drain
from .failures import ServingError, failure_of
from .service import Service, log_fault

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("medcompress.serve")

# What a log line or a figure may name; any other route or method could hold what a user typed.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ROUTES = frozenset({"/", "/health", "/ready", "/predict", "/predict/batch", "/model/info", "/metrics", "/openapi.json"})
# What a browser loads before anybody can give it the token, and what a monitor asks.
_OPEN = frozenset({"/", "/health", "/ready"})
_PAGE = "/page/"
# Of a request's first line and headers: what is longer is an attack.
MAX_HEAD_BYTES = 16 * 1024

# https://www.w3.org/TR/CSP3/: the page takes scripts and styles from here alone, and pictures it made itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Gate:
    """An ASGI application around another one.

    Args:
        application: the routes; those who are turned away do not reach it.
    """

    def __init__(self, application: Application, service: Service) -> None:
        self._application = application
        self.service = service
        self._names = {"localhost", *(name.lower() for name in service.settings.names)}
        self._token = _digest(service.token.encode()) if service.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's life."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.monotonic()
        request = secrets.token_hex(6)
        scope.setdefault("state", {})["request"] = request
        path = scope["path"]
        route = path if path in ROUTES else _PAGE if path.startswith(_PAGE) else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        headers = _joined(scope["headers"])
        unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        status, kind = 0, ""

        async def receive_to_the_end() -> MutableMapping[str, Any]:
            nonlocal unread
            message = await receive()
            unread = unread and (message["type"] != "http.request" or message.get("more_body", False))
            return message

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS, (b"x-request-id", request.encode())]
                if unread:  # what is still to come must not be taken for the next request
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            scope["state"]["trusted"] = self._is_trusted(headers)
            self._check(scope, headers)
            await self._application(scope, receive_to_the_end, send_with_headers)
        except ServingError as failure:
            kind = failure.kind
            await drain(receive_to_the_end, headers, self.service.settings.max_body_mib << 20)
            unread = unread or kind == "malformed"
            await send_failure(send_with_headers, failure, request)
        except Exception as error:  # the handlers of the routes have answered, unless it came from here
            log_fault(request, error)
            if not status:
                failure = failure_of(error)
                kind = failure.kind
                await send_failure(send_with_headers, failure, request)
        finally:
            seconds = time.monotonic() - start
            kind = kind or scope["state"].get("kind", "")
            outcome = kind or ("answered" if 200 <= status < 400 else "refused")
            if kind and kind != "gone":
                self.service.metrics.refusal(kind)
            self.service.metrics.request(route, outcome, seconds)
            log.info("%s %s %s %d %s %.1f ms", request, method, route, status, outcome, seconds * 1e3)

    def malformed(self) -> bytes:
        """The body of the answer to bytes that are no request, which is counted and logged like any other."""
        request = secrets.token_hex(6)
        self.service.metrics.refusal("malformed")
        self.service.metrics.request("other", "malformed", 0.0)
        log.info("%s other other 400 malformed 0.0 ms", request)
        return msgspec.json.encode(Failure(ServingError("malformed", "these bytes are no HTTP request").error, request))

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        method, path = scope["method"], scope["path"]
        line = (scope.get("raw_path") or b"", scope["query_string"])
        if sum(len(each) for part in (line, *scope["headers"]) for each in part) > MAX_HEAD_BYTES:
            raise ServingError("malformed", f"its first line and headers are longer than {MAX_HEAD_BYTES >> 10} KiB")
        if "transfer-encoding" in headers and "content-length" in headers:
            # RFC 9112, section 6.1: where two readers of it see different ends, one of them is being tricked.
            raise ServingError("malformed", "the request says in two ways how long its body is; send one of them")
        host = headers.get("host", "")
        if not self._is_ours(host):
            # A name that resolves to this machine today may be another site's (DNS rebinding).
            raise ServingError(
                "host", "this server does not go by that name; use localhost or its address, or start it with --name"
            )
        origin = headers.get("origin")
        if (origin is not None and _place(origin) != host.lower()) or (
            method not in {"GET", "HEAD"} and headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        ):
            raise ServingError("origin", "a page of another site asks; open this server's own page")
        if not scope["state"]["trusted"] and path not in _OPEN and not path.startswith(_PAGE):
            raise ServingError("token", "the token is missing or wrong; send it as: Authorization: Bearer TOKEN")

    def _is_trusted(self, headers: Mapping[str, str]) -> bool:
        """Whether the request bears the token, or none is asked for."""
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._token)
        return same and scheme.lower() == "bearer"

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address is what it is: only names can be made to lead elsewhere


async def send_failure(send: Send, failure: ServingError, request: str) -> None:
    """Answer with why there is no answer."""
    body = msgspec.json.encode(Failure(failure.error, request))
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **failure.headers}
    listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": failure.status, "headers": listed})
    await send({"type": "http.response.body", "body": body})


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; the values of one that is there twice as a list (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name, words = raw.decode("latin-1"), value.decode("latin-1")
        found[name] = f"{found[name]}, {words}" if name in found else words
    return found


def _place(origin: str) -> str:
    """Host and port of an origin, empty where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
