"""Attacks on a running server, each a function that tries one. None may get through, or leave the server worse.

    python tests/attacks/server_attacks.py http://127.0.0.1:8008/ [--token-file FILE] [--image FILE] [NAME...]

prints a line for each: refused, or SUCCEEDED and what came of it; exit code 1 if any did. After each the server must
still be well, and answer for the image as before. The server's own bounds of time decide how long it takes: with
``serve --body-timeout 2`` about a minute, most of it waiting for slow headers to be given up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from hostile_bodies import FILES, FORMS, PART, Body, png

PATIENCE = 40.0  # seconds: a server that has said nothing by then hangs


class Target(NamedTuple):
    """The server, and what an honest client of it has."""

    host: str
    port: int
    image: bytes
    token: str = ""

    @property
    def name(self) -> str:
        """As an honest Host header has it."""
        return f"{self.host}:{self.port}"


class Reply(NamedTuple):
    """What came back: status 0 where the connection was closed without a word."""

    status: int
    head: str
    body: bytes

    def header(self, name: str) -> str:
        """Of the head, empty where it is not there."""
        lines = (line.partition(":") for line in self.head.split("\r\n")[1:])
        return next((value.strip() for key, _, value in lines if key.lower() == name), "")


Attack = Callable[[Target], "str | None"]
# Name -> the attack; it returns what came of it where it got through, else None or an empty string.
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Add a function to the list."""
    ATTACKS[function.__name__] = function
    return function


# How it is asked


def announces(headers: Sequence[str]) -> bool:
    """Whether they say how long the body is."""
    return any(each.lower().startswith(("content-length", "transfer-encoding")) for each in headers)


def request(
    at: Target, line: str = "POST /predict", *headers: str, body: bytes = b"", host: str | None = None
) -> bytes:
    """A request's bytes, well formed but for what is asked to be otherwise."""
    lines = [f"{line} HTTP/1.1", f"Host: {at.name if host is None else host}"]
    lines += [f"Authorization: Bearer {at.token}"] if at.token else []
    lines += [f"Content-Length: {len(body)}"] if line.startswith("POST") and not announces(headers) else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


@contextlib.contextmanager
def connected(at: Target) -> Iterator[socket.socket]:
    """A connection."""
    with socket.create_connection((at.host, at.port), timeout=PATIENCE) as connection:
        yield connection


def read(file: io.BufferedIOBase) -> Reply:
    """One answer."""
    try:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := file.readline()):
                return Reply(0, "", b"")
            head += line
        text = head.decode("latin-1").strip()
        found = Reply(int(text.split()[1]), text, b"")
        size = found.header("content-length")
        return found._replace(body=file.read(int(size) if size else -1 if found.header("connection") == "close" else 0))
    except ConnectionError:
        return Reply(0, "", b"")


def ask(at: Target, data: bytes) -> Reply:
    """Send bytes, and read one answer."""
    with connected(at) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return read(connection.makefile("rb"))


def unless(found: Reply, *statuses: int) -> str:
    """What came of it, where that is none of these statuses."""
    return "" if found.status in statuses else f"{found.status}: {found.body[:80]!r}"


# What is not served


def _climbs(path: str) -> Attack:
    return lambda at: unless(ask(at, request(at, f"GET {path}")), 400, 401, 404)


ATTACKS |= {
    "traversal": _climbs("/page/../../settings.py"),
    "traversal_encoded": _climbs("/page/%2e%2e/%2e%2e/settings.py"),
    "traversal_encoded_twice": _climbs("/page/%252e%252e/settings.py"),
    "traversal_with_backslashes": _climbs("/page/..%5c..%5csettings.py"),
    "traversal_to_the_root": _climbs("/page//etc/passwd"),
    "traversal_to_a_process": _climbs("/page/../../../../../../../proc/self/environ"),
    "path_with_a_null_byte": _climbs("/page/page.css%00.html"),
    "path_that_is_not_utf8": _climbs("/page/%ff%fe"),
    "path_of_five_thousand_letters": _climbs("/page/" + "a" * 5000),
    "python_of_the_package": _climbs("/app.py"),
}


