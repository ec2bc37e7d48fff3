"""The node under real C-STORE traffic on loopback: pynetdicom's, and dcmtk's where it is installed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import ComprehensiveSR
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComputedRadiographyImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE

from medcompress.runtime import Predictor, load
from medcompress.runtime.dicom.derived import to_bytes
from medcompress.runtime.dicom.node import Node, NodeSettings
from medcompress.runtime.errors import InputError, MachineError

VERIFICATION = "1.2.840.10008.1.1"


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The condition's value once it has one."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def reports(folder: Path) -> list[ComprehensiveSR]:
    return [ComprehensiveSR.from_dataset(dcmread(path)) for path in sorted(folder.glob("*-report.dcm"))]


def status_of(report: ComprehensiveSR) -> str:
    (group,) = report.content.get_image_measurement_groups()
    return group.get_qualitative_evaluations(codes.DCM.SummaryOfAnalyses)[0].value.meaning


def store(port: int, *datasets: Dataset, called: str = "MEDCOMPRESS", calling: str = "SCANNER") -> list[Dataset] | None:
    """Send by C-STORE over one association; the responses, None where there is no association."""
    entity = AE(calling)
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(ComputedRadiographyImageStorage)
    entity.add_requested_context(SecondaryCaptureImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    try:
        assert association.send_c_echo().Status == 0
        return [association.send_c_store(dataset) for dataset in datasets]
    finally:
        if association.is_established:
            association.release()


@pytest.fixture(scope="module")
def predictor(pristine_bundle: Path) -> Iterator[Predictor]:
    loaded = load(pristine_bundle)
    yield loaded
    loaded.close()


class Listening:
    """Nodes of one test, with what they said."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.predictor, self.folder, self.lines = predictor, folder, []
        self.nodes: list[Node] = []

    def __call__(self, **settings: Any) -> Node:
        defaults: dict[str, Any] = {"spool": self.folder / "spool", "out": self.folder / "out", "port": 0}
        node = Node(self.predictor, NodeSettings(**defaults | settings), self.lines.append)
        node.start()
        self.nodes.append(node)
        return node

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def listen(predictor: Predictor, tmp_path: Path) -> Iterator[Listening]:
    listening = Listening(predictor, tmp_path)
    yield listening
    for node in listening.nodes:
        node.stop()


