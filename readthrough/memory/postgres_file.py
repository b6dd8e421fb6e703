"""A PostgreSQL database in the place of a small SQLite file: processes of many machines share it.

All tables lie in a schema of their own, so that a database which serves others as well can be named.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from readthrough.errors import LibraryError, MissingExtraError

if TYPE_CHECKING:
    import psycopg

SCHEMA = "readthrough"
CONNECT_SECONDS = 10
RETRY_SECONDS = 60.0
"""How long a server that was there before is waited for: a restart takes less."""

_LOCK = 7_233_172  # any number: who writes holds the advisory lock of this number
_SESSION = (
    f"SET search_path = {SCHEMA}",
    "SET lock_timeout = '600s'",
    "SET idle_in_transaction_session_timeout = '60s'",  # a client that hangs must not keep the others out for ever
)
_VERSIONS = f"CREATE TABLE IF NOT EXISTS {SCHEMA}.versions (what TEXT PRIMARY KEY, version INTEGER NOT NULL)"

Steps = tuple[tuple[str, ...], ...]
"""The statements of step n take a database from version n to n + 1. Steps are added, never changed."""


class PostgresFile:
    """The tables of one kind in a database; see `memory.sqlite_file.SqliteFile`, whose methods it has."""

    def __init__(self, url: str, steps: Steps, what: str) -> None:
        """Connect, and bring the tables to this version; errors call them `what`.

        Raises:
            LibraryError: the server cannot be reached or refuses, or the tables are of a newer version.
            MissingExtraError: psycopg is not installed.
        """
        self._url = url
        self._what = what
        self._lock = threading.RLock()
        self._connected: psycopg.Connection[Any] | None = None
        self._ahead_seconds = 0.0
        with guard(url, what):
            self._connected = self._connect()
        self._migrate(steps)

    @contextmanager
    def write(self) -> Iterator[_Transaction]:
        """One transaction that no other writes beside, of which all is kept or nothing."""
        with self._lock, guard(self._url, self._what):
            connection = self._ready()
            alone = connection.info.transaction_status == _psycopg().pq.TransactionStatus.IDLE
            try:
                begun, transaction = _begin(connection)
            except _psycopg().OperationalError:
                if not (alone and connection.closed):
                    raise
                begun, transaction = _begin(self._ready())  # the server went away this moment: nothing was done yet
            with begun:
                yield transaction

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query; `?` stands for a value."""
        with self._lock, guard(self._url, self._what):
            connection = self._ready()
            alone = connection.info.transaction_status == _psycopg().pq.TransactionStatus.IDLE
            try:
                return _execute(connection, query, values).fetchall()
            except _psycopg().OperationalError:
                if not (alone and connection.closed):
                    raise
                return _execute(self._ready(), query, values).fetchall()  # the server went away this moment

    def now(self) -> float:
        """Seconds since 1970 by the server's clock: those of the machines that share it may differ."""
        return time.time() + self._ahead_seconds

    def close(self) -> None:
        """Close the connection. Calling it twice is fine."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()

    def _ready(self) -> psycopg.Connection[Any]:
        """The connection; a new one where the server has gone away meanwhile."""
        if self._connected is None or self._connected.closed or _has_news(self._connected):
            self.close()
            self._connected = self._reconnect()
        return self._connected

    def _reconnect(self) -> psycopg.Connection[Any]:
        until = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return self._connect()
            except _psycopg().OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)

    def _connect(self) -> psycopg.Connection[Any]:
        connected = connect(self._url)
        asked = time.time()
        row = connected.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        self._ahead_seconds = (row[0] if row else asked) - (asked + time.time()) / 2
        return connected

    def _migrate(self, steps: Steps) -> None:
        with self.write() as db:
            db.execute(_VERSIONS)
            found = db.execute("SELECT version FROM versions WHERE what = ?", (self._what,)).fetchone()
            version = found[0] if found else 0
            if version > len(steps):
                raise LibraryError(
                    f"the {self._what} has schema version {version}, this readthrough knows {len(steps)}",
                    path=self._url,
                    hint="update readthrough, or name another database",
                )
            for step in steps[version:]:
                for statement in step:
                    db.execute(statement.replace("TEXT", 'TEXT COLLATE "C"'))  # as SQLite compares
            if version < len(steps):
                kept = "INSERT INTO versions VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET version = excluded.version"
                db.execute(kept, (self._what, len(steps)))


def _begin(connection: psycopg.Connection[Any]) -> tuple[ExitStack, _Transaction]:
    """A transaction that no other writes beside, and what ends it."""
    with ExitStack() as begun:
        # a pipeline: only what is read back waits for the server, and the lock is held no longer than that takes
        pipeline = begun.enter_context(connection.pipeline())
        begun.enter_context(connection.transaction())
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        return begun.pop_all(), _Transaction(connection, pipeline)


class _Transaction:
    """What executes statements in which `?` stands for a value."""

    def __init__(self, connection: psycopg.Connection[Any], pipeline: psycopg.Pipeline) -> None:
        self._connection = connection
        self._pipeline = pipeline

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> _Done:
        """Execute a statement."""
        return _Done(_execute(self._connection, query, values), self._pipeline)


class _Done:
    """A statement that is on its way: what it gives is waited for when it is asked for."""

    def __init__(self, cursor: psycopg.Cursor[Any], pipeline: psycopg.Pipeline) -> None:
        self._cursor = cursor
        self._pipeline = pipeline

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows."""
        return self._cursor.fetchall()

    @property
    def rowcount(self) -> int:
        """How many rows it found or changed."""
        self._pipeline.sync()
        return self._cursor.rowcount


def _execute(connection: psycopg.Connection[Any], query: str, values: tuple[Any, ...]) -> psycopg.Cursor[Any]:
    return connection.execute(query.replace("%", "%%").replace("?", "%s").encode(), values)


def connect(url: str, **options: Any) -> psycopg.Connection[Any]:
    """A connection to the schema, which it makes; every statement outside of a transaction is committed.

    Raises:
        MissingExtraError: psycopg is not installed.
        psycopg.Error: for `guard`.
    """
    connected: psycopg.Connection[Any] = _psycopg().connect(url, **CONNECTING, **options)
    try:
        configure(connected)
        # looked for first: to make it takes a right that not every user has who may use it
        if connected.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone() is None:
            with connected.transaction():
                connected.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                connected.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    except BaseException:
        connected.close()
        raise
    return connected


CONNECTING: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""Options of a connection: what is sent to a server that has vanished fails within a minute."""


def configure(connection: psycopg.Connection[Any]) -> None:
    """Set what holds for a session."""
    for statement in _SESSION:
        connection.execute(statement.encode())


@contextmanager
def guard(url: str, what: str) -> Iterator[None]:
    """Turn the errors of PostgreSQL into LibraryError that names the server by its address, which has no password."""
    psycopg = _psycopg()
    try:
        yield
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        hint = "is the server running, and the database there? the password comes from PGPASSWORD or ~/.pgpass"
        raise LibraryError(f"the {what} cannot be used: {reason}", path=url, hint=hint) from error


def _has_news(connection: psycopg.Connection[Any]) -> bool:
    """Whether something came in unasked: nobody says anything on an idle connection but a server that goes away."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError(
            "PostgreSQL needs the package psycopg", hint="pip install 'readthrough[postgres]'"
        ) from error
    return psycopg
