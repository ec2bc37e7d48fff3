"""Real servers in processes of their own, on loopback; bundles of the fake engine where answers must be slow."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcompress.runtime.bundle import Manifest, Variant
from medcompress.runtime.decision import Decision
from medcompress.runtime.golden import Golden, make_picture
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.sealing import seal

TESTS = Path(__file__).parents[2]
# The command line of medcompress, in a process that knows the fake engine.
START = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from medcompress.runtime.engines import ENGINES
ENGINES["fake"] = "fake_engine"
from medcompress.cli.main import main
main()
"""


class Server:
    """A process that serves, and a client of it."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self.headers: dict[str, str] = {}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stderr=file, stdout=file, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
            )
        self.port = int(self.until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()))[1])

    def until(self, happens: Callable[[], Any], seconds: float = 60) -> Any:
        """Wait until something happens."""
        end = time.monotonic() + seconds
        while not (found := happens()):
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        return found

    def until_ready(self) -> Server:
        """Wait for the self-test."""
        self.until(lambda: self.ask("GET", "/ready")[0] == 200)
        return self

    def open(self) -> http.client.HTTPConnection:
        """A connection that a test uses as it likes."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the response."""
        connection = self.open()
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The body of the response alone."""
        return json.loads(self.ask(method, path, body, headers)[2])

    def kind(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Status and kind of a request that has no answer."""
        status, _, text = self.ask(method, path, body, headers)
        return status, json.loads(text)["error"]["kind"]

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start ``medcompress serve`` with these arguments, on a free port."""
    servers: list[Server] = []

    def begin(*arguments: Any, command: list[str] | None = None, **environment: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        words = [str(each) for each in arguments]
        command = command or [sys.executable, "-c", START, "serve", "--port", "0", "--no-measure", *words]
        environment = {"MEDCOMPRESS_STATE": str(folder / "state"), **environment}
        servers.append(Server(command, folder / "log", environment))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def write_fake_bundle(
    folder: Path,
    wait: Path,
    logits: tuple[float, float] = (1.0, 0.0),
    preprocessing: Preprocessing = Preprocessing((16, 16)),  # noqa: B008  # frozen
) -> Path:
    """A bundle whose fake engine answers ``logits``, and nothing while the file ``wait`` exists."""
    folder.mkdir(parents=True)
    picture = make_picture()
    rendered = preprocessing.render(picture)
    golden = Golden(rendered[None], {"fake-fp32": np.array([logits], np.float32)}, picture, rendered)
    (folder / "golden.npz").write_bytes(golden.to_bytes())
    (folder / "model.json").write_text(json.dumps({"logits": logits, "wait": str(wait)}))
    seal(
        folder,
        Manifest(
            schema=1,
            created="2026-01-01T00:00:00+00:00",
            verdict="pass",
            reason="a test",
            chosen="fake-fp32",
            reference="fake-fp32",
            threads=1,
            decision=Decision("binary", ("CLEAR", "OPACITY"), "OPACITY"),
            preprocessing=preprocessing,
            variants=(Variant("fake-fp32", "fake", "fp32", ("model.json",)),),
            spec={},
            lineage={},
        ),
    )
    return folder