@attack
def protected_route_by_way_of_the_page(at: Target) -> str:
    """The page is served without a token: nothing else is, however its path is written."""
    paths = (
        "/page/../metrics",
        "/page/%2e%2e/metrics",
        "//metrics",
        "/health/../metrics",
        "/ready/metrics",
        "/page/;/metrics",
    )
    bare = at._replace(token="")
    return "; ".join(filter(None, (unless(ask(bare, request(bare, f"GET {path}")), 401, 404) for path in paths)))


@attack
def token_that_is_nearly_right(at: Target) -> str:
    if not at.token:
        return ""
    wrong = ("", at.token[:-1], at.token + "x", at.token.swapcase(), f"{at.token[:-1]}\xe9")
    bare = at._replace(token="")
    lines = [f"Authorization: Bearer {each}" for each in wrong]
    lines += [f"Authorization: Basic {at.token}", f"Cookie: token={at.token}"]
    lines += ["Authorization: Bearer x\r\nX-Token: " + at.token]
    return "; ".join(filter(None, (unless(ask(bare, request(bare, "GET /metrics", line)), 401) for line in lines)))


# Who asks


def _named(host: str) -> Attack:
    return lambda at: unless(ask(at, request(at, "GET /model/info", host=host.format(name=at.name))), 400, 421)


ATTACKS |= {
    "rebound_name": _named("evil.example"),
    "rebound_name_and_port": _named("evil.example:8008"),
    "name_before_an_at_sign": _named("localhost@evil.example"),
    "name_that_begins_as_ours": _named("localhost.evil.example"),
    "name_with_a_path": _named("evil.example/localhost"),
    "name_that_is_no_name": _named("[::1"),
    "no_name": _named(""),
    "two_names": _named("{name}\r\nHost: evil.example"),
}


@attack
def name_in_the_first_line(at: Target) -> str:
    return unless(ask(at, request(at, "GET http://evil.example/model/info")), 400, 404, 421)


@attack
def no_name_as_of_old(at: Target) -> str:
    return unless(ask(at, b"GET /model/info HTTP/1.0\r\n\r\n"), 400, 401, 421)


def _from(*lines: str, method: str = "POST /predict") -> Attack:
    def asks(at: Target) -> str:
        found = ask(at, request(at, method, *(line.format(name=at.name) for line in lines), body=at.image))
        return unless(found, 400, 403) or found.header("access-control-allow-origin")

    return asks


ATTACKS |= {
    "page_of_another_site": _from("Origin: http://evil.example", "Content-Type: text/plain"),
    "page_of_another_port": _from("Origin: http://127.0.0.1:1"),
    "page_in_a_sandbox": _from("Origin: null"),
    "page_whose_name_begins_as_ours": _from("Origin: http://{name}.evil.example"),
    "page_with_our_name_before_an_at_sign": _from("Origin: http://{name}@evil.example"),
    "page_of_a_broken_origin": _from("Origin: http://[::1"),
    "page_that_names_two_origins": _from("Origin: http://evil.example", "Origin: http://{name}"),
    "form_of_another_site": _from("Sec-Fetch-Site: cross-site", "Content-Type: text/plain"),
    "page_that_asks_first": _from("Origin: http://evil.example", method="OPTIONS /predict"),
    "page_that_reads_the_figures": _from("Origin: http://evil.example", method="GET /metrics"),
}  # fmt: skip


# What is not one request


def _smuggled(head: str, body: bytes, *, statuses: tuple[int, ...] = (400, 422)) -> Attack:
    """Two who read a request differently: what one takes for its body is the other's next request."""

    def asks(at: Target) -> str:
        with connected(at) as connection:
            inner = request(at, "GET /model/info")
            connection.sendall(request(at, "POST /predict", *head.format(size=len(inner)).split("\r\n")) + body + inner)
            file = connection.makefile("rb")
            first = read(file)
            connection.settimeout(1)
            try:
                second = read(file)
            except TimeoutError:
                second = Reply(0, "", b"")
        return unless(first, *statuses) or (f"the second was answered: {second.status}" if second.status == 200 else "")

    return asks


