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
        return self.names, self.approximation

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
        if kept is not None and kept.files == (names, approximation):
            return kept
        places = {name: place for place, name in enumerate(names)}
        select = "SELECT chunk, segment FROM vectors WHERE embedder = ? ORDER BY chunk"
        rows = [(chunk, places[name]) for chunk, name in connection.execute(select, (embedder,))]
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Manifest(names, np.ascontiguousarray(table[:, 0]), table[:, 1].astype(np.int32), approximation)


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
