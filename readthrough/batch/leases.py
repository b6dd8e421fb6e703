"""Who is alive: each process of a batch holds a lock while it lives, and renews the leases of its workers."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from readthrough.batch.table import LEASE_SECONDS, Table
from readthrough.errors import LibraryError

FOLDER = "batch-workers"


class Leases:
    """The name of this process in the table, its lock, and the thread that renews what it holds."""

    def __init__(self, table: Table, home: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lease_seconds = lease_seconds
        self._table = table
        self._folder = home / FOLDER
        self._here = f"{socket.gethostname()}-{_number(self._folder)}"
        self.name = f"{self._here}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="readthrough-leases", daemon=True)
        self._lock: int | None = None

    def __enter__(self) -> Leases:
        self._lock = os.open(self._file(self.name), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._file(self.name).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)

    def free_the_dead(self, job: str) -> None:
        """End the leases of dead processes of this machine and home: nobody need wait for these to run out."""
        for name in self._table.holders(job):
            if name != self.name and name.startswith(f"{self._here}:") and not self._lives(name):
                self._table.expire(name)
                self._file(name).unlink(missing_ok=True)

    def _lives(self, name: str) -> bool:
        try:
            lock = os.open(self._file(name), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _file(self, name: str) -> Path:
        return self._folder / f"{name.rpartition(':')[2]}.lock"

    def _renew(self) -> None:
        while not self._ended.wait(self.lease_seconds / 4):
            try:
                self._table.renew(self.name, self.lease_seconds)
            except LibraryError:  # a full disk, say: the worker meets it too, and says so
                continue


def _number(folder: Path) -> str:
    """Tells the folder of locks from those of other machines of the same name, which may share the table."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept, mine = folder / "number", folder / f"{uuid.uuid4().hex}.number"
    if not kept.exists():
        mine.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
        with suppress(FileExistsError):  # another process was quicker
            os.link(mine, kept)
        mine.unlink()
    return kept.read_text(encoding="utf-8")
