"""Telling systemd that the service is ready, alive, or ending: sd_notify(3), where a service manager listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` or ``STATUS=...``; False where nobody listens.

    https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            # A name that starts with '@' is in the abstract namespace: its first byte is zero.
            connection.connect("\0" + address[1:] if address[0] == "@" else address)
            connection.sendall(state.encode())
    except OSError:
        return False
    return True
