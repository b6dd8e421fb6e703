"""Replies of models, kept by the hash of what was asked: what an earlier run has read need not be read again.

After an edit of a document the calls up to the edit are the same ones, prompt by prompt, so that only what comes after
it is read again. A reply goes with the last run that it served.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readthrough.memory.sqlite_file import SqliteFile


@dataclass(frozen=True)
class KeptReplies:
    """The kept replies of a run log."""

    file: SqliteFile

    def find(self, calls: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The replies that are kept of some calls, by the hash of each."""
        query = "SELECT call, reply FROM replies WHERE call IN (SELECT value FROM json_each(?))"
        return {call: json.loads(reply) for call, reply in self.file.read(query, json.dumps(list(calls)))}

    def keep(self, run: str, used: Sequence[str], new: Mapping[str, dict[str, Any]]) -> None:
        """Keep the replies of new calls, and those that served again, as long as this run is kept."""
        with self.file.write() as db:
            given = [(call, run, json.dumps(reply, ensure_ascii=False)) for call, reply in new.items()]
            db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", given)
            db.execute(
                "UPDATE replies SET run = ? WHERE call IN (SELECT value FROM json_each(?))",
                (run, json.dumps(list(used))),
            )


def add_table(connection: sqlite3.Connection) -> None:
    """The table of kept replies, in a run log."""
    connection.execute(
        """CREATE TABLE replies (
            call TEXT PRIMARY KEY, run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, reply TEXT NOT NULL)
            WITHOUT ROWID"""
    )
    connection.execute("CREATE INDEX replies_run ON replies (run)")
