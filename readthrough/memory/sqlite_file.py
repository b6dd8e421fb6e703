"""A small SQLite file that threads and processes share: one connection, one writer at a time, typed errors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from readthrough.memory.database import BUSY_SECONDS, create, guard, use_wal
from readthrough.memory.schema import Migrations, migrate


class SqliteFile:
    """A file of its own, brought to its schema's version; `path` None keeps it in memory."""

    def __init__(self, path: Path | None, steps: Migrations, what: str) -> None:
        """Open the file, making it where there is none; errors call it `what`.

        Raises:
            LibraryError: the file cannot be used.
        """
        self.path = path
        self._what = what
        self._lock = threading.RLock()
        with self.guard():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                create(path)
            self._db = sqlite3.connect(
                path or ":memory:", check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None
            )
            self._db.execute("PRAGMA foreign_keys = ON")
            use_wal(self._db)
            self._db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing, a power cut the last rows
            migrate(self._db, str(path or ":memory:"), steps, what)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, of which all is kept or nothing."""
        with self._lock, self.guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock, self.guard():
            return self._db.execute(query, values).fetchall()

    def guard(self) -> AbstractContextManager[None]:
        """Turns the errors of SQLite and of the disk into LibraryError that names the file."""
        return guard(self.path or Path(":memory:"), self._what)

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._db.close()
