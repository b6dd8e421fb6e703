"""The checkpoints of runs: LangGraph's SqliteSaver over one file, readable by its owner alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough import runtime  # noqa: F401  strict msgpack must be set before langgraph is imported
from readthrough.memory.database import BUSY_SECONDS, guard

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver


@contextmanager
def open_saver(path: Path) -> Iterator[SqliteSaver]:
    """The saver over the file `path`, made where there is none. A checkpoint may name no code (strict msgpack).

    Raises:
        LibraryError: the file cannot be read or written.
    """
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

    with guard(path, "file of checkpoints"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            saver.setup()
            yield saver
        finally:
            connection.close()


def delete(saver: SqliteSaver, runs: Sequence[str]) -> None:
    """Delete the checkpoints of runs, and give the room back to the disk."""
    for run in runs:
        saver.delete_thread(run)
    saver.conn.execute("VACUUM")
