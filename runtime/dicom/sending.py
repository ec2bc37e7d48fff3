"""Results to a C-STORE destination (PS3.4 annex B): an archive, a viewer."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..errors import InputError, missing_package
from .spool import Spool

# Seconds between attempts: doubled from the first to the last while the destination does not answer.
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
# Attempts at a result the destination answers for and does not store; then it is set aside.
REFUSALS = 5
_SECONDS = 30  # for each step of the dialogue
# Failure statuses that say "not now" (PS3.4 table B.2-1): every other failure says "not this".
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


class Destination(msgspec.Struct, frozen=True):
    """Where results go: host, port and the AE title that is called there."""

    host: str
    port: int
    ae_title: str


def parse_destination(text: str) -> Destination:
    """``HOST:PORT:AE`` as a destination; an IPv6 address stands in brackets.

    Raises:
        InputError: it is not of that form.
    """
    host, _, rest = (text[1:].replace("]", "", 1) if text.startswith("[") else text).rpartition(":")
    host, _, port = host.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536 and valid_title(rest)):
        raise InputError(f"{text!r} is no destination; give HOST:PORT:AE-TITLE, such as 10.0.0.5:104:ARCHIVE")
    return Destination(host, int(port), rest)


def valid_title(title: str) -> bool:
    """Whether it can be an AE title: 1 to 16 printable ASCII characters, no backslash (PS3.5 section 6.2)."""
    return 1 <= len(title.strip()) <= len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title


class Sender:
    """Sends what lies in a spool's ``unsent``, in a thread of its own, until it is stopped; nothing is lost.

    A destination that does not answer, or is out of resources, is tried again with longer and longer waits, for as
    long as it takes. A result it answers for and does not store is tried five times, and then set aside.

    Args:
        spool: that holds the results.
        destination: where they go.
        own_title: the AE title this node calls itself.
        log: takes a line at a time; no patient is named in it.
        first_wait: seconds before the second attempt.
        tls: None for none.
    """

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        own_title: str,
        log: Callable[[str], None],
        first_wait: float = FIRST_WAIT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._spool, self._destination, self._own_title, self._log = spool, destination, own_title, log
        self._first_wait, self._tls = first_wait, tls
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._refusals: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier node left."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether results are sent, or wait for their destination."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End after the result that is under way; the rest stays on the disk for the next start."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        wait = 0.0
        while not self._stopped.is_set():
            self._wake.clear()
            results = self._spool.unsent()
            if not results:
                self._wake.wait()
                continue
            try:
                done = self._send(results)
            except Exception as error:  # whatever a network or a peer does, the results stay and are tried again
                self._log(f"sending failed ({type(error).__name__})")
                done = False
            wait = 0.0 if done else min(LONGEST_WAIT, max(self._first_wait, 2 * wait))
            if wait:
                waiting = len(self._spool.unsent())
                self._log(f"{waiting} result(s) wait for {self._destination.ae_title}; again in {wait:.0f} s")
                self._stopped.wait(wait)

    def _send(self, results: list[Path]) -> bool:
        """One association for all; whether everything was stored or set aside."""
        from pydicom import dcmread
        from pynetdicom import AE

        entity = AE(self._own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _SECONDS
        for kind in _result_kinds():
            entity.add_requested_context(kind)
        where = self._destination
        tls = (self._tls, where.host) if self._tls else None
        association = entity.associate(where.host, where.port, ae_title=where.ae_title, tls_args=tls)
        if not association.is_established:
            silent = "does not answer" + (", or not by TLS with a certificate of --tls-ca for that name" if tls else "")
            why = "refused the association" if association.is_rejected else silent
            self._log(f"{where.ae_title} at {where.host}:{where.port} {why}")
            return False
        try:
            done = True
            for result in results:
                if self._stopped.is_set() or not association.is_established:
                    return False
                try:
                    dataset = dcmread(result)
                except Exception:  # whatever lies there: it must not keep the others
                    self._log(f"{result.stem}: is no DICOM file, set aside")
                    self._spool.refuse(result)
                    continue
                try:
                    status = association.send_c_store(dataset).get("Status", None)
                except ValueError:  # it accepted no context for this kind of object
                    status = 0x0122
                done &= self._settle(result, status)
            return done
        finally:
            if association.is_established:
                association.release()

    def _settle(self, result: Path, status: int | None) -> bool:
        """What follows from the destination's status; whether the result is dealt with."""
        if status is None:
            self._log(f"{result.stem}: no answer")
            return False
        if status == 0 or status >> 12 == 0xB:  # stored; stored with a warning
            result.unlink()
            self._refusals.pop(result.name, None)
            self._log(f"{result.stem}: sent" + (f" (warning {status:#06x})" if status else ""))
            return True
        self._log(f"{result.stem}: not stored by {self._destination.ae_title} (status {status:#06x})")
        if status in _OUT_OF_RESOURCES:
            return False
        self._refusals[result.name] = self._refusals.get(result.name, 0) + 1
        if self._refusals[result.name] < REFUSALS:
            return False
        self._spool.refuse(result)
        del self._refusals[result.name]
        self._log(f"{result.stem}: set aside after {REFUSALS} refusals")
        return True


def require_pynetdicom() -> None:
    """Raises:
    MachineError: pynetdicom is not installed.
    """
    try:
        import pynetdicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package("pynetdicom", "dicom-out") from error


def _result_kinds() -> tuple[str, ...]:
    from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

    return ComprehensiveSRStorage, SecondaryCaptureImageStorage
