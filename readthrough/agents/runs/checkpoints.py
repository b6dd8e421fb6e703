"""The checkpoints of runs: in one file that its owner alone can read, or in a PostgreSQL database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough import runtime  # noqa: F401  strict msgpack must be set before langgraph is imported
from readthrough.errors import UsageError
from readthrough.memory.database import BUSY_SECONDS, create, guard, use_wal

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.sqlite import SqliteSaver

    from readthrough.memory.runs import RunLog

_AT_ONCE = 200
"""How many runs are held at a time: each holds a file open."""


Place = Path | str
"""A file, or the address of a database."""


def open_saver(place: Place) -> AbstractContextManager[BaseCheckpointSaver[Any]]:
    """The saver over a file or a database, made where there is none. A checkpoint may name no code (strict msgpack).

    Raises:
        LibraryError: the file cannot be read or written, or the database cannot be used.
        MissingExtraError: what a database takes is not installed.
    """
    if isinstance(place, Path):
        return _open_file(place)
    from readthrough.agents.runs import postgres

    return postgres.open_saver(place)


@contextmanager
def _open_file(path: Path) -> Iterator[SqliteSaver]:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from readthrough.agents.runs.thinning import ThinningSaver

    with guard(path, "file of checkpoints"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create(path)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            use_wal(connection)
            saver = ThinningSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            saver.setup()
            yield saver
        finally:
            connection.close()


def prune(log: RunLog, place: Place, runs: Sequence[str]) -> list[str]:
    """Delete runs from the log, and their checkpoints from their file or database; returns those that are gone.

    One that some process is at work on stays, and none can be taken up while it is being deleted.

    Raises:
        LibraryError: a file cannot be read or written, or the database cannot be used.
    """
    gone: list[str] = []
    with open_saver(place) as saver:
        for start in range(0, len(runs), _AT_ONCE):
            with ExitStack() as held:
                free = [run for run in runs[start : start + _AT_ONCE] if _hold(held, log, run)]
                for run in free:
                    saver.delete_thread(run)
                log.delete(free)
            gone += free
    if gone and isinstance(place, Path):  # a server looks to its disk by itself
        with _open_file(place) as file:
            file.conn.execute("VACUUM")
    return gone


def _hold(held: ExitStack, log: RunLog, run: str) -> bool:
    try:
        held.enter_context(log.hold(run))
    except UsageError:  # at work
        return False
    return True
