"""Opens what a batch works with: its table, and the library, models and run log that all workers share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from readthrough.batch.answering import Tools
from readthrough.batch.table import TABLES, Table
from readthrough.config import Settings
from readthrough.memory.postgres_file import PostgresFile
from readthrough.memory.sqlite_file import SqliteFile
from readthrough.models.base import ModelBackend
from readthrough.models.gathering import Gathering
from readthrough.models.open import backend_of
from readthrough.opening import Models, open_library, open_runs
from readthrough.types import Event

FILE = "batch.sqlite"
WHAT = "table of batches"

QUESTIONS_AT_ONCE = 8
"""Of a local model. Replies written side by side take little longer than one; what they read takes as long as ever."""


class _Gathered(Models):
    """Models that are here take the calls of several questions as one batch."""

    def _open(self, spec: Any) -> ModelBackend:
        return Gathering(super()._open(spec))


def open_table(settings: Settings) -> Table:
    """The table of the settings' home folder, or of their database.

    Raises:
        LibraryError: it cannot be used.
        MissingExtraError: what a database takes is not installed.
    """
    if settings.database is not None:
        database = PostgresFile(settings.database, (TABLES,), WHAT)
        return Table(database, database.now)
    return Table(SqliteFile(settings.home / FILE, (_create,), WHAT))


@contextmanager
def opened(settings: Settings, on_event: Callable[[Event], None] | None = None) -> Iterator[Tools]:
    """Library, models and run log; the settings' model is opened at once, and all are closed in the end.

    Raises:
        ReadthroughError: one of them cannot be opened.
    """
    library = open_library(settings)
    local = backend_of(settings.model) == "local"
    runs, models = open_runs(settings), (_Gathered if local else Models)(settings, None, on_event)
    try:
        models.get(settings.model)
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "readthrough-questions") if local else nullcontext() as pool:
            yield Tools(library, models, runs, settings, pool)
    finally:
        models.close()
        runs.close()
        library.close()


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES:
        connection.execute(statement)