ATTACKS |= {
    "length_and_chunks": _smuggled("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "two_lengths": _smuggled("Content-Length: 0\r\nContent-Length: {size}", b""),
    "length_with_a_sign": _smuggled("Content-Length: +0", b""),
    "length_in_a_list": _smuggled("Content-Length: 0, {size}", b""),
    "encoding_that_is_no_encoding": _smuggled("Transfer-Encoding: xchunked", b"0\r\n\r\n", statuses=(400, 501)),
    "encoding_of_two": _smuggled("Transfer-Encoding: chunked, identity", b"0\r\n\r\n", statuses=(400, 501)),
    "encoding_after_a_space": _smuggled("Transfer-Encoding : chunked", b"0\r\n\r\n"),
    "header_folded": _smuggled("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: x", b"0\r\n\r\n"),
    "chunk_of_a_wrong_size": _smuggled("Transfer-Encoding: chunked", b"0_0\r\n\r\n"),
    "chunk_beyond_all_sizes": _smuggled("Transfer-Encoding: chunked", b"f" * 40 + b"\r\n\r\n"),
    "chunk_with_an_endless_extension": _smuggled("Transfer-Encoding: chunked", b"1;" + b"x" * 1_000_000),
}


@attack
def other_protocols(at: Target) -> str:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    upgrades = [request(at, "GET /metrics-of", "Connection: Upgrade", "Upgrade: websocket", key)]
    upgrades += [
        request(at, "GET /nothing", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    ]
    upgrades += [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"\x16\x03\x01\x02\x00\x01" + bytes(300) + b"\r\n\r\n"]
    upgrades += [request(at, "CONNECT evil.example:443"), request(at, "TRACE /health", "X-Secret: 4711")]
    for data in upgrades:
        found = ask(at, data)
        if found.status not in {400, 401, 404, 405, 421} or b"4711" in found.body:
            return f"{data[:20]!r}: {found.status}"
    return ""


@attack
def line_in_the_answers_head(at: Target) -> str:
    found = ask(at, request(at, "POST /predict?model=x%0d%0aSet-Cookie:%20a=b", body=b"x"))
    return found.head if found.header("set-cookie") else unless(found, 404)


@attack
def line_in_the_log(at: Target) -> str:
    """What a client may choose of its request; the test beside this looks into the log."""
    for line in ("DOE-JOHN-4711 /predict", "GET /%0a2026-01-01 INFO DOE-JOHN-4711", "GET /DOE-JOHN-4711?x=%1b[2J"):
        if said := unless(ask(at, request(at, line)), 400, 401, 404, 405):
            return said
    figures = ask(at, request(at, "GET /metrics"))
    return "a name is among the figures" if b"DOE" in figures.body else ""


# Too much, too slow


@attack
def header_without_end(at: Target) -> str:
    return unless(ask(at, request(at, "GET /health", "X: " + "y" * 100_000)), 0, 400, 431)


@attack
def headers_without_number(at: Target) -> str:
    return unless(ask(at, request(at, "GET /health", *[f"X{i}: y" for i in range(20_000)])), 0, 400, 431)


@attack
def line_without_end(at: Target) -> str:
    return unless(ask(at, request(at, "GET /" + "a" * 100_000)), 0, 400, 414)


@attack
def body_that_announces_an_exabyte(at: Target) -> str:
    return unless(ask(at, request(at, "POST /predict", f"Content-Length: {1 << 60}", "Expect: 100-continue")), 413)


@attack
def body_without_end(at: Target) -> str:
    """In chunks, which announce nothing. It ends when the server has heard enough."""
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with connected(at) as connection:
        connection.sendall(request(at, "POST /predict", "Transfer-Encoding: chunked"))
        for sent in range(2048):
            try:
                connection.sendall(chunk)
            except ConnectionError:
                return ""
            if sent == 1000:
                return "a gigabyte was taken"
        return ""


@attack
def body_that_does_not_come(at: Target) -> str:
    start = time.monotonic()
    found = ask(at, request(at, "POST /predict", "Content-Length: 1000") + b"half")
    return unless(found, 408) or (f"after {time.monotonic() - start:.0f} s" if time.monotonic() - start > 30 else "")


@attack
def headers_that_do_not_come(at: Target) -> str:
    """Slowloris: https://en.wikipedia.org/wiki/Slowloris_(cyber_attack). A byte every half second."""
    with connected(at) as connection:
        try:
            for _ in range(80):
                connection.sendall(b"G")
                connection.settimeout(0.5)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1000).startswith(b"HTTP/1.1 2"):
                        return ""
        except ConnectionError:
            return ""
    return "it was waited for for 40 s"


@attack
def answers_nobody_reads(at: Target) -> str:
    """Each connection asks, and asks again, and takes nothing: what is written for it must not pile up."""
    data = request(at, "GET /page/page.css") * 200
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connected(at))
            connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                connection.sendall(data)
        return unless(ask(at, request(at, "GET /health")), 200)


