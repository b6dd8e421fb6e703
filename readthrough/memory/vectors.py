"""The vectors of the library: FAISS files that are only ever added, and their manifest in SQLite.

A file is written inside the transaction that enters it, so files that a crash left without an entry can be removed
by whoever holds SQLite's write lock. A file that is not what was entered is never searched: its vectors are
made again from the chunks.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from readthrough.errors import LibraryError
from readthrough.memory.database import Database
from readthrough.retrieval import segments
from readthrough.retrieval.base import Embedder
from readthrough.retrieval.embedding import embed_texts
from readthrough.types import Event

if TYPE_CHECKING:
    import sqlite3

BATCH_CHUNKS = 2_000
MOST_SMALL_SEGMENTS = 64
ATTEMPTS = 3


class VectorStore:
    """Vectors of one embedder for the chunks of a library. Safe to share by threads and processes."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        embedder: str,
        load_embedder: Callable[[], Embedder],
        texts: Callable[[Sequence[int]], Sequence[str]],
    ) -> None:
        self._database = database
        self._folder = folder
        self._embedder = embedder
        self._load_embedder = load_embedder
        self._texts = texts
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[tuple[int, int, int] | None, Any]] = {}
        self.on_event: Callable[[Event], None] | None = None

    def ensure(self, chunk_ids: np.ndarray) -> None:
        """Embed those of `chunk_ids` (ascending) that have no vector; what is done is kept every 2,000 chunks.

        Raises:
            LibraryError: the files cannot be written, or the library's vectors have other dimensions.
            MissingExtraError: faiss or the embedder's weights are not installed.
        """
        missing = self._missing(self._database.connection(), chunk_ids)
        if not len(missing):
            return
        embedder = self._load_embedder()
        rows = self._database.connection().execute(
            "SELECT DISTINCT dimensions FROM segments WHERE embedder = ?", (self._embedder,)
        )
        for (dimensions,) in rows:
            self._require_dimensions(dimensions, embedder.dimensions)
        for start in range(0, len(missing), BATCH_CHUNKS):
            batch = missing[start : start + BATCH_CHUNKS]
            vectors = embed_texts(embedder, self._texts(batch.tolist()), self._progress(start, len(missing)))
            self._add(batch, vectors)
        self._merge_if_many()

    def nearest(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids` (ascending) nearest to a unit `vector` `[D]` by cosine, best first."""
        import faiss

        found: list[tuple[int, float]] = []
        query = np.ascontiguousarray(vector[None], dtype=np.float32)
        for index, ids in self._indexes(chunk_ids):
            self._require_dimensions(index.d, len(vector))
            selected = faiss.SearchParameters(sel=faiss.IDSelectorBatch(ids))  # type: ignore[call-arg]
            scores, hits = index.search(query, min(k, len(ids)), params=selected)
            found += zip(hits[0].tolist(), scores[0].tolist(), strict=True)
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """The unit vectors `[N, D]`, float32, of `chunk_ids` `[N]`, in their order."""
        wanted = np.unique(chunk_ids)
        vectors: np.ndarray | None = None
        for index, ids in self._indexes(wanted):
            if vectors is None:
                vectors = np.empty((len(wanted), index.d), dtype=np.float32)
            vectors[np.searchsorted(wanted, ids)] = _rows(index, ids)
        if vectors is None:
            return np.empty((0, self._load_embedder().dimensions), dtype=np.float32)
        picked: np.ndarray = vectors[np.searchsorted(wanted, chunk_ids)]
        return picked

    def sweep(self) -> None:
        """Remove the entries that no chunk needs, and the files that no entry names (a crash leaves such)."""
        if not self._has_strays():
            return
        with self._database.write() as connection:
            connection.execute("DELETE FROM segments WHERE name NOT IN (SELECT segment FROM vectors)")
        with self._database.write() as connection:  # while it lasts nobody else adds a file
            named = {name for (name,) in connection.execute("SELECT name FROM segments")}
            for path in self._folder.iterdir():
                if path.name.removesuffix(segments.SUFFIX) not in named:
                    path.unlink(missing_ok=True)

    def compact(self) -> None:
        """Write the live vectors of small and half-dead files into new ones, and remove the old."""
        self.check()
        with self._database.write() as connection:
            old = self._wasteful(connection)
            if len(old) > 1 or any(dead for _, dead in old):
                names = [name for name, _ in old]
                select = "SELECT chunk FROM vectors WHERE segment = ? ORDER BY chunk"
                ids = [np.array(connection.execute(select, (name,)).fetchall(), dtype=np.int64)[:, 0] for name in names]
                vectors = [_rows(self._open(name), chunks) for name, chunks in zip(names, ids, strict=True)]
                self._enter(connection, np.concatenate(ids), np.concatenate(vectors))
        self.sweep()

    def check(self) -> list[str]:
        """Verify every file against its entry; what is wrong is taken out, to be made again when it is needed."""
        problems: list[str] = []
        for (name,) in self._database.connection().execute("SELECT name FROM segments").fetchall():
            try:
                self._verify(name)
            except segments.DamagedSegmentError as error:
                problems.append(str(error))
                self._forget(name, error)
        return problems

    def size_bytes(self) -> int:
        """What the vector files take on disk."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def _indexes(self, chunk_ids: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        """The FAISS indexes that hold `chunk_ids`, each with those it holds, ascending. Whole ones only."""
        connection = self._database.connection()
        for _ in range(ATTEMPTS):
            places = self._places(connection, chunk_ids)
            if len(places) < len(chunk_ids):
                self.ensure(chunk_ids)
                places = self._places(connection, chunk_ids)
            held: dict[str, list[int]] = defaultdict(list)
            for chunk, segment in places:
                held[segment].append(chunk)
            damaged = False
            opened: list[tuple[Any, np.ndarray]] = []
            for name, ids in held.items():
                try:
                    opened.append((self._open(name), np.array(ids, dtype=np.int64)))
                except segments.DamagedSegmentError as error:
                    damaged = True
                    self._forget(name, error)
            if not damaged and len(places) == len(chunk_ids):
                return opened
        raise LibraryError(
            "vector files are damaged or removed as fast as they are written",
            path=str(self._folder),
            hint="check the disk, and whether another program works in this folder",
        )

    def _open(self, name: str) -> Any:
        """The FAISS index of a file; hashed once, and again whenever the file has changed."""
        with self._lock:
            stamp = segments.stamp(self._folder, name)
            if name not in self._loaded or self._loaded[name][0] != stamp:
                self._loaded[name] = (stamp, segments.read_segment(self._folder, name))
            return self._loaded[name][1]

    def _verify(self, name: str) -> None:
        index = segments.read_segment(self._folder, name)
        ids = self._database.connection().execute("SELECT chunk FROM vectors WHERE segment = ?", (name,))
        strangers = {chunk for (chunk,) in ids}.difference(segments.ids_of(index).tolist())
        if strangers:
            raise segments.DamagedSegmentError(f"{name} lacks {len(strangers)} vectors that are entered for it")

    def _forget(self, name: str, error: segments.DamagedSegmentError) -> None:
        """Take a damaged file and its vectors out; `ensure` makes the vectors again."""
        with self._database.write() as connection:
            lost = connection.execute("DELETE FROM vectors WHERE segment = ?", (name,)).rowcount
            known = connection.execute("DELETE FROM segments WHERE name = ?", (name,)).rowcount
            (self._folder / (name + segments.SUFFIX)).unlink(missing_ok=True)
        with self._lock:
            self._loaded.pop(name, None)
        if known and self.on_event:  # otherwise another process has merged the file into a new one
            self.on_event(Event("warning", 0, note=f"{error}: {lost} vectors are made again"))

    def _add(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """Enter vectors, but for chunks that were deleted or embedded by somebody else in the meantime."""
        with self._database.write() as connection:
            wanted = json.dumps(chunk_ids.tolist())
            alive = connection.execute("SELECT id FROM chunks WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
            left = np.intersect1d(
                np.array([chunk for (chunk,) in alive], dtype=np.int64), self._missing(connection, chunk_ids)
            )
            if len(left):
                self._enter(connection, left, vectors[np.searchsorted(chunk_ids, left)])

    def _enter(self, connection: sqlite3.Connection, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """Write one file and its entry, in the transaction of `connection`."""
        name = segments.write_segment(self._folder, chunk_ids, vectors)
        row = (name, self._embedder, vectors.shape[1], len(chunk_ids))
        connection.execute(
            "INSERT OR IGNORE INTO segments (name, embedder, dimensions, count) VALUES (?, ?, ?, ?)", row
        )
        connection.executemany(
            "INSERT OR REPLACE INTO vectors (chunk, embedder, segment) VALUES (?, ?, ?)",
            ((chunk, self._embedder, name) for chunk in chunk_ids.tolist()),
        )

    def _missing(self, connection: sqlite3.Connection, chunk_ids: np.ndarray) -> np.ndarray:
        have = np.array([chunk for chunk, _ in self._places(connection, chunk_ids)], dtype=np.int64)
        missing: np.ndarray = np.setdiff1d(chunk_ids, have, assume_unique=True)
        return missing

    def _places(self, connection: sqlite3.Connection, chunk_ids: np.ndarray) -> list[tuple[int, str]]:
        """(chunk, segment) of those of `chunk_ids` (ascending) that have a vector."""
        if not len(chunk_ids):
            return []
        select = "SELECT chunk, segment FROM vectors WHERE chunk BETWEEN ? AND ? AND embedder = ? ORDER BY chunk"
        rows = connection.execute(select, (int(chunk_ids[0]), int(chunk_ids[-1]), self._embedder)).fetchall()
        if not rows:
            return []
        inside = np.isin(np.array([chunk for chunk, _ in rows], dtype=np.int64), chunk_ids, assume_unique=True)
        return [row for row, keep in zip(rows, inside.tolist(), strict=True) if keep]

    def _wasteful(self, connection: sqlite3.Connection) -> list[tuple[str, int]]:
        """(name, dead vectors) of this embedder's files that are small or hold vectors of deleted chunks."""
        rows = connection.execute(
            """SELECT name, count - (SELECT count(*) FROM vectors WHERE segment = name) AS dead FROM segments
            WHERE embedder = ? AND (dead > 0 OR count < ?) AND dead < count""",
            (self._embedder, BATCH_CHUNKS),
        )
        return rows.fetchall()

    def _merge_if_many(self) -> None:
        count = "SELECT count(*) FROM segments WHERE embedder = ? AND count < ?"
        row = self._database.connection().execute(count, (self._embedder, BATCH_CHUNKS)).fetchone()
        if row[0] > MOST_SMALL_SEGMENTS:
            self.compact()

    def _has_strays(self) -> bool:
        rows = self._database.connection().execute(
            "SELECT name FROM segments WHERE name IN (SELECT segment FROM vectors)"
        )
        return {path.name for path in self._folder.iterdir()} != {name + segments.SUFFIX for (name,) in rows}

    def _progress(self, done: int, total: int) -> Callable[[Event], None] | None:
        """Counts the events of one batch on from `done`, to the end of all batches."""
        listener = self.on_event
        if listener is None:
            return None
        return lambda event: listener(Event("embed", min(done + event.done, total), total, "chunks"))

    def _require_dimensions(self, held: int, given: int) -> None:
        if held != given:
            raise LibraryError(
                f"the library holds vectors of {self._embedder} with {held} dimensions, the embedder gives {given}",
                path=str(self._folder),
                hint="give the changed embedder another name, or use another folder with --home",
            )


def _rows(index: Any, chunk_ids: np.ndarray) -> np.ndarray:
    """The vectors of `chunk_ids` `[N]` out of a FAISS index, `[N, D]`."""
    ids = segments.ids_of(index)
    order = np.argsort(ids)
    rows: np.ndarray = index.index.reconstruct_n(0, index.ntotal)[order[np.searchsorted(ids, chunk_ids, sorter=order)]]
    return rows
