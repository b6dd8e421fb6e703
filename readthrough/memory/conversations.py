"""Conversations about texts: every turn (episodic memory), and where each sentence of an answer stands (semantic).

A turn is noted when it is asked, and again when it is answered, with the facts of its answer, in one transaction: a
process that is killed loses nothing that was answered. Turns are found again by `recall`, which can be made anew from
this file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readthrough.catalogue import nearest
from readthrough.errors import UsageError
from readthrough.memory.sqlite_file import SqliteFile
from readthrough.types import Document

FILE = "conversations.sqlite"
"""The file in the home folder."""

TURN = "turn"
"""The kind of the documents that turns are."""

_TABLES = (
    """CREATE TABLE sessions (
        name TEXT PRIMARY KEY, started REAL NOT NULL, used REAL NOT NULL, paths TEXT NOT NULL, folder TEXT NOT NULL,
        documents TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE turns (
        session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, number INTEGER NOT NULL, asked TEXT NOT NULL,
        started REAL NOT NULL, finished REAL, question TEXT, shares TEXT, from_log INTEGER, answer TEXT,
        PRIMARY KEY (session, number)) WITHOUT ROWID""",
    # a sentence of a turn's answer, as a span of the answer, and a place in the texts that it stands on
    """CREATE TABLE facts (
        session TEXT NOT NULL, turn INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
        document TEXT NOT NULL, source_start INTEGER NOT NULL, source_stop INTEGER NOT NULL,
        FOREIGN KEY (session, turn) REFERENCES turns ON DELETE CASCADE)""",
    "CREATE INDEX facts_turn ON facts (session, turn)",
)


@dataclass(frozen=True, slots=True)
class Read:
    """What a conversation is about: the paths as they were given, the folder they start from, the documents by path."""

    paths: tuple[str, ...] = ()
    folder: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation. Times are seconds since 1970; `read` is what it was about when it was last used."""

    name: str
    started: float
    used: float
    read: Read
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer.

    Attributes:
        number: its place in the conversation, from 1.
        asked: the question as it was typed.
        question: the question as it was answered; another one where that was needed to understand it alone.
        shares: how probable it was that the question is about the texts, a follow-up, or about the conversation.
        answer: `Answer.to_dict()`; None where the turn was interrupted, or is at work.
        from_log: whether the answer is that of an earlier run of the same question.
    """

    session: str
    number: int
    asked: str
    started: float
    finished: float | None = None
    question: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    from_log: bool = False
    answer: Mapping[str, Any] | None = None

    @property
    def said(self) -> str:
        """The text of the answer, empty where there is none."""
        return str(self.answer["answer"]) if self.answer is not None else ""

    @property
    def abstained(self) -> bool:
        """Whether the answer is that the texts do not say."""
        return self.answer is not None and bool(self.answer["abstained"])

    @property
    def document(self) -> Document:
        """The turn as a document, which answers about the conversation quote."""
        path = f"chat:{self.session}#{self.number}"
        text = f"{self._heading}{self.said}"
        return Document(
            hashlib.sha256(f"{path}\n{text}".encode("utf-8", "surrogatepass")).hexdigest(), path, text, TURN
        )

    def span_in_answer(self, start: int, end: int) -> tuple[int, int]:
        """A span of the turn's document as a span of its answer; empty where it lies before the answer."""
        before = len(self._heading)
        return max(0, start - before), max(0, end - before)

    @property
    def _heading(self) -> str:
        # In the words of questions about it: of four (`what did you tell me about ...`), the small model found the
        # answer stated in all with these words, and in two with `The reader asked`, `The answer was`.
        return f"Turn {self.number}. You asked me: {self.question}\nI told you: "


@dataclass(frozen=True, slots=True)
class Fact:
    """The span `[start, end)` of an answer, and the place in a document (by its id) that it stands on."""

    start: int
    end: int
    document: str
    source_start: int
    source_end: int


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


class Conversations:
    """One SQLite file; `path` None keeps them in memory. Safe to share by threads and processes."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, making it where there is none.

        Raises:
            LibraryError: it cannot be opened as a file of conversations.
        """
        self._file = SqliteFile(path, (_create,), "file of conversations")

    def open(self, name: str | None, read: Read) -> Session:
        """The conversation `name` as it was left, or a new one; without a name, a new one with a name of its own."""
        now = time.time()
        name = name or time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + uuid.uuid4().hex[:4]
        with self._file.write() as db:
            db.execute("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (name, now, now, *_columns(read)))
        return self._sessions("WHERE name = ?", name)[0]

    def find(self, name: str) -> Session:
        """The conversation `name`; `last` is the one that was used last.

        Raises:
            UsageError: there is none.
        """
        found = self.sessions()[:1] if name == "last" else self._sessions("WHERE name = ?", name)
        if not found:
            near = nearest(name, [session.name for session in self.sessions()])
            hint = f"did you mean {near!r}?" if near else "`readthrough chat --list` shows them"
            raise UsageError(f"no conversation is named {name!r}", hint=hint)
        return found[0]

    def sessions(self) -> list[Session]:
        """All conversations, last used first."""
        return self._sessions("ORDER BY used DESC, name DESC")

    def turns(self, session: str) -> list[Turn]:
        """The turns of a conversation, in order, those without an answer too."""
        columns = "number, asked, started, finished, question, shares, from_log, answer"
        rows = self._file.read(f"SELECT {columns} FROM turns WHERE session = ? ORDER BY number", session)
        return [
            Turn(
                session,
                *(number, asked, started, finished, question or asked),
                shares=json.loads(shares) if shares else {},
                from_log=bool(from_log),
                answer=json.loads(answer) if answer else None,
            )
            for number, asked, started, finished, question, shares, from_log, answer in rows
        ]

    def begin(self, session: str, asked: str, read: Read) -> Turn:
        """Note a question; returns its turn, whose number no other process gets.

        Raises:
            UsageError: the conversation was deleted meanwhile.
        """
        now = time.time()
        with self._file.write() as db:
            changed = db.execute(
                "UPDATE sessions SET used = ?, paths = ?, folder = ?, documents = ? WHERE name = ?",
                (now, *_columns(read), session),
            )
            if not changed.rowcount:
                raise UsageError(f"the conversation {session!r} was deleted", hint="begin another")
            select = "SELECT coalesce(max(number), 0) + 1 FROM turns WHERE session = ?"
            number = int(db.execute(select, (session,)).fetchone()[0])
            db.execute(
                "INSERT INTO turns (session, number, asked, started) VALUES (?, ?, ?, ?)",
                (session, number, asked, now),
            )
        return Turn(session, number, asked, now, question=asked)

    def finish(self, turn: Turn, facts: Sequence[Fact]) -> None:
        """Note the answer of a turn, with the facts in it."""
        shares, answer = (json.dumps(value, ensure_ascii=False) for value in (turn.shares, turn.answer))
        values = (time.time(), turn.question, shares, int(turn.from_log), answer, turn.session, turn.number)
        with self._file.write() as db:
            changed = db.execute(
                """UPDATE turns SET finished = ?, question = ?, shares = ?, from_log = ?, answer = ?
                WHERE session = ? AND number = ?""",
                values,
            )
            rows = [
                (turn.session, turn.number, fact.start, fact.end, fact.document, fact.source_start, fact.source_end)
                for fact in facts
            ]
            if changed.rowcount:  # not deleted meanwhile
                db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def facts(self, session: str, turn: int) -> list[Fact]:
        """What the answer of a turn stands on, in its order."""
        columns = "start, stop, document, source_start, source_stop"
        rows = self._file.read(
            f"SELECT {columns} FROM facts WHERE session = ? AND turn = ? ORDER BY rowid", session, turn
        )
        return [Fact(*row) for row in rows]

    def delete(self, session: str) -> None:
        """Delete a conversation with its turns; their runs stay in the run log.

        Raises:
            UsageError: there is none of this name.
        """
        name = self.find(session).name
        with self._file.write() as db:
            db.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._file.close()

    def _sessions(self, where: str, *values: str) -> list[Session]:
        count = "(SELECT count(*) FROM turns WHERE session = name)"
        rows = self._file.read(
            f"SELECT name, started, used, paths, folder, documents, {count} FROM sessions {where}", *values
        )
        return [
            Session(name, started, used, Read(tuple(json.loads(paths)), folder, json.loads(documents)), turns)
            for name, started, used, paths, folder, documents, turns in rows
        ]


def _columns(read: Read) -> tuple[str, str, str]:
    return json.dumps(list(read.paths)), read.folder, json.dumps(dict(read.documents))
