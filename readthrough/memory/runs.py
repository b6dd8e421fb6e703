"""The run log: what each run was asked, every step it took, the texts it made (found by their hash), its answer."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from readthrough.errors import LibraryError, UsageError
from readthrough.memory import replies
from readthrough.memory.sqlite_file import SqliteFile
from readthrough.types import Usage, can_go_on

_TABLES = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, started REAL NOT NULL, finished REAL, question TEXT NOT NULL, choices TEXT,
        workflow TEXT NOT NULL, model TEXT NOT NULL, recipe TEXT NOT NULL DEFAULT '{}', answer TEXT)""",
    """CREATE TABLE steps (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, number INTEGER NOT NULL, node TEXT NOT NULL,
        step TEXT NOT NULL, PRIMARY KEY (run, number, node)) WITHOUT ROWID""",
    "CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE run_texts (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, hash TEXT NOT NULL REFERENCES texts,
        PRIMARY KEY (run, hash)) WITHOUT ROWID""",
    "CREATE INDEX run_texts_hash ON run_texts (hash)",
)
_RUN = "SELECT id, started, finished, question, choices, workflow, model, recipe, answer FROM runs"

_KEY = "json_extract(recipe, '$.key')"

_HOLDS = r"""WHERE question LIKE ? ESCAPE '\' OR json_extract(answer, '$.answer') LIKE ? ESCAPE '\' OR EXISTS (
    SELECT 1 FROM run_texts JOIN texts USING (hash) WHERE run = runs.id AND text LIKE ? ESCAPE '\')"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are seconds since 1970; `recipe` is what it was made of (see `readthrough.agents.runs.recipe`)."""

    id: str
    started: float
    finished: float | None
    question: str
    choices: tuple[str, ...] | None
    workflow: str
    model: str
    recipe: dict[str, Any]
    answer: dict[str, Any] | None

    @property
    def state(self) -> Literal["done", "stopped", "open"]:
        """Whether it has its answer, was stopped and can go on, or has none: it is at work, or was killed."""
        if self.answer is None:
            return "open"
        return "stopped" if can_go_on(self.answer["stopped"]) else "done"


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a run's graph.

    Attributes:
        number: the superstep, from 1; a step that is repeated after a kill takes its own place again.
        node: the node's name.
        seconds: how long it took.
        usage: the calls and tokens it took.
        spans: what it read, `(document id, start, end)`, neighbours joined.
        read: SHA-256 of the text it read, None where it read none.
        texts: hashes of the texts it made.
        decisions: the options and probabilities of each choice it asked the model for.
        said: hashes of what it wrote for the user to read, each with its prompt (`Services.note_said`).
    """

    number: int
    node: str
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    spans: tuple[tuple[str, int, int], ...] = ()
    read: str | None = None
    texts: tuple[str, ...] = ()
    decisions: tuple[dict[str, Any], ...] = ()
    said: tuple[str, ...] = ()


def _create(connection: sqlite3.Connection) -> None:
    old = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
    if old:  # the log of the first version had no steps, and texts of no run
        connection.execute("ALTER TABLE runs RENAME TO runs_0")
        connection.execute("DROP TABLE texts")
    for statement in _TABLES:
        connection.execute(statement)
    if old:
        columns = "id, started, finished, question, workflow, model, answer"
        connection.execute(f"INSERT INTO runs ({columns}) SELECT {columns} FROM runs_0")
        connection.execute("DROP TABLE runs_0")


def _add_calls(connection: sqlite3.Connection) -> None:
    connection.execute(
        """CREATE TABLE calls (
            run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, number INTEGER NOT NULL, node TEXT NOT NULL,
            call TEXT NOT NULL, reply TEXT NOT NULL, PRIMARY KEY (run, number, node, call)) WITHOUT ROWID"""
    )


def _index_keys(connection: sqlite3.Connection) -> None:
    """What tells a question that was asked before (see `readthrough.agents.runs.recipe.key_of`)."""
    connection.execute(f"CREATE INDEX runs_key ON runs ({_KEY})")


def _add_said(connection: sqlite3.Connection) -> None:
    """Prompts lie apart from notes: who looks for a word in his notes does not want every text that was read."""
    connection.execute(
        """CREATE TABLE said (
            run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, hash TEXT NOT NULL, said TEXT NOT NULL,
            PRIMARY KEY (run, hash)) WITHOUT ROWID"""
    )


def text_hash(text: str) -> str:
    """The SHA-256 of a text, under which the log keeps it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def new_run() -> str:
    """The id of a run that is to be begun; it sorts by time."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:8]


_CALLS_A_STEP = 1_000


class RunLog:
    """One SQLite file; `path` None keeps the log in memory. Safe to share by threads and processes.

    Attributes:
        replies: what models said, for runs that ask the same again.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the log, making it where there is none.

        Raises:
            LibraryError: the file cannot be opened as a run log.
        """
        self.path = path
        self._file = SqliteFile(path, (_create, _add_calls, _index_keys, replies.add_table, _add_said), "run log")
        self.replies = replies.KeptReplies(self._file)

    def start(
        self,
        question: str,
        workflow: str,
        model: str,
        choices: Sequence[str] | None = None,
        recipe: dict[str, Any] | None = None,
        run: str = "",
    ) -> str:
        """Note the beginning of a run; returns its id, `run` where that is given."""
        run = run or new_run()
        options = None if choices is None else json.dumps(list(choices), ensure_ascii=False)
        row = (run, time.time(), question, options, workflow, model, json.dumps(recipe or {}))
        columns = "id, started, question, choices, workflow, model, recipe"
        with self._file.write() as db:
            db.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return run

    def amend(self, run: str, name: str, value: Any) -> None:
        """Note another value of one name in the recipe of a run."""
        with self._file.write() as db:
            row = (f"$.{name}", json.dumps(value), run)
            db.execute("UPDATE runs SET recipe = json_set(recipe, ?, json(?)) WHERE id = ?", row)

    def finish(self, run: str, answer: dict[str, Any]) -> None:
        """Note the answer of a run (`Answer.to_dict()`)."""
        with self._file.write() as db:
            db.execute("DELETE FROM calls WHERE run = ?", (run,))
            row = (time.time(), json.dumps(answer, ensure_ascii=False), run)
            db.execute("UPDATE runs SET finished = ?, answer = ? WHERE id = ?", row)

    def log(self, run: str, step: Step) -> None:
        """Note a step; the same step of a run that was killed is replaced."""
        values = asdict(step)
        values.pop("number"), values.pop("node")
        text = json.dumps(values, ensure_ascii=False)
        with self._file.write() as db:
            db.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)", (run, step.number, step.node, text))
            # Not yet those of this step: a kill may still come between here and its checkpoint.
            db.execute("DELETE FROM calls WHERE run = ? AND number < ?", (run, step.number))

    def progress(self, run: str) -> int:
        """A number that grows with every step of a run, and with every reply of an endpoint within a step."""
        query = "SELECT (SELECT count(*) FROM steps WHERE run = ?), (SELECT count(*) FROM calls WHERE run = ?)"
        steps, calls = self._file.read(query, run, run)[0]
        return int(_CALLS_A_STEP * steps + min(calls, _CALLS_A_STEP - 1))

    def calls(self, run: str, number: int, node: str) -> Calls:
        """The replies of endpoints that a step got, until the next step is noted."""
        return Calls(self._file, (run, number, node))

    def put(self, run: str, text: str) -> str:
        """Keep a text of a run; returns its SHA-256, under which `get` finds it."""
        digest = text_hash(text)
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, text))
            db.execute("INSERT OR IGNORE INTO run_texts VALUES (?, ?)", (run, digest))
        return digest

    def get(self, digest: str) -> str:
        """The text that `put` returned `digest` for.

        Raises:
            LibraryError: no such text is in the log.
        """
        rows = self._file.read("SELECT text FROM texts WHERE hash = ?", digest)
        if not rows:
            raise LibraryError(f"the run log has no text {digest[:12]}", path=str(self.path or ""))
        return str(rows[0][0])

    def put_said(self, run: str, said: str) -> str:
        """Keep what a run wrote for the user to read, with its prompt; returns the hash under which `said` finds it."""
        digest = text_hash(said)
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO said VALUES (?, ?, ?)", (run, digest, said))
        return digest

    def said(self, run: str, digest: str) -> str:
        """The text that `put_said` returned `digest` for.

        Raises:
            LibraryError: no such text is in the log.
        """
        rows = self._file.read("SELECT said FROM said WHERE run = ? AND hash = ?", run, digest)
        if not rows:
            raise LibraryError(f"the run log has no prompt {digest[:12]}", path=str(self.path or ""))
        return str(rows[0][0])

    def answer(self, run: str) -> dict[str, Any] | None:
        """The answer of a finished run, or None."""
        rows = self._file.read("SELECT answer FROM runs WHERE id = ?", run)
        return json.loads(rows[0][0]) if rows and rows[0][0] else None

    def runs(self, most: int | None = None, text: str = "") -> list[Run]:
        """The latest runs, newest first, whose question, answer or notes hold `text`."""
        like = f"%{_plain(text)}%"
        where, holds = ("", ()) if not text else (_HOLDS, (like, like, like))
        order = "ORDER BY started DESC, id DESC LIMIT ?"
        return [_run(row) for row in self._file.read(f"{_RUN} {where} {order}", *holds, -1 if most is None else most)]

    def has(self, run: str) -> bool:
        """Whether there is a run with just this id."""
        return bool(self._file.read("SELECT 1 FROM runs WHERE id = ?", run))

    def same(self, key: str) -> Run | None:
        """The newest run whose recipe has this key."""
        rows = self._file.read(f"{_RUN} WHERE {_KEY} = ? ORDER BY started DESC, id DESC LIMIT 1", key)
        return _run(rows[0]) if rows else None

    def find(self, name: str) -> Run:
        """The run with the id `name`, or whose id begins or ends so; `last` is the newest.

        Raises:
            UsageError: no run, or more than one, is named so.
        """
        if name == "last":
            found = self.runs(most=1)
        else:
            found = [_run(row) for row in self._file.read(f"{_RUN} WHERE id = ?", name)]
        if not found and name not in ("", "last"):
            plain = _plain(name)
            where = r"WHERE id LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\'"
            found = [_run(row) for row in self._file.read(f"{_RUN} {where}", plain + "%", "%" + plain)]
        if len(found) != 1:
            what = f"no run is named {name!r}" if not found else f"{len(found)} runs are named {name!r}"
            raise UsageError(what, hint="`readthrough runs list` shows them")
        return found[0]

    def steps(self, run: str) -> list[Step]:
        """The steps of a run, in order."""
        rows = self._file.read("SELECT number, node, step FROM steps WHERE run = ? ORDER BY number, node", run)
        return [_step(*row) for row in rows]

    def delete(self, runs: Sequence[str]) -> None:
        """Delete runs, and the texts that no other run made."""
        with self._file.write() as db:
            db.executemany("DELETE FROM runs WHERE id = ?", [(run,) for run in runs])
            db.execute("DELETE FROM texts WHERE NOT EXISTS (SELECT 1 FROM run_texts WHERE hash = texts.hash)")

    @contextmanager
    def hold(self, run: str) -> Iterator[None]:
        """While it lasts no other process may work on this run, or prune it; a killed process lets go of it.

        Raises:
            UsageError: another process is at it.
        """
        if self.path is None:
            yield
            return
        lock = self._lock_file(run)
        with self._file.guard():
            lock.parent.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"another process is at work on run {run}", hint="wait for it to end") from None
            yield
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def is_held(self, run: str) -> bool:
        """Whether some process is at work on this run."""
        if self.path is None or not self._lock_file(run).exists():
            return False
        try:
            with self.hold(run):
                return False
        except UsageError:
            return True

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._file.close()

    def _lock_file(self, run: str) -> Path:
        return (self.path or Path()).parent / "running" / f"{run}.lock"


@dataclass(frozen=True)
class Calls:
    """The replies of endpoints within one step, for when it is repeated (`readthrough.models.journal.Replies`)."""

    file: SqliteFile
    step: tuple[str, int, str]

    def find(self, call: str) -> dict[str, Any] | None:
        """The reply that is kept of a call."""
        query = "SELECT reply FROM calls WHERE run = ? AND number = ? AND node = ? AND call = ?"
        rows = self.file.read(query, *self.step, call)
        return json.loads(rows[0][0]) if rows else None

    def keep(self, call: str, reply: dict[str, Any]) -> None:
        """Keep the reply of a call."""
        with self.file.write() as db:
            values = (*self.step, call, json.dumps(reply, ensure_ascii=False))
            db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?)", values)


def _run(row: tuple[Any, ...]) -> Run:
    identity, started, finished, question, choices, workflow, model, recipe, answer = row
    options = tuple(json.loads(choices)) if choices else None
    said = json.loads(answer) if answer else None
    return Run(identity, started, finished, question, options, workflow, model, json.loads(recipe), said)


def _step(number: int, node: str, text: str) -> Step:
    values = json.loads(text)
    values["usage"] = Usage(**values["usage"])
    values["spans"] = tuple((document, start, end) for document, start, end in values["spans"])
    for name in ("texts", "decisions", "said"):
        values[name] = tuple(values.get(name, ()))
    return Step(number, node, **values)


def _plain(text: str) -> str:
    """`text` as LIKE takes it for itself."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
