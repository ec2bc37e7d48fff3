"""A DICOM node: images come in by C-STORE, each one's answer goes to a folder or to a C-STORE destination.

What an administrator can rely on:

- "Success" means that the image is on this machine's disk and will be answered, across restarts; exactly one report
  follows. An image that turns out to be unfit when its pixels are read gets a report that says there is no answer,
  and why: in a study, silence would be read as "nothing was found".
- What can be told from the header is refused at once, by a failure status (PS3.4 table B.2-1) with the reason as Error
  Comment, so that it stands in the sender's own log: 0xA7xx "not now" (full, stopping), 0xA900 and 0xCxxx "not this".
- No line of its log names a patient, a study or an image: images are told apart by random receipts.

DICOM knows no password: a calling AE title is a claim. So it listens on loopback unless told otherwise, and beyond that
belongs behind a firewall, or speaks TLS with those who have a certificate.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..audit import AuditLog
from ..errors import ImageError, InputError, MachineError
from ..predictor import Predictor
from .answering import check_header, read_header
from .contexts import image_kinds, readable_syntaxes
from .derived import header_of, keep_names_out_of_logs, plain, require_highdicom
from .sending import Destination, Sender, require_pynetdicom, valid_title
from .spool import Spool
from .tls import Tls
from .worker import Full, Worker

OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD, REFUSED = 0xA700, 0xA900, 0xC000, 0xC100
_ASSOCIATIONS = 8
_PDU = 131072
# Seconds a peer may be silent, may take to say who it is, and may go on after the stop.
_SILENCE, _INTRODUCTION, _FAREWELL = 60, 10, 5.0


class NodeSettings(msgspec.Struct, frozen=True):
    """What a node does.

    Attributes:
        spool: folder for what is not finished yet.
        out: folder for the results; or
        destination: of them; exactly one of the two.
        port: that is listened on; 0 takes a free one.
        bind: address that is listened on.
        ae_title: that must be called.
        callers: AE titles that may call; empty allows any.
        waiting: images that may wait, and results that may be unsent, before new ones are refused.
        largest_mb: an image may have, MiB: a mammogram of 30 million pixels has 57.
        clinical: see :func:`medcompress.runtime.dicom.report.make_report`.
        audit: folder of the audit log: no result leaves without its line.
        tls: on both ways, in and out; None for none.
    """

    spool: Path
    out: Path | None = None
    destination: Destination | None = None
    port: int = 11112
    bind: str = "127.0.0.1"
    ae_title: str = "MEDCOMPRESS"
    callers: tuple[str, ...] = ()
    waiting: int = 100
    largest_mb: int = 64
    clinical: bool = False
    audit: Path | None = None
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if (self.out is None) == (self.destination is None):
            raise InputError("results go to a folder (--out) or to a destination (--send): give one of the two")
        for title in (self.ae_title, *self.callers):
            if not valid_title(title):
                raise InputError(f"{title!r} is no AE title; 1 to 16 ASCII characters, no backslash")


class Node:
    """Listens, answers and delivers until it is stopped.

    Args:
        predictor: that answers.
        settings: what to do.
        log: takes a line at a time, from several threads.

    Raises:
        MachineError: a package is missing, another node uses the spool, or the audit log cannot be written.
        InputError: the spool folder holds other things, or a file of TLS cannot be used.
        OSError: a folder cannot be written.
    """

    def __init__(self, predictor: Predictor, settings: NodeSettings, log: Callable[[str], None]) -> None:
        require_pynetdicom()
        require_highdicom()
        keep_names_out_of_logs()
        self._settings, self._log = settings, log
        self._rendering = predictor.bundle.manifest.preprocessing.dicom
        calling, self._listening = (settings.tls.calling(), settings.tls.listening()) if settings.tls else (None, None)
        self._spool = spool = Spool(settings.spool)
        self._audit = AuditLog(settings.audit) if settings.audit else None
        out = settings.out or spool.results
        out.mkdir(parents=True, exist_ok=True)
        where = settings.destination
        self._sender = Sender(spool, where, settings.ae_title, log, tls=calling) if where else None
        self._worker = Worker(
            predictor,
            spool,
            out,
            most=settings.waiting,
            clinical=settings.clinical,
            audit=self._audit,
            log=log,
            delivered=self._sender.wake if self._sender else lambda: None,
        )
        self._stopping = threading.Event()
        self._port: Any = None
        self._excepthook = threading.excepthook

    @property
    def port(self) -> int:
        """That is listened on."""
        return self._port.number

    @property
    def is_alive(self) -> bool:
        """Whether images are taken and answered: every thread runs, and none is stuck at one image."""
        sending = self._sender is None or self._sender.is_alive
        return self._port.is_alive and self._worker.is_alive and sending

    def start(self) -> None:
        """Go on with what an earlier node left, and listen.

        Raises:
            MachineError: the port cannot be listened on.
        """
        from pynetdicom import AE, evt

        from .listening import Port

        settings = self._settings
        entity = AE(settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.callers)
        entity.maximum_associations = _ASSOCIATIONS
        entity.maximum_pdu_size = _PDU
        entity.network_timeout, entity.acse_timeout = _SILENCE, _INTRODUCTION
        entity.add_supported_context("1.2.840.10008.1.1")  # Verification: C-ECHO
        for kind in image_kinds():
            entity.add_supported_context(kind, readable_syntaxes())
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, lambda event: 0x0000),
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_REJECTED, self._on_rejected),
        ]
        try:
            self._port = Port(entity, (settings.bind, settings.port), handlers, self._listening, self._log)
        except OSError as error:
            why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
            raise MachineError(
                f"cannot listen on {settings.bind} port {settings.port} ({why}); give another --port or --bind"
            ) from error
        threading.excepthook, self._excepthook = self._on_thread_error, threading.excepthook
        self._port.start()
        self._worker.start()
        if self._sender:
            self._sender.start()

    def stop(self) -> None:
        """Listen no more, finish what is under way; what waits stays on the disk for the next start."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._port.shutdown()
        end = time.monotonic() + _FAREWELL
        while any(peer.is_established for peer in self._port.active_associations) and time.monotonic() < end:
            time.sleep(0.05)
        self._port.ae.shutdown()
        self._worker.stop(_SILENCE)
        if self._sender:
            self._sender.stop(_SILENCE)
        if self._audit:
            self._audit.close()
        self._spool.close()
        threading.excepthook = self._excepthook

    def _on_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """What a peer sends may end pynetdicom's thread, with a traceback that quotes it: it is let go instead."""
        from pynetdicom.association import Association
        from pynetdicom.dul import DULServiceProvider

        if not isinstance(failed.thread, Association | DULServiceProvider):
            self._excepthook(failed)
            return
        self._log(f"connection closed: {failed.exc_type.__name__} over what its peer sent")
        if isinstance(failed.thread, DULServiceProvider) and failed.thread.socket:
            failed.thread.socket.close()

    def _on_connection(self, event: Any) -> None:
        from .listening import bound

        bound(event.assoc, 2 * (self._settings.largest_mb << 20), self._log)

    def _on_rejected(self, event: Any) -> None:
        peer = event.assoc.requestor.address
        self._log(f"association of {peer} rejected: its AE title, the one it calls, or too many at once")

    def _on_store(self, event: Any) -> Any:
        """Status for one C-STORE request; 0 once the image is on the disk."""
        from pydicom.dataset import Dataset

        status, reason = self._take(event)
        if not status:
            return status
        self._log(f"not taken, status {status:#06x}: {reason}")
        answer = Dataset()
        answer.Status, answer.ErrorComment = status, plain(reason.removeprefix("is refused: "))
        return answer

    def _take(self, event: Any) -> tuple[int, str]:
        data, settings = event.encoded_dataset(), self._settings
        if self._stopping.is_set():
            return OUT_OF_RESOURCES, "the node is being stopped"
        if len(data) > settings.largest_mb << 20:
            return OUT_OF_RESOURCES, f"larger than the {settings.largest_mb} MiB this node takes"
        if self._sender and len(self._spool.unsent()) >= settings.waiting:
            return OUT_OF_RESOURCES, f"{settings.waiting} results wait for their destination"
        try:
            source = read_header(data)
            header_of(source)
        except ImageError as error:
            return NOT_UNDERSTOOD, str(error)
        if source.SOPClassUID != event.request.AffectedSOPClassUID:
            return MISMATCH, "not of the SOP class it was announced as"
        try:
            check_header(source, self._rendering)
        except ImageError as error:
            return REFUSED, str(error)
        try:
            receipt = self._worker.take(data, event.assoc.requestor.ae_title)
        except Full:
            return OUT_OF_RESOURCES, f"{settings.waiting} images wait already; send it again later"
        except OSError as error:
            return OUT_OF_RESOURCES, f"the disk cannot be written ({error.strerror})"
        self._log(f"{receipt}: taken from {plain(event.assoc.requestor.ae_title, 16)}")
        return 0, ""
