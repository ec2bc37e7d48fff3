"""The port of a node: peers that stall, peers without a certificate, too many at once."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

from medcompress.runtime.dicom import listening
from medcompress.runtime.dicom.listening import Port, bound
from medcompress.runtime.dicom.sending import Destination, Sender
from medcompress.runtime.dicom.spool import Spool
from medcompress.runtime.dicom.tls import Tls
from medcompress.runtime.errors import InputError

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def lines() -> list[str]:
    """What was logged."""
    return []


@pytest.fixture
def port(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Port]]:
    """Opens a port that answers C-ECHO, and C-STORE of anything; peers have a second to greet."""
    monkeypatch.setattr(listening, "_GREETING", 1.0)
    opened: list[Port] = []

    def opening(context: ssl.SSLContext | None = None, kinds: tuple[str, ...] = (), patience: float = 1) -> Port:
        entity = AE("NODE")
        entity.maximum_associations, entity.acse_timeout = 4, patience
        for kind in (VERIFICATION, *kinds):
            entity.add_supported_context(kind)
        handlers = [
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_C_STORE, lambda event: 0x0000),
            (evt.EVT_CONN_OPEN, lambda event: bound(event.assoc, 1 << 20, lines.append)),
        ]
        opened.append(Port(entity, ("127.0.0.1", 0), handlers, context, lines.append))
        opened[-1].start()
        return opened[-1]

    yield opening
    for one in opened:
        one.shutdown()
        one.ae.shutdown()


def echoes(port: Port, context: ssl.SSLContext | None = None) -> bool:
    entity = AE("SCANNER")
    entity.acse_timeout = entity.dimse_timeout = 10
    entity.add_requested_context(VERIFICATION)
    tls = (context, "localhost") if context else None
    association = entity.associate("127.0.0.1", port.number, tls_args=tls)
    if not association.is_established:
        return False
    answered = association.send_c_echo().get("Status") == 0
    association.release()
    return answered


def soon(condition: Callable[[], Any]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def test_peers_that_stop_in_the_middle_of_a_message_lose_their_place(
    port: Callable[..., Port], lines: list[str]
) -> None:
    opened = port()
    stalled = [socket.create_connection(("127.0.0.1", opened.number)) for _ in range(4)]
    for peer in stalled:
        peer.sendall(b"\x01\x00\x00\x01\x00\x00 and no more of 65,536 bytes")
    assert soon(lambda: len(lines) == 4)
    assert set(lines) == {"connection closed: its peer took more than 1 s for a part of a message"}
    assert soon(lambda: echoes(opened))
    for peer in stalled:
        peer.close()


def test_more_connections_than_there_are_places_for_are_closed_at_once(
    port: Callable[..., Port], lines: list[str]
) -> None:
    opened = port(patience=60)
    peers = [socket.create_connection(("127.0.0.1", opened.number)) for _ in range(50)]
    assert soon(lambda: "connection of 127.0.0.1 closed: 32 are open" in lines)
    assert len(opened.active_associations) <= 32
    for peer in peers:
        peer.close()


def test_only_peers_with_a_certificate_are_let_in_and_a_silent_one_keeps_nobody_out(
    port: Callable[..., Port], lines: list[str], certified: Callable[[str], Tls]
) -> None:
    opened = port(certified("node").listening())
    silent = socket.create_connection(("127.0.0.1", opened.number))
    scanner = certified("scanner").calling()
    assert echoes(opened, scanner)
    nobody = ssl.create_default_context(cafile=certified("scanner").authority)
    assert not echoes(opened)
    assert not echoes(opened, nobody)
    assert soon(lambda: any("peer did not return a certificate" in line for line in lines))
    stranger = certified("stranger, of another authority").calling()
    stranger.load_verify_locations(certified("node").authority)
    assert not echoes(opened, stranger)
    assert soon(lambda: any("certificate verify failed" in line for line in lines))
    old = certified("scanner").calling()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert echoes(opened, old)
    assert soon(lambda: silent.recv(1) == b""), "and is let go"
    silent.close()


def test_results_go_by_tls_to_the_host_its_certificate_names(
    port: Callable[..., Port], source: Any, certified: Callable[[str], Tls], tmp_path: Path
) -> None:
    from pydicom.uid import SecondaryCaptureImageStorage

    from medcompress.runtime.dicom.derived import to_bytes

    spool = Spool(tmp_path / "spool")
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    (spool.results / "a-picture.dcm").write_bytes(to_bytes(source))
    (spool.results / "b-picture.dcm").write_bytes(b"no DICOM file at all")
    archive = port(certified("archive").listening(), (SecondaryCaptureImageStorage,))
    for host, sent in (("127.0.0.1", False), ("localhost", True)):
        said: list[str] = []
        where = Destination(host, archive.number, "NODE")
        sender = Sender(spool, where, "NODE", said.append, first_wait=0.05, tls=certified("node").calling())
        sender.start()
        expected = "a-picture: sent" if sent else "or not by TLS with a certificate of --tls-ca for that name"
        assert soon(lambda: any(expected in line for line in said)), said  # noqa: B023
        assert soon(lambda: not spool.unsent()) or not sent
        sender.stop(20)
    assert [path.name for path in (spool.folder / "refused").iterdir()] == ["b-picture.dcm"], (
        "it keeps no other waiting"
    )


def test_files_of_tls_that_cannot_be_used_are_named(certified: Callable[[str], Tls], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    good, other = certified("node"), certified("scanner")
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    lock = serialization.BestAvailableEncryption(b"secret")
    locked, broken = tmp_path / "locked.key", tmp_path / "broken.key"
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    broken.write_bytes(good.key.read_bytes()[:80])
    for files, words in (
        (Tls(good.certificate, other.key, good.authority), "key values mismatch"),
        (Tls(good.certificate, good.key, tmp_path / "none"), "--tls-ca .*No such file"),
        (Tls(good.certificate, tmp_path / "none", good.authority), "--tls-key .*No such file"),
        (Tls(good.certificate, locked, good.authority), "--tls-key: has a password"),
        (Tls(good.certificate, broken, good.authority), "--tls-key .*; give a certificate and its key"),
        (Tls(good.certificate, good.key, good.key), "--tls-ca .*; give certificates in PEM"),
    ):
        with pytest.raises(InputError, match=words):
            files.calling()
