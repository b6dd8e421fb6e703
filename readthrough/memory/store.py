"""Rows of the library: documents, the files they came from, their chunks. Every function works in the caller's
transaction."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from readthrough.documents.base import Loading
from readthrough.documents.folder import display_name
from readthrough.errors import LibraryError
from readthrough.retrieval import keywords
from readthrough.retrieval.analysis import Analyzer
from readthrough.types import Chunk, Document, Page, Section

LOADING_VERSION = 1
"""Raised when a loader or chunker gives another result for the same file: what was indexed before is then redone."""
LOADING_VERSIONS = {"code": 2}
"""The same for the documents of one loader, where it is another."""

RACY_NS = 2_000_000_000
"""A file changed so shortly before it was looked at may change again within the same tick of its clock."""


@dataclass(frozen=True, slots=True)
class FileMark:
    """What a file looks like from outside; any change of its content changes this, unless within one clock tick."""

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileMark:
        """The mark of the file at `path` now."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document comes from: the absolute path as text, its mark before it was read, and when that was."""

    path: str
    mark: FileMark
    seen_ns: int

    @classmethod
    def of(cls, path: Path) -> Source:
        """The file at `path` as it is now."""
        return cls(display_name(os.path.abspath(path)), FileMark.of(path), time.time_ns())


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the library remembers of a file: its document's row and id, and whether its mark proves it unchanged."""

    document: int
    id: str
    unchanged: bool


WITH_IMAGES = frozenset(("pdf", "eml"))
"""The loaders whose texts depend on the languages in which images of pages are recognised."""


def loading_of(kind: str, loading: Loading) -> str:
    """How bytes become text: two documents of the same bytes and the same loading are the same."""
    shown = f"{kind}/{LOADING_VERSIONS.get(kind, LOADING_VERSION)}/{loading.encoding or 'detected'}"
    return f"{shown}/{loading.ocr}" if loading.ocr and kind in WITH_IMAGES else shown


def find_file(connection: sqlite3.Connection, source: Source, loading: Loading) -> KnownFile | None:
    """What is known of a file that was read before in this way."""
    row = connection.execute(
        """SELECT documents.key, documents.id, documents.kind, files.loading, size_bytes, modified_ns, changed_ns,
        inode, seen_ns FROM files JOIN documents ON documents.key = files.document WHERE path = ?""",
        (source.path,),
    ).fetchone()
    if row is None or row[3] != loading_of(row[2], loading):
        return None
    quiet = row[8] - max(row[5], row[6]) > RACY_NS
    return KnownFile(row[0], row[1], quiet and row[4:8] == astuple(source.mark))


def find_document(connection: sqlite3.Connection, document: Document, loading: str) -> int | None:
    """The row of a document with the same bytes and loading."""
    row = connection.execute(
        "SELECT key FROM documents WHERE id = ? AND loading = ?", (document.id, loading)
    ).fetchone()
    return row[0] if row else None


