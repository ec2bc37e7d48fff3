"""The port of a node: connections bounded in number, time and size, before a byte of DICOM is believed.

pynetdicom reads as long as a peer announces, and waits as long as it takes: a peer that loses its power in the middle
of a PDU would hold its place for ever, and eight of them the node.
"""

from __future__ import annotations

import errno
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

# Connections at once, those included that have not said yet who they are.
_CONNECTIONS = 32
# Seconds for saying who one is, by TLS and by DICOM; for each PDU after that.
_GREETING, _PDU = 10.0, 60.0
_CHUNK = 65536


class Port(ThreadedAssociationServer):
    """Listens in a thread of its own once it is started, and ends by ``shutdown``.

    Args:
        entity: that is listened for.
        address: host and port; 0 takes a free one.
        handlers: pynetdicom's events, with what is called for each.
        context: TLS; None for none.
        log: takes a line at a time.

    Raises:
        OSError: the address cannot be listened on.
    """

    daemon_threads = True  # of greetings: the end does not wait for them

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        handlers: list[Any],
        context: ssl.SSLContext | None,
        log: Callable[[str], None],
    ) -> None:
        self._tls, self._log = context, log
        self._greeted: set[socket.socket] = set()
        # Without its ssl_context, with which one silent peer would keep all others from being accepted.
        super().__init__(entity, address, entity.ae_title, entity.supported_contexts, None, handlers)
        self._thread = threading.Thread(target=self.serve_forever, name="port", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self.ae._servers.append(self)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether connections are accepted."""
        return self._thread.is_alive()

    @property
    def number(self) -> int:
        """That is listened on."""
        return self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more."""
        if len(self.active_associations) + len(self._greeted) < _CONNECTIONS:
            self._greeted.add(request)
            return True
        self._log(f"connection of {client_address[0]} closed: {_CONNECTIONS} are open")
        return False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        try:
            request.settimeout(_GREETING)
            talking = self._tls.wrap_socket(request, server_side=True) if self._tls else request
            super().finish_request(talking, client_address)
        finally:
            self._greeted.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """In place of a traceback on stderr."""
        error = sys.exception()
        why = str(getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()
        self._log(f"connection of {client_address[0]} closed at its greeting: {why}")


def bound(association: Any, most: int, log: Callable[[str], None]) -> None:
    """Let a peer send so many bytes for one object, and take no longer than a minute for a PDU.

    Args:
        association: pynetdicom's, its connection open.
        most: bytes.
        log: takes a line at a time.
    """
    transport, dialogue = association.dul.socket, association.dimse
    seen = 0

    def receive(count: int) -> bytearray:
        nonlocal seen
        # An object under way has a message, between two there is none; none comes before the last is answered.
        seen = count + (seen if dialogue.message is not None else 0)
        if seen > most or dialogue.msg_queue.qsize() > 2:
            log(f"connection closed: its peer sends more than {most >> 20} MiB at once")
            raise OSError(errno.EMSGSIZE, "too large")
        seconds = _PDU if association.is_established else _GREETING
        data, end = bytearray(), time.monotonic() + seconds
        transport.socket.settimeout(seconds)
        try:
            while len(data) < count and (part := transport.socket.recv(min(_CHUNK, count - len(data)))):
                data += part
                if time.monotonic() > end:
                    raise TimeoutError
        except TimeoutError:
            log(f"connection closed: its peer took more than {seconds:.0f} s for a part of a message")
            raise
        return data

    transport.recv = receive
