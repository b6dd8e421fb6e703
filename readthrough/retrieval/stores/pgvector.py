"""Vectors in PostgreSQL, with the extension pgvector (0.8 or newer).

A collection is one table, `chunk bigint` and `vector`. More than 50,000 vectors get an HNSW index, which is searched
with pgvector's iterative scans, so that a filter does not eat up what the graph finds.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from readthrough.errors import LibraryError, needed
from readthrough.retrieval import base
from readthrough.retrieval.runs import ranges
from readthrough.retrieval.stores.common import refuse_password

if TYPE_CHECKING:
    import psycopg

MOST_INDEXED_DIMENSIONS = 2_000
SEARCH_BREADTH = 200
MOST_SCANNED = 400_000


@dataclass(frozen=True)
class Pgvector:
    """Vectors in PostgreSQL with the extension pgvector.

    Attributes:
        url: `postgresql://user@host:port/database`; what it leaves out comes from PGHOST, PGUSER, PGPASSWORD, ...
    """

    url: str = "postgresql://"

    def __post_init__(self) -> None:
        refuse_password(self.url, "set PGPASSWORD, or use ~/.pgpass")

    def open(self, collection: str, dimensions: int) -> base.VectorStore:
        """The collection `collection`, made where there is none; see `retrieval.base.Store`."""
        return PgvectorCollection(self.url, collection, dimensions)


class PgvectorCollection:
    """One table: see `VectorStore`. Safe to share by threads and processes."""

    def __init__(self, url: str, table: str, dimensions: int) -> None:
        self._url = url
        self._table = table
        self._dimensions = dimensions
        self._lock = threading.RLock()
        self._connected: psycopg.Connection[Any] | None = None
        with self._cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (chunk bigint PRIMARY KEY, vector vector({dimensions}))"
            )
            cursor.execute(
                "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'vector'", (table,)
            )
            held = _one(cursor)
        if held != dimensions:
            raise LibraryError(f"the table {table} holds vectors of {held} dimensions, not {dimensions}", path=url)

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `VectorStore`."""
        with self._cursor() as cursor:
            cursor.executemany(
                f"""INSERT INTO {self._table} (chunk, vector) VALUES (%s, %b)
                ON CONFLICT (chunk) DO UPDATE SET vector = excluded.vector""",
                list(zip(chunk_ids.tolist(), vectors.astype(np.float32), strict=True)),
            )
        if self._dimensions <= MOST_INDEXED_DIMENSIONS and self.count() > base.EXACT_CHUNKS:
            with self._cursor() as cursor:
                cursor.execute(
                    f"CREATE INDEX IF NOT EXISTS {self._table}_near ON {self._table} USING hnsw (vector vector_ip_ops)"
                )

    def delete(self, chunk_ids: np.ndarray) -> None:
        """See `VectorStore`."""
        with self._cursor() as cursor:
            cursor.execute(f"DELETE FROM {self._table} WHERE chunk = ANY(%s)", (chunk_ids.tolist(),))

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """See `VectorStore`."""
        if not len(chunk_ids):
            return []
        query = vector.astype(np.float32)
        if len(chunk_ids) > base.EXACT_CHUNKS:
            found = self._near(query, k, chunk_ids)
            if len(found) == min(k, len(chunk_ids)):
                return found
        # the runs go through the primary key; the materialised part keeps the approximate index out of it
        statement = f"""WITH passing AS MATERIALIZED
            (SELECT chunk, vector <#> %b AS distance FROM unnest(%s::bigint[], %s::bigint[]) AS run (first, last)
            JOIN {self._table} ON chunk BETWEEN run.first AND run.last)
            SELECT chunk, -distance FROM passing ORDER BY distance, chunk LIMIT %s"""
        first, last = ranges(chunk_ids).T.tolist()
        with self._cursor() as cursor:
            cursor.execute(statement, (query, first, last, k))
            return list(cursor.fetchall())

    def _near(self, query: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        statement = f"""SELECT chunk, -(vector <#> %b) FROM {self._table} WHERE chunk <@ %s::int8multirange
            ORDER BY vector <#> %b LIMIT %s"""
        with self._cursor() as cursor:
            cursor.execute(f"SET LOCAL hnsw.ef_search = {min(1_000, max(SEARCH_BREADTH, k))}")
            cursor.execute("SET LOCAL hnsw.iterative_scan = 'strict_order'")
            cursor.execute(f"SET LOCAL hnsw.max_scan_tuples = {MOST_SCANNED}")
            cursor.execute(statement, (query, _multirange(chunk_ids), query, k))
            return sorted(cursor.fetchall(), key=lambda hit: (-hit[1], hit[0]))

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `VectorStore`."""
        with self._cursor() as cursor:
            cursor.execute(f"SELECT chunk, vector FROM {self._table} WHERE chunk = ANY(%s)", (chunk_ids.tolist(),))
            found = {chunk: vector.to_numpy() for chunk, vector in cursor.fetchall()}
        vectors = np.empty((len(chunk_ids), self._dimensions), dtype=np.float32)
        for row, chunk in enumerate(chunk_ids.tolist()):
            vectors[row] = found[chunk]
        return vectors

    def ids(self) -> np.ndarray:
        """See `VectorStore`."""
        with self._cursor() as cursor:
            cursor.execute(f"SELECT chunk FROM {self._table} ORDER BY chunk")
            return np.array(cursor.fetchall(), dtype=np.int64).reshape(-1)

    def count(self) -> int:
        """See `VectorStore`."""
        with self._cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {self._table}")
            return int(_one(cursor))

    def close(self) -> None:
        """See `VectorStore`."""
        with self._lock:
            connected, self._connected = self._connected, None
            if connected is not None:
                connected.close()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction of its own, results in binary; after an error the next one connects anew."""
        psycopg = _psycopg()
        with self._lock:
            try:
                if self._connected is not None and select.select([self._connected.fileno()], [], [], 0)[0]:
                    self.close()  # nobody says anything on an idle connection but a server that goes away
                if self._connected is None:
                    self._connected = self._connect(psycopg)
                with self._connected.transaction(), self._connected.cursor(binary=True) as cursor:
                    yield cursor
            except psycopg.Error as error:
                self.close()
                hint = "is the server running? README: vectors on a server"
                reason = str(error).strip().partition("\n")[0]
                raise LibraryError(f"PostgreSQL: {reason}", path=self._url, hint=hint) from error

    def _connect(self, psycopg: Any) -> psycopg.Connection[Any]:
        from pgvector.psycopg import register_vector

        connected = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
        try:
            known = connected.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
            if known is None:
                connected.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connected)
        except BaseException:
            connected.close()
            raise
        return connected  # type: ignore[no-any-return]


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    row: Sequence[Any] = cursor.fetchone() or (None,)
    return row[0]


def _multirange(chunk_ids: np.ndarray) -> str:
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges(chunk_ids).tolist()) + "}"


def _psycopg() -> Any:
    with needed("psycopg or pgvector", "'readthrough[pgvector]'"):
        import pgvector.psycopg  # noqa: F401 (both are needed)
        import psycopg
    return psycopg
