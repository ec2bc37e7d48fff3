"""A server's bounds and its two ends, where answers take as long as a test wants: a fake engine waits for a file."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import medcompress.runtime.server
from medcompress.cli.main import run
from medcompress.cli.serve import command as command_of_serve

from .conftest import START, TESTS, Server, write_fake_bundle

TOKEN = "a-long-word-nobody-guesses-0123456789"
# The server's own way in, by uvicorn's command line: its settings come from the environment.
FACTORY = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from medcompress.runtime.engines import ENGINES
ENGINES["fake"] = "fake_engine"
import uvicorn
uvicorn.main(["--factory", "medcompress.runtime.server.app:create", "--port", "0"])
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Any image will do: the fake engine answers the same to all."""
    from medcompress.runtime.golden import make_picture

    return make_picture()


@pytest.fixture(scope="module")
def wait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, no engine answers."""
    return tmp_path_factory.mktemp("wait") / "wait"


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], wait: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """One worker, one request that may wait, two seconds; two models of the same task."""
    folder = tmp_path_factory.mktemp("bundles")
    one, two = (write_fake_bundle(folder / name, wait) for name in ("one", "two"))
    bounds = ["--workers", "1", "--queue", "1", "--timeout", "3", "--body-timeout", "1", "--max-body", "1"]
    wait.touch()
    server = start(one, two, *bounds)
    # The self-test waits, and nothing is answered before it has passed.
    assert server.ask("GET", "/health")[2] == b'{"status":"ok"}'
    status, _, text = server.ask("GET", "/ready")
    assert status == 503 and "self-test" in json.loads(text)["reason"]
    status, headers, text = server.ask("POST", "/predict?model=one", b"x")
    assert status == 503 and json.loads(text)["error"]["kind"] == "not_ready" and headers["Retry-After"]
    wait.unlink()
    return server.until_ready()


class Asking(threading.Thread):
    """A request in a thread of its own, with its status and answer when it has one."""

    def __init__(self, server: Server, body: bytes) -> None:
        super().__init__()
        self.connection, self.body = server.open(), body
        self.status, self.answer = 0, {}
        self.start()

    def run(self) -> None:
        self.connection.request("POST", "/predict?model=one", self.body)
        response = self.connection.getresponse()
        self.status, self.answer = response.status, json.loads(response.read())
        self.connection.close()


def depth(server: Server) -> int:
    """Requests that are in, as the server counts them."""
    lines = server.ask("GET", "/metrics")[2].decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("medcompress_queue_depth"))))


def test_models_of_one_task_are_told_apart_by_name_only(server: Server, picture: bytes) -> None:
    status, _, text = server.ask("POST", "/predict", picture)
    error = json.loads(text)["error"]
    assert (status, error["kind"]) == (422, "ambiguous") and "one, two" in error["message"]
    assert server.json("POST", "/predict?model=two", picture)["model"] == "two"


def test_who_does_not_fit_into_the_queue_is_told_so_at_once(server: Server, wait: Path, picture: bytes) -> None:
    wait.touch()
    asking = []
    for count in (1, 2):
        asking.append(Asking(server, picture))
        server.until(lambda count=count: depth(server) == count)
    start = time.monotonic()
    status, headers, text = server.ask("POST", "/predict?model=one", picture)
    assert time.monotonic() - start < 2
    assert (status, json.loads(text)["error"]["kind"], headers["Retry-After"]) == (503, "busy", "1")
    assert server.ask("GET", "/health")[0] == 200
    wait.unlink()
    for each in asking:
        each.join(30)
    assert [each.status for each in asking] == [200, 200]
    server.until(lambda: depth(server) == 0)


def test_an_answer_that_does_not_come_in_time_is_not_waited_for(server: Server, wait: Path, picture: bytes) -> None:
    wait.touch()
    assert server.kind("POST", "/predict?model=one", picture) == (504, "timeout")
    assert depth(server) == 1, "its worker is still at it, and counts"
    wait.unlink()
    server.until(lambda: depth(server) == 0)
    assert server.until_ready().ask("POST", "/predict?model=one", picture)[0] == 200


def test_a_client_that_went_away_holds_no_worker(server: Server, wait: Path, picture: bytes) -> None:
    before = _answered(server)
    wait.touch()
    first = Asking(server, picture)
    server.until(lambda: depth(server) == 1)
    gone = server.open()
    gone.request("POST", "/predict?model=one", picture)
    server.until(lambda: depth(server) == 2)
    gone.close()
    server.until(lambda: depth(server) == 1)
    last = Asking(server, picture)
    server.until(lambda: depth(server) == 2)
    wait.unlink()
    first.join(30)
    last.join(30)
    assert [first.status, last.status] == [200, 200]
    assert _answered(server) == before + 2, "nothing was computed for the one that left"
    assert "499 gone" in server.log.read_text()


def _answered(server: Server) -> float:
    lines = server.ask("GET", "/metrics")[2].decode().splitlines()
    found = [line for line in lines if line.startswith('medcompress_stage_seconds_count{stage="engine"}')]
    return float(found[0].split()[1]) if found else 0.0


def test_slow_senders_are_not_waited_for(server: Server, picture: bytes) -> None:
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address) as slow:
        slow.sendall(b"POST /predict?model=one HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
        reply = b"".join(iter(lambda: slow.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 408") and b"slow_body" in reply
    with socket.create_connection(address) as long:
        long.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000)
        assert long.recv(65536).startswith(b"HTTP/1.1 400"), "headers longer than any honest client's"
    assert depth(server) == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_takes_nothing_new_and_gives_what_is_under_way(
    start: Callable[..., Server], tmp_path: Path, picture: bytes, end: signal.Signals
) -> None:
    wait = tmp_path / "wait"
    server = start(write_fake_bundle(tmp_path / "one", wait), "--workers", "1").until_ready()
    kept = server.open()
    kept.request("GET", "/ready")
    assert kept.getresponse().read()
    wait.touch()
    asking = Asking(server, picture)
    server.until(lambda: depth(server) == 1)
    server.process.send_signal(end)
    server.until(lambda: server.ask("GET", "/ready")[0] == 503)
    assert server.json("GET", "/ready")["state"] == "ending"
    assert server.kind("POST", "/predict", picture) == (503, "stopping")
    wait.unlink()
    asking.join(30)
    assert asking.status == 200 and asking.answer["label"] == "CLEAR"
    assert server.process.wait(30) == 0


def test_an_engine_that_hangs_does_not_hold_up_the_end(
    start: Callable[..., Server], tmp_path: Path, picture: bytes
) -> None:
    wait = tmp_path / "wait"
    bounds = ["--workers", "1", "--timeout", "60", "--grace", "0.5"]
    server = start(write_fake_bundle(tmp_path / "one", wait), *bounds).until_ready()
    wait.touch()
    connection = server.open()
    connection.request("POST", "/predict", picture)
    server.until(lambda: depth(server) == 1)
    assert server.end() == 3
    connection.close()


def test_of_several_models_a_damaged_one_leaves_the_others_alone(
    start: Callable[..., Server], wait: Path, tmp_path: Path, picture: bytes
) -> None:
    sound, damaged = (write_fake_bundle(tmp_path / name, wait) for name in ("sound", "damaged"))
    golden = damaged / "golden.npz"
    whole = golden.read_bytes()
    golden.write_bytes(whole[:-1] + b"?")
    # Also as one of an ensemble: its mean is none without it.
    settings = {"bundles": [str(sound), str(damaged)], "ensembles": ["both=sound,damaged"], "beat_s": 0.1}
    command = [sys.executable, "-c", FACTORY]
    server = start(command=command, MEDCOMPRESS_SERVE=json.dumps(settings | {"measure": False})).until_ready()
    found = server.json("GET", "/ready")
    assert found["ready"] and set(found["failed"]) == {"damaged", "both"}
    assert "golden.npz: was changed" in found["failed"]["damaged"]
    assert server.json("POST", "/predict?model=sound", picture)["model"] == "sound"
    for asked in ("?model=damaged", "?model=both", ""):  # without a name the ensemble is meant
        status, headers, text = server.ask("POST", f"/predict{asked}", picture)
        assert (status, json.loads(text)["error"]["kind"], headers["Retry-After"]) == (503, "not_ready", "5")
    said = server.ask("GET", "/metrics")[2].decode()
    assert 'medcompress_model_ready{model="damaged"} 0.0' in said and "medcompress_ready 1.0" in said
    golden.write_bytes(whole)
    server.until(lambda: not server.json("GET", "/ready")["failed"])
    assert server.json("POST", "/predict", picture)["model"] == "both"


def test_the_token_and_the_watchdog_under_uvicorns_own_command(
    start: Callable[..., Server], tmp_path: Path, picture: bytes
) -> None:
    wait, token = tmp_path / "wait", tmp_path / "token"
    token.write_text(TOKEN + "\n")
    settings: dict[str, Any] = {"bundles": [str(write_fake_bundle(tmp_path / "one", wait))], "token_file": str(token)}
    settings |= {"beat_s": 0.1, "answer_s": 0.3, "measure": False}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {"MEDCOMPRESS_SERVE": json.dumps(settings), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        server = start(command=[sys.executable, "-c", FACTORY], **environment)
        assert systemd.recv(1000).startswith(b"READY=1"), "and not before the self-test"
        assert systemd.recv(1000) == b"WATCHDOG=1"
        wait.touch()
        while b"self-test failed" not in systemd.recv(1000):
            pass
        # Who bears no token is told no more than that: what is wrong may name a folder.
        said = {
            "ready": False,
            "reason": "the server is not ready: failed",
            "models": [],
            "state": "failed",
            "failed": {},
        }
        assert server.json("GET", "/ready") == said
        bearing = server.json("GET", "/ready", headers={"Authorization": f"Bearer {TOKEN}"})
        assert "there was no answer within" in bearing["reason"] and bearing["models"] == ["one"]
        systemd.settimeout(1)
        with pytest.raises(TimeoutError):  # an engine that hangs is no sign of life
            systemd.recv(1000)
        systemd.settimeout(30)
        wait.unlink()
        while systemd.recv(1000) != b"WATCHDOG=1":
            pass
    server.until_ready()
    for path in ("/health", "/ready", "/"):
        assert server.ask("GET", path)[0] == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        status, found, text = server.ask("POST", "/predict", picture, headers)
        assert (status, json.loads(text)["error"]["kind"]) == (401, "token") and found["WWW-Authenticate"] == "Bearer"
        assert server.kind("GET", "/model/info", headers=headers) == (401, "token")
    assert server.ask("POST", "/predict", picture, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert TOKEN not in server.log.read_text()


def test_a_server_others_could_reach_needs_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(write_fake_bundle(tmp_path / "one", tmp_path / "wait"))
    (tmp_path / "short").write_text("secret")
    assert run(["serve", bundle, "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err
    assert run(["serve", bundle, "--host", "0.0.0.0", "--token-file", str(tmp_path / "short")]) == 2
    assert run(["serve", bundle, f"one={bundle}"]) == 2, "two models of one name"
    assert run(["serve", bundle, "--ensemble", "both=one,three"]) == 2
    assert run(["serve", str(tmp_path / "none")]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", bundle, "--port", str(taken.getsockname()[1])]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_the_unit_that_is_shipped_is_one_systemd_takes(tmp_path: Path) -> None:
    text = (Path(medcompress.runtime.server.__file__).parent / "medcompress.service").read_text()
    command = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()
    given = command_of_serve.make_context("serve", command[2:]).params
    assert given["bundles"] == ("/srv/medcompress/model",) and given["host"] == "127.0.0.1"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not on this machine")
    unit = tmp_path / "medcompress.service"
    unit.write_text(text.replace(command[0], f"ExecStart={sys.executable}"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0 and str(unit) not in done.stderr and "Unknown" not in done.stderr, done.stderr


def test_without_its_line_in_the_audit_log_nothing_is_answered(
    start: Callable[..., Server], tmp_path: Path, picture: bytes
) -> None:
    # A disk with no room left: the process may write no file longer than 4 KiB.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    limit += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    bundle = write_fake_bundle(tmp_path / "one", tmp_path / "wait")
    arguments = ["serve", str(bundle), "--port", "0", "--no-measure", "--audit", str(tmp_path / "audit")]
    command = [sys.executable, "-c", limit + START, *arguments]
    server = start(command=command, PYTHONDONTWRITEBYTECODE="1").until_ready()
    statuses = [server.ask("POST", "/predict", picture)[0] for _ in range(12)]
    answered = statuses.count(200)
    assert answered and statuses == [200] * answered + [503] * (12 - answered) and answered < 12
    assert server.kind("POST", "/predict", picture) == (503, "audit")
    lines = [json.loads(line) for line in (tmp_path / "audit" / "audit-000001.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "answered" for line in lines) == answered
    assert (tmp_path / "audit" / "audit-000001.jsonl").stat().st_size <= 4096
