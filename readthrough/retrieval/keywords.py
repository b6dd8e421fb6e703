"""Writing the keyword index on disk, inside the caller's transaction. Searching it is `indexes/bm25.py`.

Its tables are those of `analysis`, `chunks.terms`, each chunk's length in terms, and `stemmed`, the language of those
documents whose words are stemmed by Snowball, which are in the table `snowball` in place of `stems`.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence

from readthrough.retrieval.analysis import SNOWBALL, TOKENIZERS, Analyzer, prepare, snowball_tables, tables
from readthrough.retrieval.tongues import STEMMERS, language_of
from readthrough.types import Document, Section

STEMMED_TABLES = (
    """CREATE TABLE stemmed (
        document INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE, language TEXT NOT NULL)""",
    "CREATE INDEX stemmed_language ON stemmed (language)",
    *snowball_tables(),
)


def indexed(document: Document, start: int, end: int) -> str:
    """What is indexed of a span of a document: its text, and what names its parts.

    Of source code these are the definitions around it, of a table of text its columns.

    A part of a long method is then found by the method's name and by its class's: over 12 questions about a
    repository with known lines, the chunks of 0.77 of these were among the first 10, without the names of 0.72.
    """
    title = document.section_at(start) if document.kind in ("code", "csv") else None
    return f"{title}\n{document.text[start:end]}" if title else document.text[start:end]


def note_language(connection: sqlite3.Connection, row: int, document: Document) -> None:
    """Find out in which language the document of a new row is to be stemmed; nothing is noted for English and code."""
    language = None if document.kind == "code" else language_of(document.text)
    if language in STEMMERS:
        connection.execute("INSERT INTO stemmed (document, language) VALUES (?, ?)", (row, language))


def language(connection: sqlite3.Connection, row: int) -> str | None:
    """The language in which the document of a row is stemmed, None for English."""
    found = connection.execute("SELECT language FROM stemmed WHERE document = ?", (row,)).fetchone()
    return found[0] if found else None


def languages(connection: sqlite3.Connection) -> list[str]:
    """The languages other than English in which documents of the library are stemmed."""
    known = json.dumps(list(STEMMERS))
    select = "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM stemmed WHERE language = value)"
    return [value for (value,) in connection.execute(select, (known,))]


def language_of_chunk(connection: sqlite3.Connection, chunk_id: int) -> str | None:
    """The language in which the document of a chunk is stemmed, None for English."""
    select = "SELECT language FROM chunks JOIN splits ON splits.key = split JOIN stemmed USING (document) WHERE id = ?"
    found = connection.execute(select, (chunk_id,)).fetchone()
    return found[0] if found else None


def add(
    connection: sqlite3.Connection,
    analyzer: Analyzer,
    chunk_ids: Sequence[int],
    texts: Sequence[str],
    language: str | None = None,
) -> None:
    """Index the `texts` (see `indexed`) of the rows `chunk_ids`, which already stand in `chunks`.

    `language` is that of their document in `stemmed`.
    """
    prepared = [prepare(text) for text in texts]
    for table in _analyses(language):
        rows = zip(chunk_ids, prepared, strict=True)
        connection.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", rows)
    if language is not None:
        _add_stems(connection, analyzer, zip(chunk_ids, prepared, strict=True), language)
    lengths = zip(analyzer.lengths(prepared), chunk_ids, strict=True)
    connection.executemany("UPDATE chunks SET terms = ? WHERE id = ?", lengths)


def remove(
    connection: sqlite3.Connection, chunk_ids: Sequence[int], texts: Sequence[str], language: str | None = None
) -> None:
    """Take the `texts` of the rows `chunk_ids` out again; they and their language must be those that were added."""
    rows = [(chunk_id, prepare(text)) for chunk_id, text in zip(chunk_ids, texts, strict=True)]
    for table in _analyses(language):
        connection.executemany(f"INSERT INTO {table}({table}, rowid, text) VALUES ('delete', ?, ?)", rows)
    if language is not None:
        connection.executemany(f"DELETE FROM {SNOWBALL} WHERE rowid = ?", ((chunk_id,) for chunk_id in chunk_ids))


def count(
    connection: sqlite3.Connection, analyzer: Analyzer, chunk_ids: Sequence[int]
) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """What the index holds of some chunks, counted anew from their texts: (chunk id, uses) by analysis and term."""
    wanted = json.dumps(list(chunk_ids))
    holding = """WHERE key IN (SELECT document FROM chunks JOIN splits ON splits.key = split
        WHERE chunks.id IN (SELECT value FROM json_each(?)))"""
    among, found = frozenset(chunk_ids), dict[str, dict[str, list[tuple[int, int]]]]()
    for row, document, spans in _documents(connection, holding, wanted):
        chunks = [chunk for chunk in spans if chunk[0] in among]
        prepared = [prepare(indexed(document, *span)) for _, *span in chunks]
        stemmed_in = language(connection, row)
        texts = dict.fromkeys(_analyses(stemmed_in), prepared)
        if stemmed_in is not None:
            texts[SNOWBALL] = [analyzer.stemmed(text, stemmed_in) for text in prepared]
        for analysis, given in texts.items():
            terms = found.setdefault(analysis, {})
            for term, place, uses in analyzer.uses(given, analysis):
                terms.setdefault(term, []).append((chunks[place][0], uses))
    return found


def _analyses(language: str | None) -> list[str]:
    """The tables that keep no text in which a document of a language stands."""
    return list(TOKENIZERS) if language is None else ["words"]


def _add_stems(
    connection: sqlite3.Connection, analyzer: Analyzer, rows: Iterable[tuple[int, str]], language: str
) -> None:
    stemmed = ((chunk_id, analyzer.stemmed(prepared, language)) for chunk_id, prepared in rows)
    connection.executemany(f"INSERT INTO {SNOWBALL}(rowid, text) VALUES (?, ?)", stemmed)


def optimize(connection: sqlite3.Connection) -> None:
    """Merge what additions and removals have left, so that its space can be given back."""
    for table in (*TOKENIZERS, SNOWBALL):
        connection.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")


def verify(connection: sqlite3.Connection) -> None:
    """Check the keyword index against itself.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    for table in (*TOKENIZERS, SNOWBALL):
        connection.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")


