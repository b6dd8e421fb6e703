"""Writing the keyword index on disk, inside the caller's transaction. Searching it is `indexes/bm25.py`.

Its tables are those of `analysis.tables`, and `chunks.terms`, each chunk's length in terms.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

from readthrough.retrieval.analysis import TOKENIZERS, Analyzer, prepare, tables


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


def rebuild(connection: sqlite3.Connection) -> None:
    """Index every chunk again, after a change of the analysis. A text that is damaged is left out."""
    for table in TOKENIZERS:
        connection.execute(f"DROP TABLE {table}_uses")
        connection.execute(f"DROP TABLE {table}")
    for statement in tables():
        connection.execute(statement)
    analyzer = Analyzer()
    select = "SELECT chunks.id, start, stop FROM chunks JOIN splits ON splits.key = split WHERE document = ?"
    for document, packed in connection.execute("SELECT key, text FROM documents"):
        try:
            text = zlib.decompress(packed).decode("utf-8", "surrogatepass")
        except (zlib.error, UnicodeDecodeError):
            continue  # it cannot be shown either; `library check` tells
        rows = connection.execute(select, (document,)).fetchall()
        add(connection, analyzer, [row[0] for row in rows], [text[start:stop] for _, start, stop in rows])
