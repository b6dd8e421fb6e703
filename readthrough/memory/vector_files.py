"""The vectors of the library in FAISS files that are only ever added, with their manifest in SQLite.

A file is written inside the transaction that enters it, so files that a crash left without an entry can be removed
by whoever holds SQLite's write lock. A file that is not what was entered is never searched: its vectors are
made again from the chunks.

The vectors themselves stand in flat files, the segments. A library of more than 50,000 has an approximate index
beside them (`retrieval.approximate`): it is made of the segments, so that its loss costs minutes and no embedding.
What was added since it was built is compared one by one, and at 25,000 such vectors it is built anew.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from readthrough.errors import LibraryError
from readthrough.memory.database import Database
from readthrough.memory.manifest import Manifest, read_manifest
from readthrough.memory.vectors import LostVectorsError
from readthrough.retrieval import approximate, base, segments
from readthrough.retrieval.approximate import Approximation
from readthrough.retrieval.segments import Segment
from readthrough.types import Event

if TYPE_CHECKING:
    import sqlite3

SEGMENT_CHUNKS = 50_000
MOST_SMALL_SEGMENTS = 64


class VectorFiles:
    """The files of one embedder in `folder`: see `memory.vectors.Keeper`. Safe to share by threads and processes."""

    def __init__(self, database: Database, folder: Path, embedder: str) -> None:
        self._database = database
        self._folder = folder
        self._embedder = embedder
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[tuple[int, int, int] | None, Any]] = {}
        self._manifest: Manifest | None = None
        self._complete: tuple[Manifest, np.ndarray] | None = None
        self._rest: tuple[Manifest, np.ndarray, np.ndarray] | None = None
        self._cannot_build = False
        self.place = str(folder)
        self.on_event: Callable[[Event], None] | None = None

    def dimensions(self) -> int | None:
        """See `Keeper`."""
        select = "SELECT dimensions FROM segments WHERE embedder = ? LIMIT 1"
        row = self._database.connection().execute(select, (self._embedder,)).fetchone()
        return row[0] if row else None

    def missing(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `Keeper`. The array that was asked with last is not looked up again while nothing has changed."""
        manifest = self._read_manifest()
        complete = self._complete
        if complete is not None and complete[0] is manifest and complete[1] is chunk_ids:
            return chunk_ids[:0]
        rows = np.searchsorted(manifest.ids, chunk_ids)
        known = rows < len(manifest.ids)
        known[known] = manifest.ids[rows[known]] == chunk_ids[known]
        missing: np.ndarray = chunk_ids[~known]
        if not len(missing):
            self._complete = (manifest, chunk_ids)
        return missing

    def upsert(self, chunk_ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Keeper`."""
        with self._database.write() as connection:
            alive = "SELECT id FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
            rows = connection.execute(alive, (json.dumps(chunk_ids.tolist()),)).fetchall()
            keep = np.isin(chunk_ids, np.array(rows, dtype=np.int64).reshape(-1))
            if keep.any():
                self._enter(connection, chunk_ids[keep], vectors[keep])

    def search(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """See `VectorStore`; exact where `chunk_ids` are few or nothing but flat files is there."""
        manifest = self._read_manifest()
        near = None if len(chunk_ids) <= base.EXACT_CHUNKS else self._approximation(manifest)
        if near is None:
            return self._exact(manifest, vector, k, chunk_ids)
        found = near.candidates(vector, k, chunk_ids)
        rest = self._not_covered(manifest, near, chunk_ids)
        if len(found) + len(rest) < min(k, len(chunk_ids)):  # so few that the graph or the lists have led to
            return self._exact(manifest, vector, k, chunk_ids)
        found = np.sort(found)
        hits = list(zip(found.tolist(), (self._vectors(manifest, found) @ vector).tolist(), strict=True))
        return _best(hits + self._exact(manifest, vector, k, rest), k)

    def get(self, chunk_ids: np.ndarray) -> np.ndarray:
        """See `VectorStore`; `chunk_ids` ascending."""
        return self._vectors(self._read_manifest(), chunk_ids)

    def settle(self, added: bool) -> None:
        """Merge small files where there are many, and build the approximate index where it is due."""
        if added:
            count = "SELECT count(*) FROM segments WHERE embedder = ? AND count < ?"
            row = self._database.connection().execute(count, (self._embedder, SEGMENT_CHUNKS)).fetchone()
            if row[0] > MOST_SMALL_SEGMENTS:
                self._merge_smallest()
        manifest = self._read_manifest()
        if len(manifest.ids) <= base.EXACT_CHUNKS or (manifest.approximation and not added):
            return
        near = self._approximation(manifest)
        if near is not None and len(self._not_covered(manifest, near, manifest.ids)) <= base.EXACT_CHUNKS // 2:
            return
        if added:
            self._approximate()
        elif not self._cannot_build:
            self._approximate_if_possible()

    def _approximate_if_possible(self) -> None:
        """For a search: a disk that is full makes it slow, not impossible."""
        try:
            self._approximate()
        except LibraryError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            self._cannot_build = True
            if self.on_event:
                self.on_event(Event("warning", 0, note=f"{error}: all vectors are compared one by one"))

    def sweep(self) -> None:
        """Remove the entries that no chunk needs, and the files that no entry names (a crash leaves such)."""
        if not self._has_strays():
            return
        with self._database.write() as connection:
            connection.execute("DELETE FROM segments WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE segment = name)")
        with self._database.write() as connection:  # while it lasts nobody else adds a file
            named = self._named(connection)
            for path in self._folder.iterdir():
                if path.name not in named:
                    path.unlink(missing_ok=True)

    def compact(self) -> None:
        """Write the live vectors of small and half-dead files into new ones, and remove the old."""
        self._merge()
        manifest = self._read_manifest(anew=True)
        try:
            near = self._approximation(manifest)
            if near is None:
                return
            dead = len(np.setdiff1d(near.ids, manifest.ids, assume_unique=True))
            if len(manifest.ids) <= base.EXACT_CHUNKS:
                self._replace_approximation(manifest, None, None)
            elif dead * 4 > len(near.ids):
                self._approximate()
        except LostVectorsError:  # what was whole a moment ago is made again when it is needed
            return

    def check(self) -> list[str]:
        """See `Keeper`."""
        problems: list[str] = []
        connection = self._database.connection()
        for (name,) in connection.execute("SELECT name FROM segments").fetchall():
            try:
                self._verify(name)
            except segments.DamagedSegmentError as error:
                problems.append(str(error))
                self._forget(name, error)
        for name, kind in connection.execute("SELECT name, kind FROM approximations").fetchall():
            try:
                segments.read_segment(self._folder, name, kind.startswith("IVF"))
            except segments.DamagedSegmentError as error:
                problems.append(str(error))
                self._forget_approximation(name, error)
        return problems

    def size_bytes(self) -> int:
        """See `Keeper`."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def close(self) -> None:
        """Let go of what is mapped."""
        with self._lock:
            self._loaded.clear()
        self._manifest = self._complete = self._rest = None

    def _read_manifest(self, anew: bool = False) -> Manifest:
        """The manifest; read `anew` it has none of the chunks that were deleted since."""
        manifest = read_manifest(self._database.connection(), self._embedder, None if anew else self._manifest)
        if manifest is not self._manifest:
            self._manifest = manifest
            with self._lock:
                for name in self._loaded.keys() - {*manifest.names, *(manifest.approximation or ())}:
                    del self._loaded[name]
        return manifest

    def _exact(self, manifest: Manifest, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        query = np.ascontiguousarray(vector, dtype=np.float32)
        opened = self._segments(manifest, chunk_ids)
        return _best([hit for segment, ids in opened for hit in segment.search(query, k, ids)], k)

    def _vectors(self, manifest: Manifest, chunk_ids: np.ndarray) -> np.ndarray:
        """The vectors `[N, D]` of `chunk_ids` (ascending)."""
        vectors = np.empty((len(chunk_ids), self.dimensions() or 0), dtype=np.float32)
        for segment, ids in self._segments(manifest, chunk_ids):
            vectors[np.searchsorted(chunk_ids, ids)] = segment.rows(ids)
        return vectors

    def _segments(self, manifest: Manifest, chunk_ids: np.ndarray) -> list[tuple[Segment, np.ndarray]]:
        """The segments that hold `chunk_ids` (ascending), each with those it holds. Whole ones only."""
        opened: list[tuple[Segment, np.ndarray]] = []
        damaged: list[tuple[str, segments.DamagedSegmentError]] = []
        for name, ids in manifest.groups(chunk_ids):
            try:
                opened.append((self._open(name), ids))
            except segments.DamagedSegmentError as error:
                damaged.append((name, error))
        for name, reason in damaged:
            self._forget(name, reason)
        if damaged:
            raise LostVectorsError
        return opened

    def _open(self, name: str, read: Callable[[str], Any] | None = None) -> Any:
        """A segment, or what `read` makes of a file; hashed once, and again whenever the file has changed."""
        with self._lock:
            stamp = segments.stamp(self._folder, name)
            if name not in self._loaded or self._loaded[name][0] != stamp:
                self._loaded.pop(name, None)
                self._loaded[name] = (stamp, (read or self._read)(name))
            return self._loaded[name][1]

    def _read(self, name: str) -> Segment:
        return Segment(segments.read_segment(self._folder, name))

    def _approximation(self, manifest: Manifest) -> Approximation | None:
        """The approximate index, None where there is none.

        Raises:
            LostVectorsError: its file is damaged.
        """
        if manifest.approximation is None:
            return None
        name, kind = manifest.approximation

        def read(name: str) -> Approximation:
            return Approximation(segments.read_segment(self._folder, name, kind.startswith("IVF")))

        try:
            opened: Approximation = self._open(name, read)
        except segments.DamagedSegmentError as error:
            self._forget_approximation(name, error)
            raise LostVectorsError from error
        return opened

    def _not_covered(self, manifest: Manifest, near: Approximation, chunk_ids: np.ndarray) -> np.ndarray:
        """Those of `chunk_ids` (ascending) whose vectors the approximate index lacks, ascending."""
        kept = self._rest
        if kept is None or kept[0] is not manifest or kept[1] is not chunk_ids:
            rest = np.setdiff1d(chunk_ids, near.ids, assume_unique=True)
            kept = self._rest = (manifest, chunk_ids, rest)
        return kept[2]

    def _approximate(self) -> None:
        """Build the approximate index of all vectors, and put it in the place of the one before."""
        manifest = self._read_manifest(anew=True)
        kind = approximate.kind_for(len(manifest.ids), self.dimensions() or 0)
        if kind is None:
            return
        chance = np.random.default_rng(0)
        count = min(len(manifest.ids), approximate.training_chunks(kind))
        sample = self._vectors(manifest, np.sort(chance.choice(manifest.ids, count, replace=False)))
        blocks = ((ids, segment.rows(ids)) for segment, ids in self._segments(manifest, manifest.ids))
        built = approximate.build(kind, sample, blocks, len(manifest.ids), self.on_event)
        self._replace_approximation(manifest, kind, built)

    def _replace_approximation(self, manifest: Manifest, kind: str | None, built: Any) -> None:
        """Enter the approximate index `built` (None: there is none any more), unless another process was quicker."""
        with self._database.write() as connection:
            select = "SELECT name, kind FROM approximations WHERE embedder = ?"
            if connection.execute(select, (self._embedder,)).fetchone() != manifest.approximation:
                return
            connection.execute("DELETE FROM approximations WHERE embedder = ?", (self._embedder,))
            if built is not None:
                row = (self._embedder, segments.write_index(self._folder, built), kind)
                connection.execute("INSERT INTO approximations (embedder, name, kind) VALUES (?, ?, ?)", row)
        self.sweep()

    def _forget_approximation(self, name: str, error: segments.DamagedSegmentError) -> None:
        with self._database.write() as connection:
            known = connection.execute("DELETE FROM approximations WHERE name = ?", (name,)).rowcount
            (self._folder / (name + segments.SUFFIX)).unlink(missing_ok=True)
        if known and self.on_event:
            self.on_event(Event("warning", 0, note=f"{error}: the approximate index is built again"))

    def _verify(self, name: str) -> None:
        index = segments.read_segment(self._folder, name)
        ids = self._database.connection().execute("SELECT chunk FROM vectors WHERE segment = ?", (name,))
        strangers = {chunk for (chunk,) in ids}.difference(segments.ids_of(index).tolist())
        if strangers:
            raise segments.DamagedSegmentError(f"{name} lacks {len(strangers)} vectors that are entered for it")

    def _forget(self, name: str, error: segments.DamagedSegmentError) -> None:
        """Take a damaged file and its vectors out; they are made again."""
        with self._database.write() as connection:
            lost = connection.execute("DELETE FROM vectors WHERE segment = ?", (name,)).rowcount
            known = connection.execute("DELETE FROM segments WHERE name = ?", (name,)).rowcount
            (self._folder / (name + segments.SUFFIX)).unlink(missing_ok=True)
        with self._lock:
            self._loaded.pop(name, None)
        if known and self.on_event:  # otherwise another process has merged the file into a new one
            self.on_event(Event("warning", 0, note=f"{error}: {lost} vectors are made again"))

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

    def _merge_smallest(self) -> None:
        """Write the smallest files into one; a large one only with as many vectors again: few are moved often."""
        least = 1 + MOST_SMALL_SEGMENTS // 2
        names, _ = self._wasteful(self._database.connection(), least)
        for name in names:
            try:
                self._verify(name)
            except segments.DamagedSegmentError as error:
                self._forget(name, error)  # made again when it is needed: there are fewer files as it is
                return
        with self._database.write() as connection:
            if self._wasteful(connection, least)[0] == names:  # else another process has
                self._write_anew(connection, names)
        self.sweep()

    def _write_anew(self, connection: sqlite3.Connection, names: list[str]) -> None:
        """Write the live vectors of files into a new one, in the transaction of `connection`."""
        select = "SELECT chunk FROM vectors WHERE segment = ? ORDER BY chunk"
        rows = [np.array(connection.execute(select, (name,)).fetchall(), dtype=np.int64) for name in names]
        ids = [held[:, 0] for held in rows]
        vectors = [self._open(name).rows(held) for name, held in zip(names, ids, strict=True)]
        self._enter(connection, np.concatenate(ids), np.concatenate(vectors))

    def _merge(self) -> None:
        """Write small and half-dead files into new ones of at most 50,000 vectors, one transaction each."""
        self.check()
        done = False
        while not done:
            with self._database.write() as connection:
                group, dead = self._wasteful(connection)
                done = len(group) < 2 and not dead
                if not done:
                    self._write_anew(connection, group)
            self.sweep()

    def _wasteful(self, connection: sqlite3.Connection, least: int | None = None) -> tuple[list[str], int]:
        """Some of this embedder's files that are small or hold vectors of deleted chunks, to fill one file; and how
        many dead vectors they hold. Of more than `least` files, no file that outweighs those before it."""
        order = "live = count, live, name" if least is None else "live, name"
        rows = connection.execute(
            f"""SELECT name, live, count - live FROM
            (SELECT name, count, (SELECT count(*) FROM vectors WHERE segment = name) AS live FROM segments
            WHERE embedder = ?) WHERE live > 0 AND (live < count OR count < ?) ORDER BY {order}""",
            (self._embedder, SEGMENT_CHUNKS),
        )
        group: list[str] = []
        total = dead = 0
        for name, live, gone in rows.fetchall():
            if group and total + live > SEGMENT_CHUNKS:
                break
            if least is not None and len(group) >= least and live > total:
                break
            group.append(name)
            total, dead = total + live, dead + gone
        return group, dead

    def _has_strays(self) -> bool:
        connection = self._database.connection()
        return {path.name for path in self._folder.iterdir()} != self._named(connection)

    def _named(self, connection: sqlite3.Connection) -> set[str]:
        """The names of the files that some chunk needs."""
        select = """SELECT name FROM segments WHERE EXISTS (SELECT 1 FROM vectors WHERE segment = name)
            UNION SELECT name FROM approximations"""
        return {name + segments.SUFFIX for (name,) in connection.execute(select)}


def _best(hits: list[tuple[int, float]], k: int) -> list[tuple[int, float]]:
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]
