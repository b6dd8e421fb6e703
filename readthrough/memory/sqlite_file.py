"""One SQLite file in the home folder that threads and processes share: the run log, the conversations."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from readthrough.memory.database import BUSY_SECONDS, guard
from readthrough.memory.schema import Migrations, migrate


class SqliteFile:
    """The file `path`, made and brought to this version where need be; None keeps it in memory.

    A subclass says what it is (`what`, for errors) and how its tables are made (`migrations`).
    """

    what: ClassVar[str]
    migrations: ClassVar[Migrations]

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, making it where there is none.

        Raises:
            LibraryError: it cannot be opened, or is none of this kind.
        """
        self.path = path
        self._lock = threading.RLock()
        with self._guard():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(
                path or ":memory:", check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None
            )
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing, a power cut the last steps
            migrate(self._db, str(path or ":memory:"), self.migrations, self.what)

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or nothing."""
        with self._lock, self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._guard():
            return self._db.execute(query, values).fetchall()

    def _guard(self) -> AbstractContextManager[None]:
        return guard(self.path or Path(":memory:"), self.what)