def add_document(connection: sqlite3.Connection, document: Document, loading: str) -> int:
    """The row of the document, made where there is none."""
    known = find_document(connection, document, loading)
    if known is not None:
        return known
    now = time.time()
    cursor = connection.execute(
        """INSERT INTO documents (id, loading, kind, encoding, language, characters, text, pages, sections, added, used)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            document.id,
            loading,
            document.kind,
            document.encoding,
            document.language,
            len(document.text),
            zlib.compress(document.text.encode("utf-8", "surrogatepass"), 1),
            json.dumps([astuple(page) for page in document.pages]),
            json.dumps([astuple(section) for section in document.sections]),
            now,
            now,
        ),
    )
    row = int(cursor.lastrowid or 0)
    keywords.note_language(connection, row, document)
    return row


def read_document(connection: sqlite3.Connection, key: int, path: str) -> Document:
    """The document of a row, to be shown as `path`.

    Raises:
        LibraryError: the row is gone, or its text is damaged.
    """
    row = connection.execute(
        "SELECT id, text, kind, pages, sections, encoding, language FROM documents WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        raise LibraryError("the document is no longer in the library", path=path, hint="ask again: it is indexed anew")
    identity, packed, kind, pages, sections, encoding, language = row
    try:
        text = zlib.decompress(packed).decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeDecodeError) as error:
        hint = f"`readthrough library delete {identity[:12]}`, then ask again"
        raise LibraryError(f"the stored text is damaged: {error}", path=path, hint=hint) from error
    return Document(
        id=identity,
        path=path,
        text=text,
        kind=kind,
        pages=tuple(Page(*page) for page in json.loads(pages)),
        sections=tuple(Section(tuple(names), start, end) for names, start, end in json.loads(sections)),
        encoding=encoding,
        language=language,
    )


def read_places(connection: sqlite3.Connection, key: int) -> tuple[list[Page], list[Section]]:
    """The pages and sections of the document of a row, without its text; none where the row is gone."""
    row = connection.execute("SELECT pages, sections FROM documents WHERE key = ?", (key,)).fetchone() or ("[]", "[]")
    pages = [Page(*page) for page in json.loads(row[0])]
    return pages, [Section(tuple(names), start, end) for names, start, end in json.loads(row[1])]


def read_chunks(connection: sqlite3.Connection, documents: Sequence[int], chunker: str) -> dict[int, list[Chunk]]:
    """The chunks of the rows `documents` in reading order, without their texts."""
    rows = connection.execute(
        """SELECT documents.key, documents.id, chunks.id, position, start, stop FROM documents
        JOIN splits ON splits.document = documents.key AND splits.chunker = ? JOIN chunks ON chunks.split = splits.key
        WHERE documents.key IN (SELECT value FROM json_each(?)) ORDER BY documents.key, position""",
        (chunker, json.dumps(list(documents))),
    )
    found: dict[int, list[Chunk]] = {}
    for key, document, chunk, position, start, stop in rows:
        found.setdefault(key, []).append(Chunk(chunk, document, position, start, stop, ""))
    return found


def remember_file(connection: sqlite3.Connection, source: Source, document: int, loading: str) -> int | None:
    """Note that a file holds a document; returns the row of the other document that it held before."""
    before = connection.execute("SELECT document FROM files WHERE path = ?", (source.path,)).fetchone()
    connection.execute(
        """INSERT OR REPLACE INTO files (path, document, loading, size_bytes, modified_ns, changed_ns, inode, seen_ns)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (source.path, document, loading, *astuple(source.mark), source.seen_ns),
    )
    return before[0] if before and before[0] != document else None


def find_split(connection: sqlite3.Connection, document: int, chunker: str) -> int | None:
    """The row of the document's split by a chunker."""
    select = "SELECT key FROM splits WHERE document = ? AND chunker = ?"
    row = connection.execute(select, (document, chunker)).fetchone()
    return row[0] if row else None


def add_split(
    connection: sqlite3.Connection,
    analyzer: Analyzer,
    row: int,
    document: Document,
    chunker: str,
    chunks: Sequence[Chunk],
) -> int:
    """The row of the split of a document and its row, made with its chunks and their keywords where there is none."""
    known = find_split(connection, row, chunker)
    if known is not None:
        return known
    cursor = connection.execute("INSERT INTO splits (document, chunker) VALUES (?, ?)", (row, chunker))
    split = int(cursor.lastrowid or 0)
    connection.executemany(
        "INSERT INTO chunks (split, position, start, stop) VALUES (?, ?, ?, ?)",
        ((split, chunk.index, chunk.start, chunk.end) for chunk in chunks),
    )
    ids = [
        chunk for (chunk,) in connection.execute("SELECT id FROM chunks WHERE split = ? ORDER BY position", (split,))
    ]
    texts = [keywords.indexed(document, chunk.start, chunk.end) for chunk in chunks]
    keywords.add(connection, analyzer, ids, texts, keywords.language(connection, row))
    return split


def unreferenced(connection: sqlite3.Connection, documents: Collection[int]) -> list[int]:
    """Those of the documents that no file holds any more."""
    select = "SELECT 1 FROM files WHERE document = ?"
    return [key for key in documents if connection.execute(select, (key,)).fetchone() is None]


def delete_documents(connection: sqlite3.Connection, documents: Collection[int]) -> None:
    """Take documents out with all that hangs on them: files, splits, chunks, keywords, vectors, token counts.

    Those that are the beginning of one of them (see `memory.cutting`) go with it.
    """
    for key in documents:
        cuts = connection.execute("SELECT document FROM cuts WHERE whole = ?", (key,)).fetchall()
        delete_documents(connection, [cut for (cut,) in cuts])
        _remove_keywords(connection, key)
        connection.execute("DELETE FROM documents WHERE key = ?", (key,))


def _remove_keywords(connection: sqlite3.Connection, document: int) -> None:
    try:
        whole = read_document(connection, document, path=f"document {document}")
    except LibraryError:  # a damaged text cannot be taken out of the index; its chunk ids never come back, so
        return  # what stays there is never found
    rows = connection.execute(
        "SELECT chunks.id, start, stop FROM chunks JOIN splits ON splits.key = split WHERE document = ?", (document,)
    ).fetchall()
    texts = [keywords.indexed(whole, start, stop) for _, start, stop in rows]
    keywords.remove(connection, [row[0] for row in rows], texts, keywords.language(connection, document))
