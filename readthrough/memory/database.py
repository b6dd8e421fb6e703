"""The SQLite file of the library: one connection a thread, one writer at a time, typed errors."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from readthrough.errors import LibraryError
from readthrough.memory.schema import migrate
from readthrough.retrieval import keywords
from readthrough.types import Event

BUSY_SECONDS = 600.0
"""How long a writer waits for another. Transactions are short: only a hung process takes this long."""
_AGAIN_SECONDS = 0.01

PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = NORMAL",  # with WAL a power cut loses the last transactions, never the file
    "PRAGMA temp_store = MEMORY",
)


class _Connection(sqlite3.Connection):
    """One that is closed when the thread that it belongs to has ended: nothing but this can hold it weakly."""


class Database:
    """The file `path`, opened, brought to this schema version, and moved aside where it is beyond reading."""

    def __init__(self, path: Path, on_event: Callable[[Event], None] | None = None) -> None:
        """Open or create.

        Raises:
            LibraryError: it cannot be read or written, or is of a newer version.
        """
        self.path = path
        self._local = threading.local()
        self._opened: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()
        self._on_event = on_event
        try:
            with guard(path), self._alone():
                self._prepare()
        except LibraryError as error:
            if not self.recover(error):
                raise

    def recover(self, error: LibraryError) -> bool:
        """Where `error` says that the file is damaged, put it aside. Returns whether it says so.

        Raises:
            LibraryError: the file cannot be put aside.
        """
        damaged = is_damage(error.__cause__)
        if damaged:
            self.set_aside()
        return damaged

    def set_aside(self) -> None:
        """Rename a damaged file and begin a new one; a sound file stays (another process may have been quicker)."""
        self.close()
        with guard(self.path), self._alone():
            if not self.problems():
                return
            self.close()
            aside = _move_aside(self.path)
            self._prepare()
            self._skip_used_ids()
        if self._on_event:
            note = f"{self.path} was damaged: moved to {aside.name}; files are indexed again when asked"
            self._on_event(Event("warning", 0, note=note))

    def problems(self) -> list[str]:
        """What is wrong with the file's structure, one line each."""
        try:
            found = [line for (line,) in self.connection().execute("PRAGMA integrity_check") if line != "ok"]
            with self.write() as connection:
                keywords.verify(connection)
        except (sqlite3.DatabaseError, LibraryError) as error:
            if not is_damage(error) and not is_damage(error.__cause__):
                raise
            return [str(error)]
        return found

    def _alone(self) -> AbstractContextManager[None]:
        """While it lasts no other process opens the file."""
        return exclusive(self.path.with_suffix(".lock"))

    def _prepare(self) -> None:
        create(self.path)
        connection = self.connection()
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        use_wal(connection)
        migrate(connection, str(self.path))

    def _skip_used_ids(self) -> None:
        """Begin to count above every id of the file before, so that a shelf of that one finds nothing, not others."""
        now_ms = time.time_ns() // 1_000_000
        with self.write() as connection:
            for table in ("documents", "splits", "chunks"):
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, now_ms))

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection. Statements outside `write` commit by themselves."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
            )
            with self._lock:
                self._opened.add(connection)
            for pragma in PRAGMAS:
                connection.execute(pragma)
            self._local.connection = connection
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or (on any exception, Ctrl-C too) nothing.

        Raises:
            LibraryError: the disk is full, cannot be written, or the file is damaged.
        """
        connection = self.connection()
        with guard(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def size_bytes(self) -> int:
        """What the used pages of the file take on disk."""
        pragmas = ("page_count", "freelist_count", "page_size")
        pages, free, page_bytes = (self.connection().execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas)
        return int((pages - free) * page_bytes)

    def shrink(self) -> None:
        """Merge the keyword index and give free pages and the write-ahead log back to the disk."""
        with self.write() as connection:
            keywords.optimize(connection)
        self.connection().execute("PRAGMA incremental_vacuum").fetchall()
        self.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close every thread's connection. Calling it twice is fine."""
        with self._lock:
            opened, self._opened = list(self._opened), WeakSet()
        self._local = threading.local()
        for connection in opened:
            connection.close()


def use_wal(connection: sqlite3.Connection) -> None:
    """Have the file of `connection` write ahead. Where several open a new file, SQLite lets one of them do it and
    tells the others at once that it is locked, however long they would wait for a writer: they try again.
    """
    ends = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
        time.sleep(_AGAIN_SECONDS)


def create(path: Path) -> None:
    """Make a file that its owner alone can read, where there is none.

    One that is there is not touched: a process that closes a file drops all locks that SQLite holds on it for other
    connections of that process.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


@contextmanager
def guard(path: Path, what: str = "library") -> Iterator[None]:
    """Turn the errors of SQLite and of the disk into LibraryError that names `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise LibraryError(f"the {what} cannot be used: {error}", path=str(path), hint=_advice(error)) from error
    except BrokenPipeError:  # somebody who listens to progress has gone: no matter of the library
        raise
    except OSError as error:
        where = str(error.filename or path)
        reason = error.strerror or str(error)
        raise LibraryError(f"the {what} cannot be used: {reason}", path=where, hint=_advice(error)) from error


def _advice(error: Exception) -> str:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "full" in str(error):
        return "free some space or choose another folder with --home; what was indexed before is kept"
    if is_damage(error):
        return "run `readthrough library check`, then ask again"
    return "check the folder's permissions and disk, or choose another with --home"


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that the file is no database, or a broken one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which other processes wait for; a killed process lets go of it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _move_aside(path: Path) -> Path:
    """Rename a damaged file, with its write-ahead log, to the first free `<name>.damaged-<n>`."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            os.rename(companion, aside.with_name(aside.name + suffix))
    return aside
