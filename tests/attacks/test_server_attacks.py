"""Every attack on a server is refused, and a server that lets one through is told of."""

from __future__ import annotations

import http.server
import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("server_attacks.py")
TOKEN = "a-word-of-these-tests-0123456789"
# A line of the log is one of the server's own making: no name, no path, no word of a client's.
LINE = re.compile(
    r"[-0-9]{10} [:,0-9]{12} (INFO|WARNING|ERROR) "
    r"([0-9a-f]{12} (GET|HEAD|POST|OPTIONS|other) (/[a-z/.]*|other) \d{3} [a-z_]+ [0-9.]+ ms"
    r"|listening on http://127\.0\.0\.1:\d+|ready: bundle|model bundle: [ -~]+)"
)
START = "from medcompress.cli.main import main; main()"


@pytest.fixture
def address(pristine_bundle: Path, tmp_path: Path) -> Iterator[str]:
    """A server that asks for a token."""
    (tmp_path / "token").write_text(TOKEN)
    words = ["--port", "0", "--no-measure", "--workers", "1", "--body-timeout", "1", "--max-body", "8"]
    command = [
        sys.executable,
        "-c",
        START,
        "serve",
        str(pristine_bundle),
        *words,
        "--token-file",
        str(tmp_path / "token"),
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stderr=log, stdout=log)
    text = ""
    while " ready: " not in text:
        assert server.poll() is None, text
        time.sleep(0.1)
        text = (tmp_path / "log").read_text()
    yield re.search(r"http://\S+", text)[0]  # type: ignore[index]
    server.terminate()
    assert server.wait(60) == 0


def attacked(address: str, *words: str | Path) -> tuple[int, list[str]]:
    """The script's exit code, and its lines."""
    done = subprocess.run([sys.executable, SCRIPT, address, *words], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_each_is_refused_and_costs_nobody_an_answer(address: str, image: Path, tmp_path: Path) -> None:
    code, lines = attacked(address, "--token-file", tmp_path / "token", "--image", image)
    assert not [line for line in lines if not line.startswith("refused")]
    assert (code, len(lines)) == (0, len(_attacks())), lines
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) > 200
    assert not [line for line in log if not LINE.fullmatch(line)]
    assert {" malformed ", " host ", " origin ", " token ", " too_large ", " slow_body "} <= {
        each for line in log for each in re.findall(r" [a-z_]+ ", line)
    }


def test_a_server_that_lets_them_through_is_told_of() -> None:
    class Careless(http.server.BaseHTTPRequestHandler):
        """Answers everything."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps({"label": "CLEAR"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_OPTIONS = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless) as careless:
        threading.Thread(target=careless.serve_forever, daemon=True).start()
        names = ("traversal", "rebound_name", "page_of_another_site", "two_lengths", "png_bomb", "packed_on_the_way")
        code, lines = attacked(f"http://127.0.0.1:{careless.server_address[1]}", *names)
        careless.shutdown()
    assert code == 1 and len(lines) == len(names)
    assert all(line.startswith("SUCCEEDED") for line in lines), lines


def _attacks() -> dict[str, object]:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("server_attacks", SCRIPT)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module.ATTACKS
