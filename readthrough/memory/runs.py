"""The run log: what each run was asked, the texts it made (found by their hash), and its answer."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from readthrough.errors import LibraryError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, started REAL NOT NULL, finished REAL, question TEXT NOT NULL,
    workflow TEXT NOT NULL, model TEXT NOT NULL, answer TEXT
);
CREATE TABLE IF NOT EXISTS texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL);
"""


class RunLog:
    """An append-only log in one SQLite file; `path` None keeps it in memory."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the log, making it where there is none.

        Raises:
            LibraryError: the file cannot be opened as a run log.
        """
        self._path = path
        self._lock = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=30.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
            if path is not None:
                path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise self._error("cannot be opened", error) from error

    def start(self, question: str, workflow: str, model: str) -> str:
        """Note the beginning of a run; returns its id, which sorts by time."""
        run = time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:8]
        row = (run, time.time(), question, workflow, model)
        self._write("INSERT INTO runs (id, started, question, workflow, model) VALUES (?, ?, ?, ?, ?)", row)
        return run

    def finish(self, run: str, answer: dict[str, Any]) -> None:
        """Note the answer of a run (`Answer.to_dict()`)."""
        row = (time.time(), json.dumps(answer, ensure_ascii=False), run)
        self._write("UPDATE runs SET finished = ?, answer = ? WHERE id = ?", row)

    def answer(self, run: str) -> dict[str, Any] | None:
        """The answer of a finished run, or None."""
        with self._lock:
            row = self._db.execute("SELECT answer FROM runs WHERE id = ?", (run,)).fetchone()
        return json.loads(row[0]) if row and row[0] else None

    def put(self, text: str) -> str:
        """Keep a text; returns its SHA-256, under which `get` finds it."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self._write("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, text))
        return digest

    def get(self, digest: str) -> str:
        """The text that `put` returned `digest` for.

        Raises:
            LibraryError: no such text is in the log.
        """
        with self._lock:
            row = self._db.execute("SELECT text FROM texts WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            raise LibraryError(f"the run log has no text {digest[:12]}", path=str(self._path or ""))
        return str(row[0])

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._db.close()

    def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        try:
            with self._lock, self._db:
                self._db.execute(statement, row)
        except sqlite3.Error as error:
            raise self._error("cannot be written", error) from error

    def _error(self, what: str, error: Exception) -> LibraryError:
        hint = "free some space, or choose another folder with --home"
        return LibraryError(f"the run log {what}: {error}", path=str(self._path or ""), hint=hint)
