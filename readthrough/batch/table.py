"""The table of batches: what is wanted, who is at it, what came of it. It is the truth: files are written from it.

A document is leased to one worker at a time; answers are kept one by one. Nothing here is lost by a kill: what a dead
worker held is given to another as soon as its lease ends, or at once where the worker is known to be dead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from readthrough.batch.files import Found
from readthrough.batch.job import WHOLE
from readthrough.errors import UsageError

LEASE_SECONDS = 60.0

ResultState = Literal["open", "done", "stopped", "failed"]
State = Literal["waiting", "running", "done", "failed", "aside", "skipped", "gone"]

TABLES = (
    "CREATE TABLE jobs (name TEXT PRIMARY KEY, job TEXT NOT NULL, changed DOUBLE PRECISION NOT NULL)",
    """CREATE TABLE documents (
        job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, path TEXT NOT NULL, content TEXT NOT NULL,
        size_bytes BIGINT NOT NULL, changed_ns BIGINT NOT NULL, place TEXT NOT NULL, recipe TEXT NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
        steps INTEGER NOT NULL DEFAULT 0, worker TEXT, lease_until DOUBLE PRECISION, error TEXT, error_type TEXT,
        PRIMARY KEY (job, path))""",
    "CREATE INDEX documents_place ON documents (job, state, place, path)",
    """CREATE TABLE results (
        job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, path TEXT NOT NULL, work TEXT NOT NULL,
        recipe TEXT NOT NULL, state TEXT NOT NULL, run TEXT NOT NULL, answer TEXT, error TEXT, error_type TEXT,
        finished DOUBLE PRECISION, PRIMARY KEY (job, path, work))""",
    "CREATE INDEX results_recipe ON results (recipe)",
)
"""For SQLite and for Postgres alike."""

_RESULT = "path, work, recipe, state, run, answer, error, finished"
_ROWS = 500


class File(Protocol):
    """Where the table is kept: SQLite (`memory.sqlite_file`), or a server."""

    def write(self) -> AbstractContextManager[Any]:
        """One transaction that no other writes beside; what it yields has `execute(query, values)`."""

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query; `?` stands for a value."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A document that a worker holds. `tries` is how many in a row got no further than `steps`, this one among them."""

    path: str
    content: str
    attempts: int
    tries: int
    steps: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one work on one document.

    Attributes:
        state: `open` while it is being answered, `done`, `stopped` by a budget, or `failed`.
        run: its run in the run log.
        answer: the Answer in its JSON form, with paths relative to the folder.
        error: `{type, message, path, hint}`.
    """

    path: str
    work: str
    recipe: str
    state: ResultState
    run: str = ""
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A document as the table has it."""

    path: str
    state: State
    attempts: int
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look at the folder found against the table: counts of documents."""

    new: int = 0
    changed: int = 0
    gone: int = 0


class Table:
    """The table of all batches; safe to share by threads, processes and, on a server, machines."""

    def __init__(self, file: File) -> None:
        self._file = file

    def register(self, job: str, described: dict[str, Any]) -> None:
        """Note a job, or what it is now."""
        update = "ON CONFLICT (name) DO UPDATE SET job = excluded.job, changed = excluded.changed"
        with self._file.write() as db:
            db.execute(f"INSERT INTO jobs VALUES (?, ?, ?) {update}", (job, _json(described), time.time()))

    def find(self, name: str | None) -> tuple[str, dict[str, Any]]:
        """The job of this name, or the one that was begun last; and what it is.

        Raises:
            UsageError: there is none.
        """
        rows = self._file.read("SELECT name, job FROM jobs ORDER BY changed DESC")
        found = [row for row in rows if name in (None, row[0])]
        if not found:
            what = "there is no batch yet" if name is None else f"there is no batch that writes {name}"
            known = f"there are: {', '.join(row[0] for row in rows[:5])}" if rows else None
            raise UsageError(what, hint=known or "`readthrough batch run FOLDER --out FILE` makes one")
        return found[0][0], json.loads(found[0][1])

    def known(self, job: str) -> dict[str, tuple[str, int, int]]:
        """Content, size and time of the last change of the files that were seen before, by path."""
        query = "SELECT path, content, size_bytes, changed_ns FROM documents WHERE job = ?"
        return {path: (content, size, changed) for path, content, size, changed in self._file.read(query, job)}

    def enter(self, job: str, found: Iterable[Found], recipe: Callable[[Found], str]) -> Changes:
        """Bring the documents to what was `found`; `recipe` says what is to become of each.

        A document whose recipe is another than before waits again, whatever came of it; one that is gone keeps its
        answers, for when it comes back.
        """
        new = changed = gone = 0
        with self._file.write() as db:
            query = "SELECT path, recipe, state FROM documents WHERE job = ?"
            unseen = {path: (wanted, state) for path, wanted, state in db.execute(query, (job,)).fetchall()}
            for file in found:
                wanted = recipe(file)
                before = unseen.pop(file.path, None)
                if before is not None and before[0] == wanted and before[1] != "gone":
                    continue
                new, changed = (new + 1, changed) if before is None else (new, changed + 1)
                db.execute("DELETE FROM documents WHERE job = ? AND path = ?", (job, file.path))
                columns = "job, path, content, size_bytes, changed_ns, place, recipe, state"
                values = (job, file.path, file.content, file.size_bytes, file.changed_ns, file.head.hex(), wanted)
                db.execute(f"INSERT INTO documents ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting')", values)
            for path, (_, state) in unseen.items():
                gone += state != "gone"
                left = "UPDATE documents SET state = 'gone', worker = NULL WHERE job = ? AND path = ?"
                db.execute(left, (job, path))
        return Changes(new, changed, gone)

    def claim(self, job: str, worker: str, lease_seconds: float = LEASE_SECONDS) -> Claim | None:
        """Lease the next document to `worker`; None where none is free. The folder as a whole waits for all of them."""
        now = time.time()
        ended, waiting = "state = 'running' AND lease_until < ?", "state = 'waiting'"
        others = f"path != '{WHOLE}' AND state IN ('waiting', 'running')"
        held = "state = 'running', attempts = attempts + 1, tries = tries + 1, worker = ?, lease_until = ?"
        with self._file.write() as db:
            row = (
                self._first(db, f"path != '{WHOLE}' AND {ended}", job, now)
                or self._first(db, f"path != '{WHOLE}' AND {waiting}", job)
                or self._first(db, f"path = '{WHOLE}' AND ({waiting} OR ({ended}))", job, now)
            )
            if row is None or (row[0] == WHOLE and self._any(db, job, others)):
                return None
            values = (worker, now + lease_seconds, job, row[0])
            db.execute(f"UPDATE documents SET {held} WHERE job = ? AND path = ?", values)
        return Claim(*row)

    def _first(self, db: Any, where: str, *values: Any) -> Any:
        """The first document to claim; the index of places leads to it, however many there are."""
        columns = "path, content, attempts + 1, tries + 1, steps"
        query = f"SELECT {columns} FROM documents WHERE job = ? AND {where} ORDER BY place, path LIMIT 1"
        return db.execute(query, values).fetchone()

    def _any(self, db: Any, job: str, where: str) -> bool:
        query = f"SELECT 1 FROM documents WHERE job = ? AND {where} LIMIT 1"
        return db.execute(query, (job,)).fetchone() is not None

    def renew(self, worker: str, lease_seconds: float = LEASE_SECONDS) -> None:
        """Hold on to all that `worker` has."""
        with self._file.write() as db:
            db.execute("UPDATE documents SET lease_until = ? WHERE worker = ?", (time.time() + lease_seconds, worker))

    def holders(self, job: str) -> list[str]:
        """The workers that hold documents."""
        query = "SELECT DISTINCT worker FROM documents WHERE job = ? AND state = 'running'"
        return [str(worker) for (worker,) in self._file.read(query, job)]

    def expire(self, worker: str) -> None:
        """End the leases of a worker that is known to be dead."""
        with self._file.write() as db:
            db.execute("UPDATE documents SET lease_until = 0 WHERE worker = ? AND state = 'running'", (worker,))

    def forward(self, job: str, path: str, steps: int) -> None:
        """Note that a document has come to `steps`: the tries before this one were not for nothing."""
        with self._file.write() as db:
            db.execute("UPDATE documents SET tries = 1, steps = ? WHERE job = ? AND path = ?", (steps, job, path))

    def leave(self, job: str, worker: str, path: str, state: State, error: dict[str, Any] | None = None) -> None:
        """Give a document back, in the state it is in now; what another worker holds by now stays as it is."""
        left = "state = ?, error = ?, error_type = ?, worker = NULL, lease_until = NULL"
        tries = ", tries = 0" if state in ("waiting", "done") else ""
        values = (state, _json(error), _type(error), job, path, worker)
        with self._file.write() as db:
            db.execute(f"UPDATE documents SET {left}{tries} WHERE job = ? AND path = ? AND worker = ?", values)

    def keep(self, job: str, result: Result) -> None:
        """Keep a result, in place of the one that the work had."""
        row = (job, result.path, result.work, result.recipe, result.state, result.run)
        said = (_json(result.answer), _json(result.error), _type(result.error), result.finished)
        with self._file.write() as db:
            which = (job, result.path, result.work)
            db.execute("DELETE FROM results WHERE job = ? AND path = ? AND work = ?", which)
            db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *said))

    def results(self, job: str, path: str) -> dict[str, Result]:
        """The results of a document, by work."""
        rows = self._file.read(f"SELECT {_RESULT} FROM results WHERE job = ? AND path = ?", job, path)
        return {row[1]: _result(row) for row in rows}

    def twin(self, recipe: str) -> Result | None:
        """An answer of the same recipe: of another document with the same content, or of another batch."""
        rows = self._file.read(f"SELECT {_RESULT} FROM results WHERE recipe = ? AND state = 'done' LIMIT 1", recipe)
        return _result(rows[0]) if rows else None

    def documents(self, job: str) -> Iterator[Row]:
        """The documents that are there, in the order of their paths."""
        query = (
            "SELECT path, state, attempts, error FROM documents "
            f"WHERE job = ? AND state != 'gone' AND path > ? ORDER BY path LIMIT {_ROWS}"
        )
        rows = self._file.read(query, job, "")
        while rows:
            for path, state, attempts, error in rows:
                yield Row(path, state, attempts, _value(error))
            rows = self._file.read(query, job, rows[-1][0])

    def waiting(self, job: str) -> list[tuple[str, int]]:
        """Path and size in bytes of the documents that wait."""
        query = "SELECT path, size_bytes FROM documents WHERE job = ? AND state = 'waiting'"
        return [(path, size) for path, size in self._file.read(query, job)]

    def counts(self, job: str, whole: bool = True) -> dict[str, int]:
        """How many documents are in each state, the folder as a whole among them where `whole`."""
        but = "" if whole else f" AND path != '{WHOLE}'"
        query = f"SELECT state, count(*) FROM documents WHERE job = ? AND state != 'gone'{but} GROUP BY state"
        return dict(self._file.read(query, job))

    def failed_results(self, job: str) -> int:
        """How many answers failed, or were stopped by a budget, of documents that are there."""
        query = (
            "SELECT count(*) FROM results JOIN documents USING (job, path) "
            "WHERE job = ? AND documents.state != 'gone' AND results.state IN ('failed', 'stopped')"
        )
        return int(self._file.read(query, job)[0][0])

    def retry(self, job: str, kinds: Sequence[str] = ()) -> int:
        """Let documents wait again that failed, or of which an answer did or was stopped; returns how many.

        `kinds`: of those that failed, only where the error is of one of these types.
        """
        which = f" AND error_type IN ({', '.join('?' * len(kinds))})" if kinds else ""
        with self._file.write() as db:
            failed = f"FROM results WHERE job = ? AND state = 'failed'{which}"
            paths = {path for (path,) in db.execute(f"SELECT path {failed}", (job, *kinds)).fetchall()}
            db.execute(f"DELETE {failed}", (job, *kinds))
            stopped = "SELECT path FROM results WHERE job = ? AND state = 'stopped'"
            paths |= {path for (path,) in db.execute(stopped, (job,)).fetchall()}
            lost = f"SELECT path FROM documents WHERE job = ? AND state IN ('failed', 'aside'){which}"
            paths |= {path for (path,) in db.execute(lost, (job, *kinds)).fetchall()}
            for path in paths:
                db.execute(
                    "UPDATE documents SET state = 'waiting', attempts = 0, tries = 0, error = NULL, error_type = NULL "
                    "WHERE job = ? AND path = ? AND state NOT IN ('running', 'gone')",
                    (job, path),
                )
        return len(paths)

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._file.close()


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _value(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _type(error: dict[str, Any] | None) -> str | None:
    return None if error is None else error["type"]


def _result(row: tuple[Any, ...]) -> Result:
    path, work, recipe, state, run, answer, error, finished = row
    return Result(path, work, recipe, state, run, _value(answer), _value(error), finished)