def rebuild(connection: sqlite3.Connection) -> None:
    """Index every chunk again, after a change of the analysis. A text that is damaged is left out."""
    for table in TOKENIZERS:
        connection.execute(f"DROP TABLE {table}_uses")
        connection.execute(f"DROP TABLE {table}")
    for statement in tables():
        connection.execute(statement)
    analyzer = Analyzer()
    for _, document, chunks in _documents(connection):
        add(connection, analyzer, [row[0] for row in chunks], [indexed(document, *span) for _, *span in chunks])


def stem(connection: sqlite3.Connection) -> None:
    """Make the tables of stemmed documents, and index those again that are in a language to stem."""
    for statement in STEMMED_TABLES:
        connection.execute(statement)
    analyzer = Analyzer()
    for row, document, chunks in _documents(connection):
        note_language(connection, row, document)
        found = language(connection, row)
        if found is not None:
            ids, texts = [chunk for chunk, _, _ in chunks], [indexed(document, *span) for _, *span in chunks]
            remove(connection, ids, texts)
            add(connection, analyzer, ids, texts, found)


def stem_again(connection: sqlite3.Connection, language: str) -> None:
    """Index the documents that are stemmed in a language again, after a change of its analysis."""
    analyzer = Analyzer()
    among = "WHERE key IN (SELECT document FROM stemmed WHERE language = ?)"
    for _, document, chunks in _documents(connection, among, language):
        rows = [(chunk, prepare(indexed(document, *span))) for chunk, *span in chunks]
        connection.executemany(f"DELETE FROM {SNOWBALL} WHERE rowid = ?", ((chunk,) for chunk, _ in rows))
        _add_stems(connection, analyzer, rows, language)


def _documents(
    connection: sqlite3.Connection, among: str = "", *values: str
) -> Iterator[tuple[int, Document, list[tuple[int, int, int]]]]:
    """Every document (or those that a clause picks): its row, as much of it as is indexed, (id, start, end) of its
    chunks."""
    select = "SELECT chunks.id, start, stop FROM chunks JOIN splits ON splits.key = split WHERE document = ?"
    for key, kind, packed, spans in connection.execute(
        f"SELECT key, kind, text, sections FROM documents {among}", values
    ):
        try:
            text = zlib.decompress(packed).decode("utf-8", "surrogatepass")
        except (zlib.error, UnicodeDecodeError):
            continue  # it cannot be shown either; `library check` tells
        sections = tuple(Section(tuple(names), start, end) for names, start, end in json.loads(spans))
        yield key, Document("", "", text, kind, sections=sections), connection.execute(select, (key,)).fetchall()
