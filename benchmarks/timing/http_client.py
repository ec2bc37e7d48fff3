"""A client small enough to load a server from the same machine: HTTP/1.1, one keep-alive connection, asyncio."""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Response(NamedTuple):
    """What a server sent back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection, opened when it is first needed and again when the server closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Response:
        """Send a request and read its answer.

        Args:
            headers: further ones, each ended by CR LF.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection was refused or broke.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(body)}\r\n"
        return await self.send(f"{head}{headers}\r\n".encode() + body)

    async def send(self, data: bytes, *, cut: int | None = None) -> Response:
        """Send these bytes as they are, or the first ``cut`` of them and then nothing, and read the answer.

        A connection the server closed while it was idle is opened again.
        """
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(data[:cut])
            await writer.drain()
            if cut is not None:
                raise ConnectionAbortedError("cut off on purpose")
            response = await _read(reader)
        except BaseException:
            self.close()
            raise
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    length = headers.get("content-length")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return Response(int(head[0].split()[1]), headers, body)
