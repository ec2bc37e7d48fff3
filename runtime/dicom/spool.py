"""What a node has taken and not yet finished, as files: a sender that was told "success" may forget its copy.

    waiting/RECEIPT.TRIES.SENDER.dcm   taken, to be answered
    working/RECEIPT.TRIES.SENDER.dcm   being answered
    unsent/RECEIPT-KIND.dcm            results for the destination
    refused/                           results the destination will not have, images that could not be dealt with at all

Images and results name patients: the folder is closed to other users. A receipt is a random number, so file names and
logs name nobody. One node a folder, held by a lock.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import filelock

from ..errors import InputError, MachineError
from ..records import write_whole

_FOLDERS = ("waiting", "working", "unsent", "refused")
_LOCK = "spool.lock"
_JOB = re.compile(r"[0-9a-f]{16}\.[0-9]+\.[A-Za-z0-9_-]*\.dcm")


class Job:
    """One image that was taken.

    Attributes:
        receipt: its random number.
        tries: how often answering it was begun and not finished, because the program or the machine went down.
        sender: the AE title it came from, letters and digits of it.
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.receipt, tries, self.sender = path.name.removesuffix(".dcm").split(".")
        self.tries = int(tries)


class Spool:
    """The folder of a node.

    Args:
        folder: made where it is missing.

    Raises:
        InputError: it holds other things.
        MachineError: another node uses it.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.name not in (*_FOLDERS, _LOCK) for path in folder.iterdir()):
            raise InputError(f"{folder}: holds other things than a node's files; give an empty folder as --spool")
        self._lock = filelock.FileLock(folder / _LOCK, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise MachineError(f"{folder}: another node uses it; stop that, or give another --spool") from error
        for name in _FOLDERS:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            for left in (folder / name).glob(".*.tmp"):  # half-written when the machine went down
                left.unlink()
        for name in ("waiting", "working"):
            if not all(_JOB.fullmatch(path.name) for path in (folder / name).iterdir()):
                self.close()
                raise InputError(f"{folder / name}: holds files that no node has put there; take them away")

    def close(self) -> None:
        """Let another node use the folder."""
        self._lock.release()

    @property
    def results(self) -> Path:
        """Folder of the results for the destination."""
        return self.folder / "unsent"

    def recover(self) -> list[Job]:
        """What an earlier node had taken and not finished, the oldest first; what it was busy with has a try more."""
        for path in (self.folder / "working").iterdir():
            job = Job(path)
            path.rename(self._waiting(job.receipt, job.tries + 1, job.sender))
        found = sorted((self.folder / "waiting").iterdir(), key=lambda path: path.stat().st_mtime)
        return [Job(path) for path in found]

    def take(self, data: bytes, sender: str) -> Job:
        """Keep an image: it is on the disk when this returns.

        Raises:
            OSError: the disk is full or fails.
        """
        path = self._waiting(uuid.uuid4().hex[:16], 0, re.sub(r"[^A-Za-z0-9_-]", "_", sender.strip()))
        write_whole(path, data)
        return Job(path)

    def begin(self, job: Job) -> None:
        """Mark an image as being answered: a crash from here on counts as a try."""
        job.path = job.path.rename(self.folder / "working" / job.path.name)

    def put_back(self, job: Job, *, failed: bool) -> None:
        """Answer an image later; ``failed`` counts this as a try."""
        job.tries += failed
        job.path = job.path.rename(self._waiting(job.receipt, job.tries, job.sender))

    def finish(self, job: Job) -> None:
        """Forget an image whose results are kept."""
        job.path.unlink()

    def unsent(self) -> list[Path]:
        """Results for the destination, the oldest first."""
        return sorted(self.results.glob("[!.]*.dcm"), key=lambda path: path.stat().st_mtime)

    def refuse(self, path: Path) -> None:
        """Set aside what nothing more can be done with; an administrator finds it there."""
        path.replace(self.folder / "refused" / path.name)

    def _waiting(self, receipt: str, tries: int, sender: str) -> Path:
        return self.folder / "waiting" / f"{receipt}.{tries}.{sender}.dcm"