@attack
def five_hundred_silent_connections(at: Target) -> str:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connected(at))
        return unless(ask(at, request(at, "GET /health")), 200, 503)


# Bodies that are not what they say


_FORM = "Content-Type: multipart/form-data; boundary=b"


def _in_time(body: Body, *headers: str, line: str = "POST /predict") -> Attack:
    """Refused, and the server answers others meanwhile."""

    def asks(at: Target) -> str:
        data = body if isinstance(body, bytes) else body(at.image)
        with connected(at) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request(at, line, *headers, body=data))
            start = time.monotonic()
            health = ask(at, request(at, "GET /health"))
            if health.status != 200 or time.monotonic() - start > 3:
                return f"others wait {time.monotonic() - start:.1f} s"
            return unless(read(connection.makefile("rb")), 404, 413, 422)

    return asks


ATTACKS |= {name: _in_time(body, _FORM) for name, body in FORMS.items()}
ATTACKS |= {name: _in_time(body) for name, body in FILES.items()}
ATTACKS |= {
    "form_of_another_kind": _in_time(FORMS["form_of_two_files"], _FORM.replace("form-data", "mixed")),
    "batch_of_too_many": _in_time(
        (PART.replace(b"file", b"files") + b"\r\nx\r\n") * 65 + b"--b--", _FORM, line="POST /predict/batch"
    ),
    "model_of_another_folder": _in_time(lambda image: image, line="POST /predict?model=../../etc/passwd"),
    "task_of_nowhere": _in_time(lambda image: image, line="POST /predict?task=%00"),
    "switch_that_is_neither": _in_time(lambda image: image, line="POST /predict?explain=__import__('os')"),
}


def honest(at: Target) -> str:
    """What the server says of the honest image: the answer without its times, or the kind of refusal."""
    said = json.loads(ask(at, request(at, "POST /predict?explain=true", body=at.image)).body)
    return json.dumps({key: value for key, value in said.items() if key not in {"time_ms", "request"}}, sort_keys=True)


def picture() -> bytes:
    """An image where none is given: whether it is answered or refused, it is to be so afterwards too."""
    return png(256, 256, (b"IDAT", zlib.compress(b"".join(b"\0" + bytes([i & 0xF0] * 32) for i in range(256)))))


def attempt(name: str, at: Target, before: str) -> str:
    """Try one; what came of it, or nothing where it was refused and the server is as well as ``before``."""
    try:
        came = ATTACKS[name](at)
    except TimeoutError:
        came = f"it hangs: nothing was said for {PATIENCE:g} s"
    # A request of the attack's may still be ending.
    for _ in range(20):
        after = honest(at)
        if '"busy"' not in after:
            break
        time.sleep(0.5)
    return came or ("" if after == before else f"the honest image is answered otherwise: {after[:200]}")


def main() -> int:
    """Try them all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--image", type=Path, help="one the server answers for")
    given = parser.parse_args()
    address = urlsplit(given.url)
    image = given.image.read_bytes() if given.image else picture()
    token = given.token_file.read_text().strip() if given.token_file else ""
    at = Target(address.hostname or "127.0.0.1", address.port or 8008, image, token)
    if ask(at, request(at, "GET /ready")).status != 200:
        sys.exit(f"{given.url}: is not ready; wait until /ready says so")
    before, through = honest(at), 0
    for name in given.names or ATTACKS:
        start = time.monotonic()
        came = attempt(name, at, before)
        through += bool(came)
        outcome, seconds = "SUCCEEDED" if came else "refused", time.monotonic() - start
        print(f"{outcome:9} {name} ({seconds:.1f} s) {came}".rstrip(), flush=True)
    return int(through > 0)


if __name__ == "__main__":
    sys.exit(main())
