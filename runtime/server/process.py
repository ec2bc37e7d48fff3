"""The server as a process: its socket, its signals, its end. https://uvicorn.dev"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import MachineError
from .answers import Failure
from .app import create
from .failures import ServingError
from .gate import MAX_HEAD_BYTES, Gate
from .service import Service
from .settings import Settings

log = logging.getLogger("medcompress.serve")

_KEEP_ALIVE_S = 10
_HEADERS_S = 10.0
# Of asyncio's streams, a lingering upload after its answer, and what a client may leave open.
_BACKLOG = 2048
_FULL = msgspec.json.encode(Failure(ServingError("busy", "too many connections are open; ask again in a second").error))


def serve(settings: Settings) -> int:
    """Serve until a signal ends it; returns 0 when every answer under way was given, else 3.

    Raises:
        InputError: the settings, a bundle or the token is not usable.
        MachineError: the port is taken, or the audit log cannot be written.
    """
    _log_to_stderr()
    application = create(settings)
    service = application.service
    listener = _listen(settings.host, settings.port)
    _raise_file_limit()
    config = uvicorn.Config(
        application,
        http=_protocol(settings.connections, application),
        loop="auto",  # uvloop, which takes a third less time for a request, where it is installed
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.grace_s) + 1,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=_BACKLOG,
    )
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    server = _Server(config, service)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)  # a terminal that closes: an end like any other
    server.run([listener])
    left = service.admission.count
    log.log(logging.ERROR if left else logging.INFO, "ended; %d answers were not given", left)
    if service.pool.running:
        logging.shutdown()
        os._exit(3 if left else 0)  # a thread inside an engine that hangs would hold up the end for ever
    return 3 if left else 0


class _Server(uvicorn.Server):
    """Ends in two steps: first nothing new is taken and /ready says so, then what was let in is answered."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._stopped = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The second signal ends it at once."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
        self._service.stop()
        self._stopped = self._stopped or time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        waited = time.monotonic() - self._stopped if self._stopped else 0.0
        if self._stopped and (not self._service.admission.count or waited > self._service.settings.grace_s):
            self.should_exit = True
        return await super().on_tick(counter)


def _protocol(most: int, gate: Gate) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1, with bounds it lacks: so many connections, and so long for a request's headers or for a
    client to take its answer. What is no HTTP is answered like everything else."""

    class Bounded(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                head = f"Content-Type: application/json\r\nContent-Length: {len(_FULL)}\r\nRetry-After: 1"
                transport.write(f"HTTP/1.1 503 Busy\r\n{head}\r\nConnection: close\r\n\r\n".encode() + _FULL)
                transport.close()
                return
            self._wait_for_headers(_HEADERS_S)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._waiting:
                self._waiting.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing():
                self._wait_for_headers(_KEEP_ALIVE_S + _HEADERS_S)

        def _wait_for_headers(self, seconds: float) -> None:
            if self._waiting:
                self._waiting.cancel()
            self._waiting = self.loop.call_later(seconds, self._headers_late)

        def _headers_late(self) -> None:
            idle = self.cycle is None or self.cycle.response_complete
            if self.flow.write_paused or (idle and self.transport.get_write_buffer_size()):
                self.transport.abort()  # nobody takes the answer: a close would wait, and keep it, for ever
            elif idle and not self.transport.is_closing():
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                body = gate.malformed()
                headers = [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    (b"connection", b"close"),
                ]
                response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
                for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Bounded


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise MachineError(f"{host}:{port}: cannot be listened on ({error.strerror}); give another --port") from error


def _raise_file_limit() -> None:
    """As many open sockets as the system lets this process have."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    # uvicorn's own lines name addresses.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
