"""The tables of the library, and the steps from an older schema to this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from readthrough.errors import LibraryError
from readthrough.memory import token_vectors
from readthrough.retrieval import analysis, facts, keywords
from readthrough.retrieval.code import records
from readthrough.retrieval.trees import records as tree_records

TABLES = (
    # one loaded file: `id` is the SHA-256 of its bytes, `loading` how they became text, `text` is zlib of UTF-8
    """CREATE TABLE documents (
        key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, loading TEXT NOT NULL, kind TEXT NOT NULL,
        encoding TEXT, language TEXT, characters INTEGER NOT NULL, text BLOB NOT NULL, pages TEXT NOT NULL,
        sections TEXT NOT NULL, added REAL NOT NULL, used REAL NOT NULL, UNIQUE (id, loading))""",
    # where a document was found, and what the file looked like then
    """CREATE TABLE files (
        path TEXT PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, loading TEXT NOT NULL,
        size_bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, changed_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, seen_ns INTEGER NOT NULL)""",
    "CREATE INDEX files_document ON files (document)",
    # a document as one chunker split it
    """CREATE TABLE splits (
        key INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        chunker TEXT NOT NULL, UNIQUE (document, chunker))""",
    # AUTOINCREMENT: the id of a deleted chunk never comes back, so a dead vector can never pass for a live one
    """CREATE TABLE chunks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, split INTEGER NOT NULL REFERENCES splits ON DELETE CASCADE,
        position INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, terms INTEGER NOT NULL DEFAULT 0,
        UNIQUE (split, position))""",
    """CREATE TABLE chunk_tokens (
        chunk INTEGER NOT NULL REFERENCES chunks ON DELETE CASCADE, tokenizer TEXT NOT NULL, tokens INTEGER NOT NULL,
        PRIMARY KEY (chunk, tokenizer)) WITHOUT ROWID""",
    # the manifest of the vector files: `name` is the SHA-256 of the file
    """CREATE TABLE segments (
        name TEXT PRIMARY KEY, embedder TEXT NOT NULL, dimensions INTEGER NOT NULL, count INTEGER NOT NULL)""",
    """CREATE TABLE vectors (
        chunk INTEGER NOT NULL REFERENCES chunks ON DELETE CASCADE, embedder TEXT NOT NULL,
        segment TEXT NOT NULL REFERENCES segments, PRIMARY KEY (chunk, embedder)) WITHOUT ROWID""",
    "CREATE INDEX vectors_segment ON vectors (segment)",
    *analysis.tables(),
)


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES:
        connection.execute(statement)


def _add_facts(connection: sqlite3.Connection) -> None:
    connection.execute(facts.TABLE)


def _add_vector_places(connection: sqlite3.Connection) -> None:
    """The approximate index of an embedder's vectors, `name` is the SHA-256 of its file (see `vector_files`); and
    what tells this library from others on a server (see `served_vectors`)."""
    connection.execute(
        "CREATE TABLE approximations (embedder TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL)"
    )
    connection.execute("CREATE TABLE identity AS SELECT lower(hex(randomblob(16))) AS id")


def _add_symbols(connection: sqlite3.Connection) -> None:
    connection.execute(records.TABLE)
    keywords.rebuild(connection)  # identifiers are split in another way


def _add_trees(connection: sqlite3.Connection) -> None:
    for statement in tree_records.TABLES:
        connection.execute(statement)


def _add_stems(connection: sqlite3.Connection) -> None:
    keywords.stem(connection)


def _add_token_vectors(connection: sqlite3.Connection) -> None:
    connection.execute(token_vectors.TABLE)


def _stem_turkish_again(connection: sqlite3.Connection) -> None:
    keywords.stem_again(connection, "tr")  # a word with an İ was two


def _add_cuts(connection: sqlite3.Connection) -> None:
    """Documents that are the beginning of another one, `whole` (see `memory.cutting`)."""
    connection.execute(
        """CREATE TABLE cuts (
            document INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
            whole INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE)"""
    )
    connection.execute("CREATE INDEX cuts_whole ON cuts (whole)")


Migrations = tuple[Callable[[sqlite3.Connection], None], ...]

MIGRATIONS: Migrations = (
    _create,
    _add_facts,
    _add_vector_places,
    _add_symbols,
    _add_trees,
    _add_stems,
    _add_token_vectors,
    _stem_turkish_again,
    _add_cuts,
)
"""Step n takes a library from version n to n + 1; a new file is version 0. Steps are added, never changed."""


def migrate(connection: sqlite3.Connection, path: str, steps: Migrations | None = None, what: str = "library") -> None:
    """Bring a file to this version, all steps in one transaction.

    Raises:
        LibraryError: the file was written by a newer version.
    """
    steps = steps or MIGRATIONS
    if _version(connection, path, steps, what) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[_version(connection, path, steps, what) :]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: str, steps: Migrations, what: str) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(steps):
        raise LibraryError(
            f"the {what} has schema version {version}, this readthrough knows {len(steps)}",
            path=path,
            hint="update readthrough, or use another folder with --home",
        )
    return version
