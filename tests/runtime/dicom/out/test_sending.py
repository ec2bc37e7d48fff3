"""Results on their way to an archive that is down, that refuses, that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage
from pynetdicom import AE, evt

from medcompress.runtime.bundle import Bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.dicom.derived import to_bytes
from medcompress.runtime.dicom.report import make_report
from medcompress.runtime.dicom.sending import REFUSALS, Destination, Sender, parse_destination
from medcompress.runtime.dicom.spool import Spool
from medcompress.runtime.errors import InputError


class Archive:
    """A storage SCP that answers with the statuses it is given, the last one again and again."""

    def __init__(self, *statuses: int, implicit_only: bool = False) -> None:
        self.statuses, self.received = list(statuses), []
        entity = AE("ARCHIVE")
        syntaxes = ["1.2.840.10008.1.2"] if implicit_only else None
        entity.add_supported_context(ComprehensiveSRStorage, syntaxes)
        self._server: Any = entity.start_server(("127.0.0.1", 0), False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = self._server.socket.getsockname()[1]

    def _store(self, event: Any) -> int:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.received.append((event.request.AffectedSOPInstanceUID, status))
        return status

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def spool(tmp_path: Path, source: Dataset, record: Callable[[Decision], Bundle]) -> Spool:
    """With two results to be sent."""
    spool = Spool(tmp_path / "spool")
    for receipt in ("one", "two"):
        bundle = record(Decision("multiclass", ("a", "b")))
        report = make_report(source, "why", bundle, input_sha256="cd" * 32, receipt=receipt)
        (spool.results / f"{receipt}-report.dcm").write_bytes(to_bytes(report))
    return spool


@pytest.fixture
def send(spool: Spool) -> Iterator[Callable[[int], list[str]]]:
    senders: list[Sender] = []

    def start(port: int) -> list[str]:
        lines: list[str] = []
        sender = Sender(spool, Destination("127.0.0.1", port, "ARCHIVE"), "NODE", lines.append, first_wait=0.05)
        senders.append(sender)
        sender.start()
        return lines

    yield start
    for sender in senders:
        sender.stop(30)


def emptied(spool: Spool) -> bool:
    end = time.monotonic() + 20
    while spool.unsent() and time.monotonic() < end:
        time.sleep(0.02)
    return not spool.unsent()


def test_results_are_stored_also_where_only_implicit_vr_is_taken(
    spool: Spool, send: Callable[[int], list[str]]
) -> None:
    archive = Archive(0xB000, 0, implicit_only=True)
    send(archive.port)
    assert emptied(spool)
    archive.close()
    assert [status for _, status in archive.received] == [0xB000, 0], "a warning is a success"
    assert len({uid for uid, _ in archive.received}) == 2


def test_an_archive_that_is_down_or_full_gets_them_later(spool: Spool, send: Callable[[int], list[str]]) -> None:
    down = Archive(0)
    down.close()
    lines = send(down.port)
    time.sleep(0.3)
    assert len(spool.unsent()) == 2, "nothing is lost"
    assert any("does not answer" in line for line in lines)
    full = Archive(*[0xA700] * (REFUSALS + 3), 0)  # busier than a refusal may last
    send(full.port)
    assert emptied(spool)
    full.close()
    assert not list((spool.folder / "refused").iterdir())


def test_what_an_archive_will_not_have_is_set_aside_and_kept(spool: Spool, send: Callable[[int], list[str]]) -> None:
    archive = Archive(0xC000)
    send(archive.port)
    assert emptied(spool)
    archive.close()
    assert len(archive.received) == 2 * REFUSALS
    assert sorted(path.name for path in (spool.folder / "refused").iterdir()) == ["one-report.dcm", "two-report.dcm"]


def test_a_sender_without_work_ends_when_it_is_told(tmp_path: Path) -> None:
    sender = Sender(Spool(tmp_path), Destination("127.0.0.1", 9, "ARCHIVE"), "NODE", print)
    sender.start()
    sender.stop(10)
    assert "sender" not in {thread.name for thread in threading.enumerate()}


def test_destinations() -> None:
    assert parse_destination("10.0.0.5:104:MAIN ARCHIVE") == Destination("10.0.0.5", 104, "MAIN ARCHIVE")
    assert parse_destination("[fe80::1]:104:A") == Destination("fe80::1", 104, "A")
    for wrong in (
        "archive",
        "archive:A",
        "archive:104:",
        ":104:A",
        "archive:0:A",
        "archive:1:SEVENTEEN LETTERS",
        "a:x:A",
    ):
        with pytest.raises(InputError, match="is no destination"):
            parse_destination(wrong)
