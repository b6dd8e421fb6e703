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
from readthrough.batch.job import WHOLE, digest
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
        steps BIGINT NOT NULL DEFAULT 0, worker TEXT, lease_until DOUBLE PRECISION, error TEXT, error_type TEXT,
        PRIMARY KEY (job, path))""",
    "CREATE INDEX documents_place ON documents (job, state, place, path)",
    """CREATE TABLE results (
        job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, path TEXT NOT NULL, work TEXT NOT NULL,
        recipe TEXT NOT NULL, state TEXT NOT NULL, run TEXT NOT NULL, answer TEXT, error TEXT, error_type TEXT,
        finished DOUBLE PRECISION, current INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (job, path, work))""",
    "CREATE INDEX results_recipe ON results (recipe)",
)
"""For SQLite and for Postgres alike. `documents.recipe` sums up those of all that is wanted of it; a result is
`current` while its own is among them."""

_RESULT = "path, work, recipe, state, run, answer, error, finished, current"
_ROWS = 500
_CLAIM = "SELECT path, content, recipe, attempts + 1, tries + 1, steps FROM documents"
_HELD = "job = ? AND path = ? AND worker = ?"
_ORDER = "ORDER BY place, path LIMIT 1"


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
    recipe: str
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
        current: it is an answer to what is wanted now, of the document as it is now.
    """

    path: str
    work: str
    recipe: str
    state: ResultState
    run: str = ""
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    finished: float | None = None
    current: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A document as the table has it."""

    path: str
    state: State
    attempts: int
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document that waits."""

    path: str
    content: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A document, or (where `work` is not empty) one answer, that failed or was stopped."""

    path: str
    state: str
    work: str
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look at the folder found against the table: counts of documents."""

    new: int = 0
    changed: int = 0
    gone: int = 0


