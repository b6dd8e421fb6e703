"""What the library holds, seen from the outside: lists, names, texts, and what is wrong."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from readthrough.documents.folder import display_name, path_named
from readthrough.errors import InputError, LibraryError
from readthrough.memory import store


@dataclass(frozen=True, slots=True)
class Holding:
    """A document of the library. `id` is the SHA-256 of its bytes, times are seconds since 1970.

    Attributes:
        row: its row in the library; one content loaded in two ways is two rows.
        paths: the files that held it when they were last read, absolute.
        stored_bytes: what its compressed text takes.
        chunks: how many chunks it has, over all the ways it was split.
    """

    row: int
    id: str
    paths: tuple[str, ...]
    kind: str
    encoding: str | None
    language: str | None
    characters: int
    chunks: int
    stored_bytes: int
    added: float
    used: float


_SELECT = """SELECT key, id, kind, encoding, language, characters,
    (SELECT count(*) FROM chunks JOIN splits ON splits.key = split WHERE splits.document = documents.key),
    length(text), added, used FROM documents"""
_NO_CUTS = "WHERE key NOT IN (SELECT document FROM cuts)"


def all_of(connection: sqlite3.Connection, cuts: bool = False) -> list[Holding]:
    """Every document, last used first; with `cuts` those too that are the beginning of another one."""
    paths: dict[int, list[str]] = {}
    for row, path in connection.execute("SELECT document, path FROM files ORDER BY path"):
        paths.setdefault(row, []).append(path)
    found: list[Holding] = []
    for row, identity, kind, encoding, language, characters, chunks, stored, added, used in connection.execute(
        f"{_SELECT} {'' if cuts else _NO_CUTS} ORDER BY used DESC, key DESC"
    ):
        held = tuple(paths.get(row, ()))
        found.append(Holding(row, identity, held, kind, encoding, language, characters, chunks, stored, added, used))
    return found


def named(connection: sqlite3.Connection, name: str) -> Holding:
    """The document with an id, the beginning of an id, or a path.

    Raises:
        InputError: there is none, or there are several.
    """
    path = display_name(os.path.abspath(name))
    held = all_of(connection, cuts=True)
    found = [holding for holding in held if path in holding.paths]
    found = found or [holding for holding in held if holding.id.startswith(name)]
    if not found:
        hint = "`readthrough library list` shows ids and paths"
        raise InputError("the library has no document with this id or path", path=name, hint=hint)
    if len(found) > 1:
        ids = ", ".join(sorted({holding.id[:12] for holding in found}))
        raise InputError(f"{len(found)} documents fit: {ids}", path=name, hint="give more of the id, or a path")
    return found[0]


def touch(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Note that documents were used now."""
    connection.execute(
        "UPDATE documents SET used = ? WHERE key IN (SELECT value FROM json_each(?))", (time.time(), json.dumps(rows))
    )


def forget_missing(connection: sqlite3.Connection, folders: Sequence[str], kept: Collection[int]) -> None:
    """Forget the files that are no longer in `folders`, and what no file holds any more, but not the rows `kept`."""
    lost: set[int] = set()
    for folder in folders:
        if not Path(folder).is_dir():
            continue
        below = display_name(os.path.join(os.path.abspath(folder), ""))
        select = "SELECT path, document FROM files WHERE substr(path, 1, ?) = ?"
        for path, document in connection.execute(select, (len(below), below)).fetchall():
            if not os.path.lexists(path_named(path)):
                connection.execute("DELETE FROM files WHERE path = ?", (path,))
                lost.add(document)
    store.delete_documents(connection, set(store.unreferenced(connection, lost)).difference(kept))


def texts(connection: sqlite3.Connection, chunk_ids: Sequence[int]) -> list[str]:
    """The texts of chunks, in the order given.

    Raises:
        LibraryError: a chunk is no longer there.
    """
    rows = connection.execute(
        """SELECT chunks.id, document, start, stop FROM chunks JOIN splits ON splits.key = split
        WHERE chunks.id IN (SELECT value FROM json_each(?)) ORDER BY document""",
        (json.dumps(list(chunk_ids)),),
    ).fetchall()
    found: dict[int, str] = {}
    current, text = None, ""
    for chunk, document, start, stop in rows:
        if document != current:
            current, text = document, store.read_document(connection, document, f"document {document}").text
        found[chunk] = text[start:stop]
    if len(found) < len(set(chunk_ids)):
        raise LibraryError("chunks were taken out of the library while they were in use", hint="ask again")
    return [found[chunk_id] for chunk_id in chunk_ids]


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with what the tables say, one line each."""
    found = [f"a row of {row[0]} refers to nothing" for row in connection.execute("PRAGMA foreign_key_check")]
    for (row,) in connection.execute("SELECT key FROM documents").fetchall():
        found += _document_problems(connection, row)
    return found


def _document_problems(connection: sqlite3.Connection, row: int) -> list[str]:
    try:
        document = store.read_document(connection, row, f"document {row}")
    except LibraryError as error:
        return [str(error)]
    ends: dict[int, int] = {}
    select = """SELECT split, start, stop FROM chunks JOIN splits ON splits.key = split WHERE document = ?
        ORDER BY split, position"""
    for split, start, stop in connection.execute(select, (row,)):
        if start != ends.get(split, 0) or stop < start:
            return [f"the chunks of document {document.id[:12]} do not cover it"]
        ends[split] = stop
    if any(end != len(document.text) for end in ends.values()):
        return [f"the chunks of document {document.id[:12]} do not cover it"]
    return []
