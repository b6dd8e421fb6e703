"""Putting files into the library: what is known is left alone, the rest is loaded, split and entered in batches."""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from readthrough.documents.base import DEFAULT_LIMITS, Chunker, Loading
from readthrough.documents.folder import display_name
from readthrough.documents.load import load_all
from readthrough.memory import cutting, store
from readthrough.memory.database import Database
from readthrough.retrieval.analysis import Analyzer
from readthrough.retrieval.trees.records import hand_over
from readthrough.types import Chunk, Document, Event, SkippedFile

BATCH_DOCUMENTS = 64
BATCH_CHUNKS = 2_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A document of this call: the path to show, and its row."""

    path: str
    document: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A document that waits to be entered; `chunks` is None where the library had it split already."""

    document: Document
    loading: str
    chunks: list[Chunk] | None


class Shelving:
    """One call of `Library.shelve`. Every batch is one transaction: what is entered stays, whatever comes after."""

    def __init__(
        self,
        database: Database,
        analyzer: Analyzer,
        chunker: tuple[str, Chunker],
        loading: Loading,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self._database = database
        self._analyzer = analyzer
        self._chunker_name, self._chunker = chunker
        self._loading = loading
        self._on_event = on_event
        self._sources: dict[str, store.Source] = {}
        self._known: dict[str, Placed] = {}
        self._waiting: list[_Loaded | Placed] = []
        self._waiting_chunks = 0
        self._entered_chunks = 0
        self.placed: list[Placed] = []
        self.skipped: list[SkippedFile] = []

    def run(self, paths: Sequence[str], stdin: bytes | None) -> None:
        """Read all of `paths`; the result is in `placed` and `skipped`.

        Raises:
            InputError: as `documents.load.load_all`.
            LibraryError: the library cannot be read or written.
        """
        items = load_all(
            paths,
            limits=replace(DEFAULT_LIMITS, ocr=self._loading.ocr),
            encoding=self._loading.encoding,
            stdin=None if stdin is None else io.BytesIO(stdin),
            known=self._is_known,
            on_event=self._on_event,
        )
        self.enter(items)

    def enter(self, items: Iterable[Document | Path | SkippedFile]) -> None:
        """Enter documents, files that are known, and what was skipped; the result is in `placed` and `skipped`.

        Raises:
            LibraryError: the library cannot be read or written.
        """
        for item in items:
            if isinstance(item, SkippedFile):
                self.skipped.append(item)
            else:
                waiting = self._known[display_name(item)] if isinstance(item, Path) else self._split(item)
                self._waiting.append(waiting)
            if len(self._waiting) >= BATCH_DOCUMENTS or self._waiting_chunks >= BATCH_CHUNKS:
                self._enter()
        self._enter()

    def _is_known(self, path: Path) -> bool:
        """Whether the file is as it was when it was entered, so that it need not be read."""
        name = display_name(path)
        connection = self._database.connection()
        try:
            source = self._sources[name] = store.Source.of(path)
            known = store.find_file(connection, source, self._loading)
            if known is None or store.find_split(connection, known.document, self._chunker_name) is None:
                return False
            if not known.unchanged and _fingerprint(path) != known.id:
                return False
        except OSError:
            return False  # the loader says what is wrong with the file
        if known.unchanged:
            del self._sources[name]  # nothing new to remember
        self._known[name] = Placed(name, known.document)
        return True

    def _split(self, document: Document) -> _Loaded:
        connection = self._database.connection()
        loading = store.loading_of(document.kind, self._loading)
        row = store.find_document(connection, document, loading)
        if row is not None and store.find_split(connection, row, self._chunker_name) is not None:
            return _Loaded(document, loading, None)
        chunks = self._chunker.split(document)
        self._waiting_chunks += len(chunks)
        return _Loaded(document, loading, chunks)

    def _enter(self) -> None:
        """Enter what waits, in one transaction, and take out what it replaces."""
        waiting, self._waiting = self._waiting, []
        new_chunks, self._waiting_chunks = self._waiting_chunks, 0
        if any(isinstance(item, _Loaded) or item.path in self._sources for item in waiting):
            with self._database.write() as connection:
                placed = [self._enter_one(connection, item) for item in waiting]
                for item, row in placed:
                    if row is not None:
                        hand_over(connection, row, item.document)
                        cutting.hand_over(connection, row, item.document)
                replaced = [row for _, row in placed if row is not None]
                current = {item.document for item, _ in placed}.union(item.document for item in self.placed)
                gone = set(store.unreferenced(connection, replaced)) - current
                store.delete_documents(connection, gone)
            self.placed += [item for item, _ in placed]
        else:
            self.placed += [item for item in waiting if isinstance(item, Placed)]
        self._entered_chunks += new_chunks
        if new_chunks and self._on_event:
            self._on_event(Event("index", self._entered_chunks, unit="chunks"))

    def _enter_one(self, connection: sqlite3.Connection, item: _Loaded | Placed) -> tuple[Placed, int | None]:
        """Enter one document; returns its place, and the row that its file held before."""
        if isinstance(item, Placed):
            placed = item
            row = connection.execute("SELECT loading FROM documents WHERE key = ?", (item.document,)).fetchone()
            loading = row[0] if row else ""
        else:
            document, loading = item.document, item.loading
            key = store.add_document(connection, document, loading)
            if store.find_split(connection, key, self._chunker_name) is None:
                chunks = item.chunks if item.chunks is not None else self._chunker.split(document)
                store.add_split(connection, self._analyzer, key, document, self._chunker_name, chunks)
            placed = Placed(document.path, key)
        source = self._sources.get(placed.path)
        if source is None:
            return placed, None
        return placed, store.remember_file(connection, source, placed.document, loading)


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