class Table:
    """The table of all batches; safe to share by threads, processes and, on a server, machines."""

    def __init__(self, file: File, now: Callable[[], float] = time.time) -> None:
        """`now` is the clock that the leases run by, in seconds since 1970: one for all who share the file."""
        self._file = file
        self._now = now

    def register(self, job: str, described: dict[str, Any]) -> None:
        """Note a job, or what it is now."""
        update = "ON CONFLICT (name) DO UPDATE SET job = excluded.job, changed = excluded.changed"
        with self._file.write() as db:
            db.execute(f"INSERT INTO jobs VALUES (?, ?, ?) {update}", (job, _json(described), self._now()))

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

    def enter(self, job: str, found: Iterable[Found], recipes: Callable[[str, str], dict[str, str]]) -> Changes:
        """Bring the documents to what was `found`; `recipes` gives, by path and content, what is wanted of each.

        A document of which something else is wanted than before waits again, whatever came of it; one that is gone
        keeps its answers, for when it comes back.
        """
        new = changed = gone = 0
        with self._file.write() as db:
            query = "SELECT path, recipe, state, size_bytes, changed_ns FROM documents WHERE job = ?"
            unseen = {path: before for path, *before in db.execute(query, (job,)).fetchall()}
            for file in found:
                wanted = recipes(file.path, file.content)
                recipe = digest([file.content, wanted])
                before = unseen.pop(file.path, None)
                if before is not None and before[0] == recipe and before[1] != "gone":
                    if before[2:] != [file.size_bytes, file.changed_ns]:
                        seen = "UPDATE documents SET size_bytes = ?, changed_ns = ? WHERE job = ? AND path = ?"
                        db.execute(seen, (file.size_bytes, file.changed_ns, job, file.path))
                    continue
                new, changed = (new + 1, changed) if before is None else (new, changed + 1)
                db.execute("DELETE FROM documents WHERE job = ? AND path = ?", (job, file.path))
                columns = "job, path, content, size_bytes, changed_ns, place, recipe, state"
                values = (job, file.path, file.content, file.size_bytes, file.changed_ns, file.head.hex(), recipe)
                db.execute(f"INSERT INTO documents ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting')", values)
                self._mark(db, job, file.path, wanted)
            for path, (_, state, *_) in unseen.items():
                gone += state != "gone"
                left = "UPDATE documents SET state = 'gone', worker = NULL WHERE job = ? AND path = ?"
                db.execute(left, (job, path))
        return Changes(new, changed, gone)

    def _mark(self, db: Any, job: str, path: str, wanted: dict[str, str]) -> None:
        """Note which results of a document are of what is wanted now."""
        which = "WHERE job = ? AND path = ?"
        for work, recipe in db.execute(f"SELECT work, recipe FROM results {which}", (job, path)).fetchall():
            current = int(wanted.get(work) == recipe)
            db.execute(f"UPDATE results SET current = ? {which} AND work = ?", (current, job, path, work))

    def claim(self, job: str, worker: str, lease_seconds: float = LEASE_SECONDS) -> Claim | None:
        """Lease the next document to `worker`; None where none is free now.

        What a worker left comes first, one at a time: if it ends the process again, as few others as can be are at
        work beside it. Of documents with the same content one is at work at a time, so that the others can have its
        answers. The folder as a whole waits for all of them.
        """
        now = self._now()
        held = "state = 'running', attempts = attempts + 1, tries = tries + 1, worker = ?, lease_until = ?"
        with self._file.write() as db:
            row = self._left_behind(db, job, worker, now) or self._fresh(db, job, now) or self._whole(db, job, now)
            if row is None:
                return None
            values = (worker, now + lease_seconds, job, row[0])
            db.execute(f"UPDATE documents SET {held} WHERE job = ? AND path = ?", values)
        return Claim(*row)

    def _left_behind(self, db: Any, job: str, worker: str, now: float) -> Any:
        again = "state = 'running' AND worker = ? AND tries > 1 AND lease_until >= ?"
        if db.execute(f"SELECT 1 FROM documents WHERE job = ? AND {again} LIMIT 1", (job, worker, now)).fetchone():
            return None
        where = f"job = ? AND state = 'running' AND lease_until < ? AND path != '{WHOLE}'"
        return db.execute(f"{_CLAIM} WHERE {where} {_ORDER}", (job, now)).fetchone()

    def _fresh(self, db: Any, job: str, now: float) -> Any:
        twins = "SELECT content FROM documents WHERE job = ? AND state = 'running' AND lease_until >= ?"
        where = f"job = ? AND state = 'waiting' AND path != '{WHOLE}' AND content NOT IN ({twins})"
        return db.execute(f"{_CLAIM} WHERE {where} {_ORDER}", (job, job, now)).fetchone()

    def _whole(self, db: Any, job: str, now: float) -> Any:
        others = f"path != '{WHOLE}' AND state IN ('waiting', 'running')"
        if db.execute(f"SELECT 1 FROM documents WHERE job = ? AND {others} LIMIT 1", (job,)).fetchone():
            return None
        free = "(state = 'waiting' OR (state = 'running' AND lease_until < ?))"
        return db.execute(f"{_CLAIM} WHERE job = ? AND path = '{WHOLE}' AND {free}", (job, now)).fetchone()

    def renew(self, worker: str, lease_seconds: float = LEASE_SECONDS) -> None:
        """Hold on to all that `worker` has."""
        with self._file.write() as db:
            db.execute("UPDATE documents SET lease_until = ? WHERE worker = ?", (self._now() + lease_seconds, worker))

    def holders(self, job: str) -> list[str]:
        """The workers that hold documents."""
        query = "SELECT DISTINCT worker FROM documents WHERE job = ? AND state = 'running'"
        return [str(worker) for (worker,) in self._file.read(query, job)]

    def expire(self, worker: str) -> None:
        """End the leases of a worker that is known to be dead."""
        with self._file.write() as db:
            db.execute("UPDATE documents SET lease_until = 0 WHERE worker = ? AND state = 'running'", (worker,))

    def forward(self, job: str, worker: str, path: str, steps: int) -> None:
        """Note that a document has come to `steps`: the tries before this one were not for nothing."""
        with self._file.write() as db:
            values = (steps, job, path, worker)
            db.execute(f"UPDATE documents SET tries = 1, steps = ? WHERE {_HELD}", values)

    def leave(self, job: str, worker: str, path: str, state: State, error: dict[str, Any] | None = None) -> None:
        """Give a document back, in the state it is in now; what another worker holds by now stays as it is."""
        left = "state = ?, error = ?, error_type = ?, worker = NULL, lease_until = NULL"
        tries = ", tries = 0" if state in ("waiting", "done") else ""
        values = (state, _json(error), _type(error), job, path, worker)
        with self._file.write() as db:
            db.execute(f"UPDATE documents SET {left}{tries} WHERE {_HELD}", values)

    def keep(self, job: str, worker: str, result: Result) -> bool:
        """Keep a result, in place of the one that the work had; returns whether `worker` still holds the document.

        Where it does not, nothing is kept: the document is another than it was, or another worker is at it.
        """
        row = (job, result.path, result.work, result.recipe, result.state, result.run)
        said = (_json(result.answer), _json(result.error), _type(result.error), result.finished)
        with self._file.write() as db:
            if db.execute(f"SELECT 1 FROM documents WHERE {_HELD}", (job, result.path, worker)).fetchone() is None:
                return False
            which = (job, result.path, result.work)
            db.execute("DELETE FROM results WHERE job = ? AND path = ? AND work = ?", which)
            db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)", (*row, *said))
        return True

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

    def waiting(self, job: str) -> list[Waiting]:
        """The documents that wait."""
        query = "SELECT path, content, size_bytes FROM documents WHERE job = ? AND state = 'waiting'"
        return [Waiting(*row) for row in self._file.read(query, job)]

    def counts(self, job: str, whole: bool = True) -> dict[str, int]:
        """How many documents are in each state, the folder as a whole among them where `whole`."""
        but = "" if whole else f" AND path != '{WHOLE}'"
        query = f"SELECT state, count(*) FROM documents WHERE job = ? AND state != 'gone'{but} GROUP BY state"
        return dict(self._file.read(query, job))

    def failures(self, job: str) -> list[Failure]:
        """What failed and why, by path: documents as a whole, and answers, also such as a budget stopped."""
        query = (
            "SELECT path, state, '' AS work, error FROM documents WHERE job = ? AND state IN ('failed', 'aside') "
            "UNION ALL SELECT results.path, results.state, work, results.error FROM results "
            "JOIN documents ON documents.job = results.job AND documents.path = results.path WHERE results.job = ? "
            "AND current = 1 AND results.state IN ('failed', 'stopped') "
            "AND documents.state NOT IN ('failed', 'aside', 'gone') ORDER BY path, work"
        )
        rows = self._file.read(query, job, job)
        return [Failure(path, state, work, _value(error)) for path, state, work, error in rows]

    def retry(self, job: str, kinds: Sequence[str] = ()) -> int:
        """Let documents wait again that failed, or of which an answer did or was stopped; returns how many.

        An answer that failed goes on with its run; documents that are being answered are left alone. `kinds`: of what
        failed, only where the error is of such a type.
        """
        which = f" AND error_type IN ({', '.join('?' * len(kinds))})" if kinds else ""
        open_again = "UPDATE results SET state = 'open', error = NULL, error_type = NULL"
        wait_again = "UPDATE documents SET state = 'waiting', attempts = 0, tries = 0, error = NULL, error_type = NULL"
        unfinished = "SELECT path FROM results WHERE job = ? AND current = 1 AND state IN ('open', 'stopped')"
        with self._file.write() as db:
            at_work = "path NOT IN (SELECT path FROM documents WHERE job = ? AND state = 'running')"
            db.execute(f"{open_again} WHERE job = ? AND {at_work} AND state = 'failed'{which}", (job, job, *kinds))
            done = db.execute(f"{wait_again} WHERE job = ? AND state = 'done' AND path IN ({unfinished})", (job, job))
            lost = f"WHERE job = ? AND state IN ('failed', 'aside'){which}"
            return int(done.rowcount + db.execute(f"{wait_again} {lost}", (job, *kinds)).rowcount)

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._file.close()


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)  # in ASCII: a file takes no lone surrogates


def _value(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _type(error: dict[str, Any] | None) -> str | None:
    return None if error is None else error["type"]


def _result(row: tuple[Any, ...]) -> Result:
    path, work, recipe, state, run, answer, error, finished, current = row
    return Result(path, work, recipe, state, run, _value(answer), _value(error), finished, bool(current))
