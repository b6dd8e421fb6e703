"""The vectors of the tokens of chunks, for late interaction: rows of the library's SQLite file, one a chunk.

They come and go with their chunk in one transaction, half precision, each with its checksum: what is damaged is made
again.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from readthrough.errors import LibraryError
from readthrough.retrieval.base import Embedder, TokenBatch
from readthrough.retrieval.embedding import embed_tokens, token_embedder
from readthrough.types import Event

if TYPE_CHECKING:
    from readthrough.memory.database import Database

TABLE = """CREATE TABLE token_vectors (
    chunk INTEGER NOT NULL REFERENCES chunks ON DELETE CASCADE, embedder TEXT NOT NULL, tokens INTEGER NOT NULL,
    checksum INTEGER NOT NULL, vectors BLOB NOT NULL, PRIMARY KEY (chunk, embedder))"""

STEP_CHUNKS = 256
ATTEMPTS = 3
_DTYPE = np.dtype("<f2")


class TokenVectorStore:
    """Token vectors of one embedder for the chunks of a library. Safe to share by threads and processes."""

    def __init__(
        self,
        database: Database,
        name: str,
        load_embedder: Callable[[], Embedder],
        texts: Callable[[Sequence[int]], Sequence[str]],
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._database = database
        self._name = name
        self._load_embedder = load_embedder
        self._texts = texts
        self._on_event = on_event

    def ensure(self, chunk_ids: np.ndarray) -> None:
        """Embed those of `chunk_ids` (ascending) that have no vectors; what is done is kept every 256 chunks.

        Raises:
            ConfigError: the library's embedder gives no vectors of tokens.
            LibraryError: they cannot be written.
        """
        missing = self._missing(chunk_ids)
        for start in range(0, len(missing), STEP_CHUNKS):
            batch = missing[start : start + STEP_CHUNKS]
            vectors = embed_tokens(token_embedder(self._load_embedder()), self._texts(batch))
            self._add(zip(batch, vectors, strict=True))
            if self._on_event:
                self._on_event(Event("embed", start + len(batch), len(missing), "chunks"))

    def batches(self, chunk_ids: np.ndarray) -> Iterator[TokenBatch]:
        """The vectors of `chunk_ids` (ascending) step by step; those that are missing or damaged are made first.

        A chunk that was deleted in the meantime is left out.
        """
        self.ensure(chunk_ids)
        for start in range(0, len(chunk_ids), STEP_CHUNKS):
            found = self._whole(chunk_ids[start : start + STEP_CHUNKS])
            if found is not None:
                yield found

    def check(self) -> list[str]:
        """Verify every row; what is wrong is taken out, to be made again when it is needed."""
        select = "SELECT rowid, chunk, tokens, checksum, vectors FROM token_vectors"
        rows = self._database.connection().execute(select)
        damaged = [(row, chunk) for row, chunk, *stored in rows if not _is_whole(*stored)]
        if damaged:
            with self._database.write() as connection:
                connection.executemany("DELETE FROM token_vectors WHERE rowid = ?", ((row,) for row, _ in damaged))
        return [f"the token vectors of chunk {chunk} are damaged" for _, chunk in damaged]

    def _whole(self, chunk_ids: np.ndarray) -> TokenBatch | None:
        for _ in range(ATTEMPTS):
            rows = self._rows(chunk_ids)
            damaged = [chunk for chunk, tokens, checksum, data in rows if not _is_whole(tokens, checksum, data)]
            if not damaged and len(rows) == len(chunk_ids):
                return _joined(rows)
            self._forget(damaged)
            self.ensure(chunk_ids)
            alive = self._alive(chunk_ids.tolist())
            if len(alive) < len(chunk_ids):
                chunk_ids = np.array(alive, dtype=np.int64)
            if not len(chunk_ids):
                return None
        raise LibraryError(
            "token vectors are damaged as fast as they are written",
            path=str(self._database.path),
            hint="check the disk",
        )

    def _rows(self, chunk_ids: np.ndarray) -> list[tuple[int, int, int, bytes]]:
        select = """SELECT chunk, tokens, checksum, vectors FROM token_vectors
            WHERE chunk IN (SELECT value FROM json_each(?)) AND embedder = ? ORDER BY chunk"""
        wanted = (json.dumps(chunk_ids.tolist()), self._name)
        return self._database.connection().execute(select, wanted).fetchall()

    def _missing(self, chunk_ids: np.ndarray) -> list[int]:
        """Those of `chunk_ids` that are in the library and have no vectors."""
        select = "SELECT chunk FROM token_vectors WHERE chunk IN (SELECT value FROM json_each(?)) AND embedder = ?"
        wanted = (json.dumps(chunk_ids.tolist()), self._name)
        have = {chunk for (chunk,) in self._database.connection().execute(select, wanted)}
        return self._alive([chunk for chunk in chunk_ids.tolist() if chunk not in have])

    def _alive(self, chunk_ids: Sequence[int]) -> list[int]:
        select = "SELECT id FROM chunks WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        rows = self._database.connection().execute(select, (json.dumps(list(chunk_ids)),))
        return [chunk for (chunk,) in rows]

    def _add(self, rows: Iterator[tuple[int, np.ndarray]]) -> None:
        with self._database.write() as connection:
            for chunk, vectors in rows:
                data = np.ascontiguousarray(vectors, dtype=_DTYPE).tobytes()
                connection.execute(
                    """INSERT OR IGNORE INTO token_vectors (chunk, embedder, tokens, checksum, vectors)
                    SELECT id, ?2, ?3, ?4, ?5 FROM chunks WHERE id = ?1""",
                    (chunk, self._name, len(vectors), zlib.crc32(data), data),
                )

    def _forget(self, chunk_ids: Sequence[int]) -> None:
        if not chunk_ids:
            return
        with self._database.write() as connection:
            _delete(connection, chunk_ids, self._name)
        if self._on_event:
            note = f"the token vectors of {len(chunk_ids)} chunks were damaged and are made again"
            self._on_event(Event("warning", 0, note=note))


def _delete(connection: sqlite3.Connection, chunk_ids: Sequence[int], name: str) -> None:
    delete = "DELETE FROM token_vectors WHERE chunk IN (SELECT value FROM json_each(?)) AND embedder = ?"
    connection.execute(delete, (json.dumps(list(chunk_ids)), name))


def _is_whole(tokens: int, checksum: int, data: object) -> bool:
    if not isinstance(data, bytes) or not isinstance(tokens, int) or tokens < 1:
        return False
    return len(data) % (tokens * _DTYPE.itemsize) == 0 and zlib.crc32(data) == checksum


def _joined(rows: Sequence[tuple[int, int, int, bytes]]) -> TokenBatch:
    counts = np.array([tokens for _, tokens, _, _ in rows], dtype=np.int64)
    vectors = np.frombuffer(b"".join(data for *_, data in rows), dtype=_DTYPE).reshape(int(counts.sum()), -1)
    return TokenBatch(np.array([row[0] for row in rows], dtype=np.int64), counts, vectors.astype(np.float32))
