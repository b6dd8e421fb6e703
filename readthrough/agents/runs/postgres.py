"""The checkpoints of runs on a PostgreSQL server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from readthrough import runtime  # noqa: F401  strict msgpack must be set before langgraph is imported
from readthrough.agents.runs.thinning import Thinning
from readthrough.errors import MissingExtraError
from readthrough.memory.postgres_file import CONNECTING, configure, connect, guard

try:
    from langgraph.checkpoint.postgres import PostgresSaver
except ImportError as missing:
    raise MissingExtraError(
        "checkpoints in PostgreSQL need the package langgraph-checkpoint-postgres",
        hint="pip install 'readthrough[postgres]'",
    ) from missing

if TYPE_CHECKING:
    import psycopg

WHAT = "database of checkpoints"
WAIT_SECONDS = 60.0
_SETUP = 7_233_173  # the number of the advisory lock under which the tables are made

_FORGET = """WITH gone AS (
    SELECT checkpoint_id FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = %(graph)s
    ORDER BY checkpoint_id DESC OFFSET %(kept)s)
    DELETE FROM {table} WHERE thread_id = %(thread)s AND checkpoint_ns = %(graph)s
    AND checkpoint_id IN (SELECT checkpoint_id FROM gone)"""

_FORGET_VALUES = """DELETE FROM checkpoint_blobs AS held WHERE thread_id = %(thread)s AND checkpoint_ns = %(graph)s
    AND NOT EXISTS (
        SELECT 1 FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions') AS used
        WHERE thread_id = %(thread)s AND checkpoint_ns = %(graph)s
        AND used.key = held.channel AND used.value = held.version)"""


class ThinningPostgresSaver(Thinning, PostgresSaver):
    """Checkpoints in a database of PostgreSQL."""

    def forget(self, names: Mapping[str, Any]) -> None:
        """Delete all checkpoints of the run `thread` and its graph `graph` but the last `kept`."""
        with self._cursor(pipeline=True) as cursor:
            for table in ("checkpoint_writes", "checkpoints"):
                cursor.execute(_FORGET.format(table=table), names)
            cursor.execute(_FORGET_VALUES, names)


@contextmanager
def open_saver(url: str) -> Iterator[PostgresSaver]:
    """The saver over the database `url`. A checkpoint may name no code (strict msgpack).

    Raises:
        LibraryError: the server cannot be reached or refuses.
        MissingExtraError: what it takes is not installed.
    """
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    options = {"prepare_threshold": 0, "row_factory": dict_row}  # as the saver wants it
    with guard(url, WHAT):
        with connect(url, **options) as connection:  # by itself it says why it fails, which a pool does not
            _set_up(connection)
        pool = ConnectionPool(  # of one connection: it survives a restart of the server
            url,
            kwargs={**CONNECTING, **options},
            min_size=1,
            num_workers=1,
            timeout=WAIT_SECONDS,
            configure=configure,
            check=ConnectionPool.check_connection,
            open=False,
        )
        with pool:
            yield ThinningPostgresSaver(pool, serde=JsonPlusSerializer(allowed_msgpack_modules=None))


def _set_up(connection: psycopg.Connection[Any]) -> None:
    """Make the tables, one process at a time.

    The lock is tried and not waited for: an index that is made beside writers waits for every statement under way,
    one that waits for a lock among them.
    """
    while not _one(connection, "SELECT pg_try_advisory_lock(%s)"):
        time.sleep(0.05)
    try:
        PostgresSaver(connection).setup()
    finally:
        _one(connection, "SELECT pg_advisory_unlock(%s)")


def _one(connection: psycopg.Connection[Any], query: str) -> bool:
    row = connection.execute(query.encode(), (_SETUP,)).fetchone()
    return bool(row and next(iter(row.values())))