@pytest.fixture
def held(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Answers are held back until this is set."""
    gate, answer = threading.Event(), predictor.predict

    def slow(*arguments: Any, **options: Any) -> Any:
        gate.wait(60)
        return answer(*arguments, **options)

    monkeypatch.setattr(predictor, "predict", slow)
    yield gate
    gate.set()


def test_an_image_comes_in_and_its_report_goes_out(listen: Listening, source: Dataset) -> None:
    node = listen(audit=listen.folder / "audit")
    (answer,) = store(node.port, source) or []
    assert answer.Status == 0
    (report,) = wait_for(lambda: reports(listen.folder / "out"))
    (group,) = report.content.get_image_measurement_groups()
    source.save_as(listen.folder / "source.dcm", enforce_file_format=True)
    expected = listen.predictor.predict(listen.folder / "source.dcm")
    measured = {m.name.meaning: m.value for m in group.get_measurements()}
    for name, p in expected.probabilities.items():
        assert measured[f"Probability of {name}"] == pytest.approx(p, abs=1e-5)
    assert group.finding_type.meaning == expected.label
    assert report.PatientID == source.PatientID
    wait_for(lambda: not list((listen.folder / "spool").rglob("*.dcm")))
    spoken = "\n".join(listen.lines)
    secrets = (source.PatientID, "LLER", "ANNA", source.SOPInstanceUID, source.StudyInstanceUID, source.AccessionNumber)
    assert "answered" in spoken
    (log,) = (listen.folder / "audit").glob("*.jsonl")
    _, line = log.read_text().splitlines()
    logged = json.loads(line)
    assert logged["event"] == "answered"
    assert logged["who"] == "dicom:SCANNER"
    assert f"input sha256={logged['input_sha256']}".encode() in to_bytes(report), "report and line name each other"
    explains = listen.predictor.variant.explanation is not None
    assert bool(list((listen.folder / "out").glob("*-picture.dcm"))) == explains
    spoken += line
    assert not [secret for secret in secrets if str(secret) in spoken]


def test_who_may_call(listen: Listening, source: Dataset) -> None:
    node = listen(callers=("SCANNER",))
    assert store(node.port, called="ARCHIVE") is None, "meant for another"
    assert store(node.port, calling="STRANGER") is None
    assert store(node.port) == []
    assert node.is_alive
    assert listen.said("rejected")
    with pytest.raises(MachineError, match="another program listens there"):
        listen(spool=listen.folder / "other", port=node.port)
    with pytest.raises(MachineError, match="another node uses it"):
        listen()


def test_what_the_header_tells_is_refused_by_a_status_with_its_reason(listen: Listening, source: Dataset) -> None:
    node = listen()
    capture, frames, nameless = deepcopy(source), deepcopy(source), deepcopy(source)
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    frames.NumberOfFrames = 3
    del nameless.StudyInstanceUID
    answers = store(node.port, capture, frames, nameless) or []
    assert [answer.Status for answer in answers] == [0xC100, 0xC100, 0xC000]
    assert "secondary capture" in answers[0].ErrorComment
    assert "3 frames" in answers[1].ErrorComment
    assert "StudyInstanceUID" in answers[2].ErrorComment
    assert not reports(listen.folder / "out")


def test_an_image_found_unfit_when_its_pixels_are_read_gets_a_report_that_says_so(
    listen: Listening, source: Dataset
) -> None:
    node = listen()
    source.PixelData = source.PixelData[:1000]
    (answer,) = store(node.port, source) or []
    assert answer.Status == 0
    (report,) = wait_for(lambda: reports(listen.folder / "out"))
    assert status_of(report) == "Not Attempted"
    assert listen.said("no answer: ")
    assert not listen.said(str(listen.folder)), "no paths"


def test_a_full_queue_says_later_and_what_was_taken_is_answered_after_a_restart(
    listen: Listening, source: Dataset, held: threading.Event
) -> None:
    node = listen(waiting=2)
    first, second, third = store(node.port, source, source, source) or []
    assert (first.Status, second.Status, third.Status) == (0, 0, 0xA700)
    assert third.ErrorComment == "2 images wait already; send it again later"
    threading.Timer(0.5, held.set).start()
    node.stop()
    assert len(reports(listen.folder / "out")) == 1, "the one under way is finished"
    assert [path.parent.name for path in (listen.folder / "spool").rglob("*.dcm")] == ["waiting"]
    listen()
    assert len(wait_for(lambda: len(found := reports(listen.folder / "out")) == 2 and found)) == 2


def test_an_image_that_brings_the_program_down_is_reported_after_two_tries(
    listen: Listening, source: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = listen.folder / "spool" / "working"
    working.mkdir(parents=True)
    (working / "0123456789abcdef.1.SCANNER.dcm").write_bytes(to_bytes(source))  # begun twice, never finished

    def crash(*arguments: Any) -> None:
        raise AssertionError("tried a third time")

    monkeypatch.setattr(listen.predictor, "predict", crash)
    listen()
    (report,) = wait_for(lambda: reports(listen.folder / "out"))
    assert status_of(report) == "Not Attempted"
    assert not listen.said("AssertionError")


def test_sizes_are_bounded(listen: Listening, source: Dataset) -> None:
    node = listen(largest_mb=1)
    source.PixelData = bytes(3 << 19)
    (refused,) = store(node.port, source) or []
    assert (refused.Status, refused.ErrorComment) == (0xA700, "larger than the 1 MiB this node takes")
    source.PixelData = bytes(8 << 20)
    (dropped,) = store(node.port, source) or []
    assert "Status" not in dropped, "the connection was closed"
    assert listen.said("closed: its peer sends more than 2 MiB at once")
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as hostile:
        hostile.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1000))  # an association request of 4 GiB
        assert hostile.recv(1) == b""
    assert store(node.port) == [], "and the node goes on"


def test_a_peer_that_talks_nonsense_is_let_go_in_one_line(listen: Listening, capfd: pytest.CaptureFixture[str]) -> None:
    node = listen()
    entity = AE("SCANNER")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", node.port, ae_title="MEDCOMPRESS")
    command = bytes.fromhex("0000 0008 02000000 0101")  # Command Data Set Type, and no Command Field
    pdv = (len(command) + 2).to_bytes(4, "big") + bytes([1, 3]) + command
    association.dul.socket.send(b"\x04\x00" + len(pdv).to_bytes(4, "big") + pdv)
    wait_for(lambda: listen.said("connection closed: AttributeError over what its peer sent"))
    wait_for(lambda: not association.is_established)
    assert "Traceback" not in "".join(capfd.readouterr())
    assert store(node.port) == []


def test_a_spool_with_files_of_others_in_it_is_refused(listen: Listening) -> None:
    waiting = listen.folder / "spool" / "waiting"
    waiting.mkdir(parents=True)
    (waiting / "copied by hand.dcm").touch()
    with pytest.raises(InputError, match="files that no node has put there"):
        listen()
    (waiting / "copied by hand.dcm").unlink()
    listen()


def test_what_a_killed_node_had_begun_to_write_is_cleared_away(listen: Listening, source: Dataset) -> None:
    receipt = "0123456789abcdef"
    for folder, name in (("spool/working", f"{receipt}.0.SCANNER.dcm"), ("spool/waiting", ".x.dcm.7.tmp")):
        (listen.folder / folder).mkdir(parents=True)
        (listen.folder / folder / name).write_bytes(to_bytes(source))
    (listen.folder / "out").mkdir()
    (listen.folder / "out" / f".{receipt}-report.dcm.7.tmp").write_bytes(b"half of a patient's report")
    node = listen()
    wait_for(lambda: reports(listen.folder / "out"))
    node.stop()
    assert not list(listen.folder.rglob("*.tmp"))


def test_the_unit_that_is_shipped_is_one_systemd_takes(tmp_path: Path, tool: Callable[..., str]) -> None:
    import medcompress.runtime.dicom
    from medcompress.cli.node import command

    text = (Path(medcompress.runtime.dicom.__file__).parent / "medcompress-node.service").read_text()
    started = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()
    given = command.make_context("node", started[2:]).params
    assert given["bind"] == "127.0.0.1", "on this machine alone"
    assert all(given[f"tls_{file}"] for file in ("cert", "key", "ca"))
    unit = tmp_path / "medcompress-node.service"
    unit.write_text(text.replace(started[0], f"ExecStart={sys.executable}"))
    said = tool("systemd-analyze", "verify", unit)
    assert str(unit) not in said and "Unknown" not in said, said


def test_settings_that_cannot_be_are_refused(tmp_path: Path, predictor: Predictor) -> None:
    with pytest.raises(InputError, match="give one of the two"):
        NodeSettings(tmp_path)
    with pytest.raises(InputError, match="is no AE title"):
        NodeSettings(tmp_path, tmp_path, ae_title="MUCH TOO LONG A TITLE")
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(InputError, match="holds other things"):
        Node(predictor, NodeSettings(tmp_path, tmp_path / "out"), print)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_dcmtk_sends_to_it_and_receives_from_it(
    pristine_bundle: Path, source: Dataset, free_port: int, tmp_path: Path, tool: Callable[..., str]
) -> None:
    tool("storescp", "--version")
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    archive = tmp_path / "archive"
    archive.mkdir()
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "medcompress.cli.main",
        "node",
        str(pristine_bundle),
        "--port",
        "0",
        "--no-measure",
    ]
    command += ["--send", f"127.0.0.1:{free_port}:ARCHIVE", "--spool", str(tmp_path / "spool")]
    receiver = ["storescp", "--aetitle", "ARCHIVE", "--output-directory", str(archive), str(free_port)]
    manager = f"medcompress-test-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
        subprocess.Popen(receiver) as storescp,
        log.open("w") as said,
    ):
        listening.bind(f"\0{manager}")
        node = subprocess.Popen(command, stderr=said, env=os.environ | {"NOTIFY_SOCKET": f"@{manager}"})
        try:
            ready = re.compile(r" port (\d+)$", re.MULTILINE)
            found = wait_for(lambda: ready.search(log.read_text()) or node.poll() is not None, 60)
            assert node.poll() is None, log.read_text()
            port = found[1]
            peer = ("--call", "MEDCOMPRESS", "127.0.0.1", port)
            assert tool("echoscu", *peer) == ""
            assert tool("storescu", *peer, tmp_path / "source.dcm") == ""
            (received,) = wait_for(lambda: [p for p in archive.iterdir() if not p.name.endswith(".tmp")])
            wait_for(lambda: ": sent" in log.read_text())
            assert "Summary of Analyses" in tool("dsrdump", received)
            node.send_signal(signal.SIGTERM)
            assert node.wait(30) == 0
            listening.setblocking(False)
            states = [listening.recv(100)]
            while states[-1] != b"STOPPING=1":
                states.append(listening.recv(100))
            assert states[0] == b"READY=1", "told to systemd"
        finally:
            node.kill()
            node.wait()
            storescp.kill()
    assert not list((tmp_path / "spool").rglob("*.dcm"))
