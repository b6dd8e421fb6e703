"""The manifest of a library's vector files as one value, kept as long as it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from readthrough.memory.vectors import LostVectorsError

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, eq=False)
class Manifest:
    """What the library says of one embedder's files, as long as it names the same ones.

    Attributes:
        names: the segments.
        ids: the chunks that have a vector, ascending; some may have been deleted since.
        places: for each of `ids`, which of `names` holds its vector.
        approximation: name and kind of the approximate index, None where there is none.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    places: np.ndarray
    approximation: tuple[str, str] | None

    @cached_property
    def files(self) -> tuple[Any, ...]:
        """What changes whenever a vector is added or moved."""
        return frozenset(self.names), self.approximation

    def groups(self, chunk_ids: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The segments that hold `chunk_ids` (ascending), each with those it holds, ascending.

        Raises:
            LostVectorsError: one has no vector.
        """
        if not len(chunk_ids):
            return
        rows = np.searchsorted(self.ids, chunk_ids)
        if rows[-1] == len(self.ids) or not np.array_equal(self.ids[rows], chunk_ids):
            raise LostVectorsError
        places = self.places[rows]
        order = np.argsort(places, kind="stable")
        present, starts = np.unique(places[order], return_index=True)
        for place, ids in zip(present.tolist(), np.split(chunk_ids[order], starts[1:]), strict=True):
            yield self.names[place], ids


def read_manifest(connection: sqlite3.Connection, embedder: str, kept: Manifest | None = None) -> Manifest:
    """The manifest of an embedder's files as it is now; `kept` where that names the same files."""
    with _reading(connection):
        select = "SELECT name FROM segments WHERE embedder = ? ORDER BY name"
        names = tuple(name for (name,) in connection.execute(select, (embedder,)))
        select = "SELECT name, kind FROM approximations WHERE embedder = ?"
        approximation = connection.execute(select, (embedder,)).fetchone()
        if kept is not None and kept.files == (frozenset(names), approximation):
            return kept
        if kept is None or not set(kept.names) <= set(names):
            kept = Manifest((), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32), None)
        return _longer(connection, kept, names, approximation)


def _longer(
    connection: sqlite3.Connection, kept: Manifest, names: tuple[str, ...], approximation: tuple[str, str] | None
) -> Manifest:
    """A manifest with the segments that were added to it: only these are read."""
    added = sorted(set(names).difference(kept.names))
    ids, places = [kept.ids], [kept.places]
    for place, name in enumerate(added, len(kept.names)):
        rows = connection.execute("SELECT chunk FROM vectors WHERE segment = ? ORDER BY chunk", (name,)).fetchall()
        ids.append(np.array(rows, dtype=np.int64).reshape(-1))
        places.append(np.full(len(rows), place, dtype=np.int32))
    chunks, segments = np.concatenate(ids), np.concatenate(places)
    if np.any(chunks[1:] <= chunks[:-1]):
        order = np.argsort(chunks, kind="stable")
        chunks, segments = chunks[order], segments[order]
        last = np.append(chunks[1:] != chunks[:-1], True)[: len(chunks)]  # a vector that was moved: where it is now
        chunks, segments = chunks[last], segments[last]
    return Manifest((*kept.names, *added), chunks, segments, approximation)


@contextmanager
def _reading(connection: sqlite3.Connection) -> Iterator[None]:
    """Several statements that see the same state."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
