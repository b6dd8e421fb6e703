"""The vectors of the library on a server, with the record of them in SQLite.

A vector is written to the server inside the transaction that enters it, so that the two can differ only after a
crash or where the server lost something. That shows in their numbers when the collection is first used; then what
the server has too much is deleted, and what it lacks is made again. What is not entered is never found: every search
names the chunks that it may find.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from readthrough.memory.database import Database
from readthrough.memory.vector_files import VectorFiles
from readthrough.memory.vectors import LostVectorsError
from readthrough.retrieval.base import Store, VectorStore
from readthrough.types import Event

if TYPE_CHECKING:
    import sqlite3


class ServedVectors:
    """The vectors of one embedder in a collection of their own: see `memory.vectors.Keeper`.

    `files` are those of the same library: what they hold from before is removed as it is replaced.
    """

    def __init__(self, database: Database, store: Store, embedder: str, files: VectorFiles) -> None:
        self._database = database
        self._store = store
        self._embedder = embedder
        self._files = files
        self._lock = threading.Lock()
        self._opened: VectorStore | None = None
        self._entered: tuple[int, np.ndarray] | None = None
        self._collection: str | None = None
        self.place = store.url
        self.on_event: Callable[[Event], None] | None = None

    def dimensions(self) -> int | None:
        """See `Keeper`."""
        select = "SELECT dimensions FROM segments WHERE embedder = ? LIMIT 1"
        row = self._database.connection().execute(select, (self._embedder,)).fetchone()
        return row[0] if row else None

    def missing(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `Keeper`."""
        if self.dimensions() is not None:
            self._open(self.dimensions() or 0)
        missing: np.ndarray = np.setdiff1d(chunk_ids, self._read_entered(), assume_unique=True)
        return missing

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Keeper`."""
        store = self._open(vectors.shape[1])
        with self._database.write() as connection:
            alive = "SELECT id FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
            rows = connection.execute(alive, (json.dumps(chunk_ids.tolist()),)).fetchall()
            keep = np.isin(chunk_ids, np.array(rows, dtype=np.int64).reshape(-1))
            if not keep.any():
                return
            store.upsert(chunk_ids[keep], vectors[keep])
            segment = (self._name(), self._embedder, vectors.shape[1], time.time_ns())
            insert = "INSERT OR IGNORE INTO segments (name, embedder, dimensions, count) VALUES (?, ?, ?, ?)"
            connection.execute(insert, segment)
            connection.executemany(
                "INSERT OR REPLACE INTO vectors (chunk, embedder, segment) VALUES (?, ?, ?)",
                ((chunk, self._embedder, self._name()) for chunk in chunk_ids[keep].tolist()),
            )
            self._changed(connection)

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """See `VectorStore`."""
        return self._open(len(vector)).search(vector, k, chunk_ids)

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `VectorStore`."""
        store = self._open(self.dimensions() or 0)
        try:
            return store.get(chunk_ids)
        except KeyError as error:
            self._match(store, whole=True)
            raise LostVectorsError from error

    def settle(self, added: bool) -> None:
        """See `Keeper`; the server keeps its own index. What was added may have replaced something."""
        if added:
            self.sweep()

    def sweep(self) -> None:
        """See `Keeper`. A server that this process has not used yet is swept when it does."""
        self._files.sweep()
        if self._opened is not None:
            self._match(self._opened)

    def compact(self) -> None:
        """See `Keeper`; the server does so by itself."""
        self.sweep()

    def check(self) -> list[str]:
        """See `Keeper`."""
        dimensions = self.dimensions()
        return [] if dimensions is None else self._match(self._open(dimensions), whole=True)

    def size_bytes(self) -> int:
        """See `Keeper`."""
        return self._files.size_bytes()

    def close(self) -> None:
        """See `Keeper`."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open(self, dimensions: int) -> VectorStore:
        """The collection; when it is opened, what a crash has left is put right."""
        with self._lock:
            if self._opened is None:
                name = self._name()
                with self._database.write():  # two processes may not make the collection at once
                    opened = self._store.open(name, dimensions)
                self._match(opened)
                self._opened = opened
            return self._opened

    def _name(self) -> str:
        """The name of the collection: another for every library, for every copy of one, and for every embedder."""
        if self._collection is None:
            (identity,) = self._database.connection().execute("SELECT id FROM identity").fetchone()
            whole = f"{identity} {self._database.path.absolute()} {self._embedder}"
            self._collection = f"readthrough_{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
        return self._collection

    def _match(self, store: VectorStore, whole: bool = False) -> list[str]:
        """Make the server's ids those of the record; returns what was wrong. Ids are compared where their numbers
        differ, or `whole`."""
        with self._database.write() as connection:
            select = "SELECT chunk FROM vectors WHERE embedder = ? AND segment = ? ORDER BY chunk"
            rows = connection.execute(select, (self._embedder, self._name())).fetchall()
            entered = np.array(rows, dtype=np.int64).reshape(-1)
            if not whole and store.count() == len(entered):
                return []
            there = store.ids()
            strays = np.setdiff1d(there, entered, assume_unique=True)
            lost = np.setdiff1d(entered, there, assume_unique=True)
            if len(strays):
                store.delete(strays)
            if len(lost):
                delete = "DELETE FROM vectors WHERE embedder = ? AND chunk IN (SELECT value FROM json_each(?))"
                connection.execute(delete, (self._embedder, json.dumps(lost.tolist())))
                self._changed(connection)
        if not len(lost):
            return []
        problem = f"{self.place} has lost {len(lost)} vectors"
        if self.on_event:
            self.on_event(Event("warning", 0, note=f"{problem}: they are made again"))
        return [problem]

    def _changed(self, connection: sqlite3.Connection) -> None:
        """The count of changes, from a time on, tells others that what they know of the record is old."""
        connection.execute("UPDATE segments SET count = count + 1 WHERE name = ?", (self._name(),))

    def _read_entered(self) -> np.ndarray:
        """The chunks that have a vector on the server, ascending; read again only when the record has changed."""
        connection = self._database.connection()
        row = connection.execute("SELECT count FROM segments WHERE name = ?", (self._name(),)).fetchone()
        changes = row[0] if row else 0
        kept = self._entered
        if kept is None or kept[0] != changes:
            select = "SELECT chunk FROM vectors WHERE embedder = ? AND segment = ? ORDER BY chunk"
            rows = connection.execute(select, (self._embedder, self._name())).fetchall()
            kept = self._entered = (changes, np.array(rows, dtype=np.int64).reshape(-1))
        return kept[1]
