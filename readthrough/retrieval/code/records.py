"""The table of symbols, one row a document. Every function works in the caller's transaction.

A row goes when its document goes. It is read as a whole: a graph needs the symbols of all files of a question.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

from readthrough.documents.grammars.base import Import
from readthrough.documents.symbols import VERSION, Definition, Symbols

TABLE = """CREATE TABLE symbols (
    document INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE, version INTEGER NOT NULL,
    definitions TEXT NOT NULL, uses TEXT NOT NULL, imports TEXT NOT NULL)"""


def add(connection: sqlite3.Connection, rows: Iterable[tuple[int, Symbols]]) -> None:
    """Keep the symbols of documents, each with its row (one that is gone is passed over)."""
    connection.executemany(
        """INSERT OR REPLACE INTO symbols (document, version, definitions, uses, imports)
        SELECT key, ?2, ?3, ?4, ?5 FROM documents WHERE key = ?1""",
        (
            (row, VERSION, *map(_packed, (symbols.definitions, symbols.references, map(astuple, symbols.imports))))
            for row, symbols in rows
        ),
    )


def missing(connection: sqlite3.Connection, documents: Sequence[int], languages: Sequence[str]) -> list[int]:
    """Those of the rows `documents` that are in one of the `languages` and have no symbols of this version."""
    select = """SELECT key FROM documents LEFT JOIN symbols ON symbols.document = key AND version = ?
        WHERE version IS NULL AND key IN (SELECT value FROM json_each(?))
        AND language IN (SELECT value FROM json_each(?)) ORDER BY key"""
    values = (VERSION, json.dumps(list(documents)), json.dumps(list(languages)))
    return [row for (row,) in connection.execute(select, values)]


def load(connection: sqlite3.Connection, documents: Sequence[int]) -> Iterator[tuple[int, Symbols]]:
    """The symbols of the rows `documents` that have any, each with its row."""
    select = """SELECT document, definitions, uses, imports FROM symbols
        WHERE version = ? AND document IN (SELECT value FROM json_each(?)) ORDER BY document"""
    for row, definitions, uses, imports in connection.execute(select, (VERSION, json.dumps(list(documents)))):
        made = (Definition(name, kind, tuple(path), *rest) for name, kind, path, *rest in json.loads(definitions))
        taken = (Import(module, tuple(names), line) for module, names, line in json.loads(imports))
        yield row, Symbols(tuple(made), json.loads(uses), tuple(taken))


def _packed(value: object) -> str:
    values = value if isinstance(value, dict) else list(value)  # type: ignore[call-overload]
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)
