"""Requests no honest client sends, for a server under load: each is to be refused, and to cost nothing that stays."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import NamedTuple

from PIL import Image


class Hostile(NamedTuple):
    """Bytes for a connection.

    Attributes:
        cut: after so many of them the connection is closed.
        may_break: the server may close the connection before its answer was read.
    """

    data: bytes
    cut: int | None = None
    may_break: bool = False


def hostile_requests(image: bytes, port: int) -> list[Hostile]:
    """One of each kind; ``image``: the bytes of an honest one."""
    draw = random.Random(0)
    noise = draw.randbytes(200_000)

    def post(body: bytes, kind: str = "application/octet-stream", path: str = "/predict") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    form = "multipart/form-data; boundary=b"
    return [
        Hostile(post(b"")),
        Hostile(post(noise)),
        Hostile(post(b"a report, not an image\n" * 1000)),
        Hostile(post(image[: len(image) // 2])),
        Hostile(post(_bomb())),
        Hostile(post(_animation())),
        Hostile(post(b"--b\r\n" + b"X: y\r\n" * 10_000, form)),
        Hostile(post(b"--b\r\n\r\n\r\n" * 20_000, form)),
        Hostile(post(noise, form)),
        Hostile(post(noise, "multipart/form-data")),
        Hostile(post(image, path="/predict?model=../../etc")),
        Hostile(post(image, path="/nothing")),
        Hostile(post(noise).replace(b"Content-Length: 200000", b"Content-Length: 1000000000", 1), may_break=True),
        Hostile(post(image), cut=len(image) // 2, may_break=True),
        Hostile(post(image), cut=40, may_break=True),
        Hostile(post(image).replace(b"Host: 127.0.0.1", b"Host: evil.example", 1)),
        Hostile(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", may_break=True),
        Hostile(noise[:1000] + b"\r\n\r\n", may_break=True),
    ]


def _bomb() -> bytes:
    """A PNG of a few hundred kilobytes that unpacks to 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(20_001)) for _ in range(20_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _animation() -> bytes:
    """A TIFF of several frames: which one is meant?"""
    buffer = io.BytesIO()
    frames = [Image.new("L", (64, 64), level) for level in (0, 128, 255)]
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()
