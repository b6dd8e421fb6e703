"""The keyword index on disk: writing to its tables, inside the caller's transaction.

`words` is a contentless FTS5 table (it keeps the inverted index, not the text), `word_uses` shows its postings,
`chunks.terms` holds each chunk's length in terms. Searching is `indexes/bm25.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from readthrough.retrieval.analysis import TOKENIZER, Analyzer, prepare

TABLES = (
    f"CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='{TOKENIZER}')",
    "CREATE VIRTUAL TABLE word_uses USING fts5vocab(words, 'instance')",
)


def add(connection: sqlite3.Connection, analyzer: Analyzer, chunk_ids: Sequence[int], texts: Sequence[str]) -> None:
    """Index the `texts` of the rows `chunk_ids`, which already stand in `chunks`."""
    prepared = [prepare(text) for text in texts]
    connection.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", zip(chunk_ids, prepared, strict=True))
    lengths = analyzer.lengths(prepared)
    connection.executemany("UPDATE chunks SET terms = ? WHERE id = ?", zip(lengths, chunk_ids, strict=True))


def remove(connection: sqlite3.Connection, chunk_ids: Sequence[int], texts: Sequence[str]) -> None:
    """Take the `texts` of the rows `chunk_ids` out again; they must be the very texts that were added."""
    rows = [(chunk_id, prepare(text)) for chunk_id, text in zip(chunk_ids, texts, strict=True)]
    connection.executemany("INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", rows)
