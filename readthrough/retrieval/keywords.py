"""Writing the keyword index on disk, inside the caller's transaction. Searching it is `indexes/bm25.py`.

Its tables are those of `analysis.tables`, and `chunks.terms`, each chunk's length in terms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from readthrough.retrieval.analysis import TOKENIZERS, Analyzer, prepare


def add(connection: sqlite3.Connection, analyzer: Analyzer, chunk_ids: Sequence[int], texts: Sequence[str]) -> None:
    """Index the `texts` of the rows `chunk_ids`, which already stand in `chunks`."""
    prepared = [prepare(text) for text in texts]
    for table in TOKENIZERS:
        rows = zip(chunk_ids, prepared, strict=True)
        connection.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", rows)
    lengths = zip(analyzer.lengths(prepared), chunk_ids, strict=True)
    connection.executemany("UPDATE chunks SET terms = ? WHERE id = ?", lengths)


def remove(connection: sqlite3.Connection, chunk_ids: Sequence[int], texts: Sequence[str]) -> None:
    """Take the `texts` of the rows `chunk_ids` out again; they must be the very texts that were added."""
    rows = [(chunk_id, prepare(text)) for chunk_id, text in zip(chunk_ids, texts, strict=True)]
    for table in TOKENIZERS:
        connection.executemany(f"INSERT INTO {table}({table}, rowid, text) VALUES ('delete', ?, ?)", rows)


def optimize(connection: sqlite3.Connection) -> None:
    """Merge what additions and removals have left, so that its space can be given back."""
    for table in TOKENIZERS:
        connection.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")


def verify(connection: sqlite3.Connection) -> None:
    """Check the keyword index against itself.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    for table in TOKENIZERS:
        connection.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")
