"""Request bodies: bounded in size and in time, held in memory alone (no image of a patient reaches a disk)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .admission import Ticket
from .failures import ClientGone, ServingError

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

# Of one batch: what a folder of a study has.
MAX_BATCH = 64
# Of one form, with fields nobody asked for: each costs 4 microseconds before it can be told from a file.
_MOST_PARTS = MAX_BATCH + 64
_DRAIN_S = 5.0


def announced(headers: Mapping[str, str]) -> int:
    """The length a request announces in bytes, 0 where it announces none (HTTP's parser has checked the number)."""
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0


async def read_body(receive: Receive, headers: Mapping[str, str], ticket: Ticket, most: int, seconds: float) -> bytes:
    """A request's body.

    Args:
        receive: of the ASGI application.
        most: bytes.
        seconds: until the last byte must have arrived.

    Raises:
        ServingError: ``too_large``, ``slow_body``, or ``busy``: no memory is left for it.
        ClientGone: the connection was closed.
    """
    if announced(headers) > most:
        await drain(receive, headers, most)
        raise _too_large(most)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    break
                ticket.hold(size)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError as error:
        raise ServingError("slow_body", f"the image did not arrive within {seconds:g} s; send it again") from error
    except ServingError:  # no room for the rest of it
        chunks.clear()
        await drain(receive, headers, most)
        raise
    chunks.clear()
    await drain(receive, headers, most)
    raise _too_large(most)


async def drain(receive: Receive, headers: Mapping[str, str], most: int) -> None:
    """Throw a refused body away as it arrives, up to 4 times what is allowed and for a few seconds.

    A client that is still sending would not see its answer: closing a connection with unread bytes in it resets it
    (RFC 9112, section 9.6). One that waits for "100 Continue" sends nothing.
    """
    if headers.get("expect", "").lower() == "100-continue":
        return
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while size <= 4 * most:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def files_of(body: bytes, content_type: str, field: str, most: int) -> list[bytes]:
    """The files of a body: those of the field ``field`` of multipart/form-data (RFC 7578), or the body itself.

    Other fields and the names of the files are not looked at.

    Raises:
        ServingError: ``usage``: no valid form, no such field, or more than ``most`` of them; ``unreadable``: empty.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        if kind.startswith(b"multipart/"):
            raise ServingError(
                "usage", "the body is another kind of multipart; send form-data, or the file's bytes alone"
            )
        files = [body]
    else:
        files = _parse(body, options.get(b"boundary", b""), field.encode(), most)
    if not files:
        raise ServingError("usage", f"the form has no field named {field!r}; put the image there")
    return files


def _parse(body: bytes, boundary: bytes, field: bytes, most: int) -> list[bytes]:
    files: list[bytes] = []
    header, value = bytearray(), bytearray()
    headers: dict[bytes, bytes] = {}
    part: list[bytes] | None = None
    parts = 0
    ended = False

    def begin() -> None:
        nonlocal part, parts
        headers.clear()
        part = None
        parts += 1
        if parts > _MOST_PARTS:
            raise ServingError("usage", f"the form has more than {_MOST_PARTS} parts; send the files in it alone")

    def end_header() -> None:
        headers[bytes(header).lower()] = bytes(value)
        header.clear()
        value.clear()

    def headers_finished() -> None:
        nonlocal part
        disposition, options = parse_options_header(headers.get(b"content-disposition", b""))
        if disposition == b"form-data" and options.get(b"name") == field:
            if len(files) == most:
                raise ServingError("usage", f"the form has more than {most} file(s); send the rest in another request")
            part = []

    def data(chunk: bytes, start: int, end: int) -> None:
        if part is not None:
            part.append(chunk[start:end])

    def end_part() -> None:
        if part is not None:
            files.append(b"".join(part))

    def end_form() -> None:
        nonlocal ended
        ended = True

    def end_of(buffer: bytearray) -> Callable[[bytes, int, int], None]:
        return lambda chunk, start, end: buffer.extend(chunk[start:end])

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_part_data": data,
                "on_part_end": end_part,
                "on_header_field": end_of(header),
                "on_header_value": end_of(value),
                "on_header_end": end_header,
                "on_headers_finished": headers_finished,
                "on_end": end_form,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ServingError("usage", "the body is no valid multipart/form-data; send the file's bytes alone") from error
    if not ended:
        raise ServingError("usage", "the form ends in the middle; send it again")
    return files


def _too_large(most: int) -> ServingError:
    return ServingError("too_large", f"the body has more than {most >> 20} MiB, which is the most this server takes")
