"""The library on disk: every document that was read, indexed once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from readthrough.config import Spec
from readthrough.documents.base import AS_DETECTED, Chunker, Loading
from readthrough.documents.positions import up_to
from readthrough.errors import LibraryError
from readthrough.memory import cutting, holdings, store
from readthrough.memory.chunking import ByKind
from readthrough.memory.database import Database, guard
from readthrough.memory.holdings import Holding
from readthrough.memory.parsing import parse_missing
from readthrough.memory.served_vectors import ServedVectors
from readthrough.memory.shelf import Shelf
from readthrough.memory.shelving import Placed, Shelving
from readthrough.memory.token_vectors import TokenVectorStore
from readthrough.memory.vector_files import VectorFiles
from readthrough.memory.vectors import Keeper, Vectors
from readthrough.retrieval import facts
from readthrough.retrieval.analysis import Analyzer
from readthrough.retrieval.base import Embedder, Store
from readthrough.retrieval.embedders.open import DEFAULT as DEFAULT_EMBEDDER
from readthrough.retrieval.embedders.open import open_embedder
from readthrough.retrieval.facts import Extract
from readthrough.types import Document, Event

if TYPE_CHECKING:
    import sqlite3

SHRUNK_RATIO = 0.9
"""A library that grew beyond its limit is taken down to this part of it: not every further document costs others."""

OnEvent = Callable[[Event], None]
Result = TypeVar("Result")


class Library:
    """A folder with one SQLite file (documents, chunks, keywords) and the vector files. Open it with `Library.open`.

    Safe to use from several threads and several processes at once.
    """

    def __init__(
        self,
        home: Path,
        embedder: Embedder,
        chunker: Chunker,
        size_limit_bytes: int | None,
        on_event: OnEvent | None,
        store: Store | None = None,
    ) -> None:
        self.home = home
        self.on_event = on_event
        self._chunker = chunker
        self._size_limit_bytes = size_limit_bytes
        self._embedder = embedder
        self._embedder_name = embedder.name
        self._analyzer = Analyzer()
        folder = home / "vectors"
        with guard(home):
            for made in (home, folder):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = Database(home / "library.sqlite", on_event)
        files = VectorFiles(self._database, folder, self._embedder_name)
        self._keeper: Keeper = files
        if store is not None:
            self._keeper = ServedVectors(self._database, store, self._embedder_name, files)
        self._keeper.on_event = on_event
        self.vectors = Vectors(self._keeper, self._embedder_name, lambda: self.embedder, self.texts)
        self.token_vectors = TokenVectorStore(
            self._database, self._embedder_name, lambda: self.embedder, self.texts, on_event
        )
        self._recovering(self._keeper.sweep)

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        embedder: Embedder | Spec | None = None,
        chunker: Chunker | None = None,
        size_limit_bytes: int | None = None,
        on_event: OnEvent | None = None,
        store: Store | None = None,
    ) -> Library:
        """Open the library in the folder `home`, which is made where there is none.

        Args:
            home: the folder.
            embedder: an embedder, or what names one (see `open_embedder`); its weights are loaded when vectors are
                first needed. Vectors of another one are never mixed with its own: texts are embedded anew.
            chunker: how documents are split; source code at its definitions and the rest by sentences when left out.
            size_limit_bytes: above this, the documents that were used longest ago are taken out.
            on_event: hears of progress and warnings.
            store: the server that keeps the vectors; files in `home` when left out.

        Raises:
            LibraryError: it cannot be read or written, or a newer readthrough wrote it.
            UnknownNameError: no such embedder.
            WeightsError: the folder or hub id of a model is not there, or is none that may be loaded.
        """
        if embedder is None or isinstance(embedder, str | dict):
            embedder = open_embedder(embedder or DEFAULT_EMBEDDER)
        if chunker is None:
            chunker = ByKind(embedder)
        return cls(Path(home), embedder, chunker, size_limit_bytes, on_event, store)

    def shelve(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        loading: Loading = AS_DETECTED,
        stdin: bytes | None = None,
        vectors: bool = True,
        on_event: OnEvent | None = None,
        chunker: Chunker | None = None,
    ) -> Shelf:
        """Put files and folders on a shelf to ask; what the library already has is not read again.

        Args:
            paths: files and folders; `-` stands for `stdin`.
            loading: the text encoding, when detecting it is not wanted, and whether images of pages are recognised.
            stdin: bytes to read as a document, where `paths` names `-`.
            vectors: embed the chunks now; otherwise the first search that needs vectors does.
            on_event: hears of progress, in place of the library's own listener.
            chunker: how documents are split, in place of the library's own.

        Raises:
            InputError: a path is missing, a named file cannot be read, or (EmptyShelfError) nothing can be.
            LibraryError: the library cannot be read or written; what was entered before is kept.
        """
        self._keeper.on_event = listener = on_event or self.on_event
        shown = [os.fspath(path) for path in paths]
        splits = self._chunker if chunker is None else chunker
        return self._recovering(lambda: self._shelve(shown, loading, stdin, vectors, (splits, listener)))

    def _shelve(
        self,
        paths: Sequence[str],
        loading: Loading,
        stdin: bytes | None,
        vectors: bool,
        using: tuple[Chunker, OnEvent | None],
    ) -> Shelf:
        chunker, listener = using
        work = Shelving(self._database, self._analyzer, (chunker.fingerprint, chunker), loading, listener)
        work.run(paths, stdin)
        rows = [item.document for item in work.placed]
        with self._database.write() as connection:
            holdings.touch(connection, rows)
            holdings.forget_missing(connection, paths, rows)
        parse_missing(self._database, rows, listener)
        shelf = Shelf(self, work.placed, chunker.fingerprint, work.skipped)
        if vectors:
            self.vectors.ensure(shelf.chunk_array())
        if self._size_limit_bytes is not None and self.size() > self._size_limit_bytes:
            self._shrink(int(SHRUNK_RATIO * self._size_limit_bytes), frozenset(rows))
        return shelf

    def shelve_texts(self, documents: Iterable[Document], *, vectors: bool = True) -> Shelf:
        """Put texts that are no files on a shelf; what the library already has is not indexed again.

        `vectors` as for `shelve`. They stay until they are taken out: by `delete`, `prune` or `keep`.

        Raises:
            LibraryError: the library cannot be read or written.
        """
        given = tuple(documents)
        return self._recovering(lambda: self._shelve_texts(given, vectors))

    def as_of(self, shelf: Shelf, position: str, chunker: Chunker | None = None) -> Shelf:
        """The shelf with one of its documents up to a position (`chapter 12`, `book.txt: p. 120`); nothing after it can
        be read or found there.

        `chunker` as for `shelve`. Vectors that the whole document has are used; the first search makes the others.

        Raises:
            UsageError: it is no position, or does not say in which of several documents it is.
            InputError: the document has no such place; the hint names the nearest.
            LibraryError: the library cannot be read or written.
        """
        splits = self._chunker if chunker is None else chunker
        return self._recovering(lambda: self._as_of(shelf, position, splits))

    def _as_of(self, shelf: Shelf, position: str, chunker: Chunker) -> Shelf:
        entry, inside = cutting.placed(position, shelf.documents)
        cut = cutting.cut_at(self, entry, shelf.row(entry.id), inside)
        beginning = up_to(self.read_document(cut.row, entry.path), cut.end.end)
        work = Shelving(self._database, self._analyzer, (chunker.fingerprint, chunker), AS_DETECTED, self.on_event)
        work.enter([beginning])
        [entered] = work.placed
        with self._database.write() as connection:
            cutting.note(connection, entered.document, cut.row)
        parse_missing(self._database, [entered.document], self.on_event)
        placed = [entered if each is entry else Placed(each.path, shelf.row(each.id)) for each in shelf.documents]
        made = Shelf(self, placed, chunker.fingerprint, shelf.skipped, cut)
        self.vectors.copy(*cutting.same_chunks(shelf, entry.id, made, beginning.id))
        return made

    def _shelve_texts(self, documents: Sequence[Document], vectors: bool) -> Shelf:
        chunker = (self._chunker.fingerprint, self._chunker)
        work = Shelving(self._database, self._analyzer, chunker, AS_DETECTED, self.on_event)
        work.enter(documents)
        shelf = Shelf(self, work.placed, self._chunker.fingerprint, ())
        if vectors:
            self.vectors.ensure(shelf.chunk_array())
        return shelf

    def list(self) -> tuple[Holding, ...]:
        """What the library holds, last used first."""
        with self.guard():
            return tuple(holdings.all_of(self.connection()))

    def show(self, name: str) -> Holding:
        """What is known of one document, named by its id, the beginning of its id, or a path.

        Raises:
            InputError: there is no such document, or several.
        """
        with self.guard():
            return holdings.named(self.connection(), name)

    def delete(self, names: Iterable[str]) -> tuple[Holding, ...]:
        """Take documents out, named as for `show`; returns what was taken out. The files themselves stay.

        Raises:
            InputError: there is no such document, or several; then nothing is taken out.
        """
        with self.guard():
            doomed = tuple(holdings.named(self.connection(), name) for name in names)
            self._take_out(doomed)
        return doomed

    def keep(self, kind: str, ids: Collection[str]) -> None:
        """Take out all documents of a kind but those with these ids."""
        with self.guard():
            doomed = [held for held in holdings.all_of(self.connection()) if held.kind == kind and held.id not in ids]
            if doomed:
                self._take_out(doomed)

    def size(self) -> int:
        """What the library takes on disk, in bytes."""
        with self.guard():
            return self._database.size_bytes() + self._keeper.size_bytes()

    def prune(self, limit_bytes: int | None = None, unused_seconds: float | None = None) -> tuple[Holding, ...]:
        """Take out what was not used for `unused_seconds`, then what was used longest ago until the library takes
        at most `limit_bytes`; give the space back to the disk. Returns what was taken out."""
        with self.guard():
            doomed: tuple[Holding, ...] = ()
            if unused_seconds is not None:
                oldest = time.time() - unused_seconds
                doomed = tuple(holding for holding in holdings.all_of(self.connection()) if holding.used < oldest)
                self._take_out(doomed)
            self._settle()
            return doomed if limit_bytes is None else doomed + self._shrink(limit_bytes, frozenset())

    def check(self) -> tuple[str, ...]:
        """Verify the whole library; what is wrong, one line each.

        Damaged vectors are made again when they are needed; a damaged SQLite file is moved aside.
        """
        with self.guard():
            broken = self._database.problems()
            if broken:
                self._database.set_aside()
                return tuple(broken)
            return (*holdings.problems(self.connection()), *self._keeper.check(), *self.token_vectors.check())

    @property
    def embedder(self) -> Embedder:
        """The embedder; its weights are loaded on first use."""
        return self._embedder

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection to the library, for reading."""
        return self._database.connection()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the errors of SQLite and of the disk into LibraryError that names the library's file."""
        with guard(self._database.path):
            yield

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction, all of which is kept or nothing; see `Database.write`."""
        return self._database.write()

    def read_document(self, row: int, path: str) -> Document:
        """The document of a row, to be shown as `path`."""
        with self.guard():
            return store.read_document(self.connection(), row, path)

    def texts(self, chunk_ids: Sequence[int]) -> Sequence[str]:
        """The texts of chunks, in the order given."""
        return holdings.texts(self.connection(), chunk_ids)

    def remember_tokens(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Keep token counts: (chunk id, tokenizer id, tokens)."""
        with self._database.write() as connection:
            connection.executemany(
                """INSERT OR IGNORE INTO chunk_tokens (chunk, tokenizer, tokens)
                SELECT id, ?2, ?3 FROM chunks WHERE id = ?1""",
                rows,
            )

    def remember_facts(self, recipe: str, rows: Iterable[tuple[int, Extract]]) -> None:
        """Keep facts that a model wrote: (row of the document, what was extracted)."""
        with self._database.write() as connection:
            facts.add(connection, recipe, rows)

    def close(self) -> None:
        """Close the files. Calling it twice is fine."""
        self._keeper.close()
        self._database.close()

    def _recovering(self, work: Callable[[], Result]) -> Result:
        """Do `work`; where the file shows to be damaged, put it aside and do it again with the new one."""
        try:
            with self.guard():
                return work()
        except LibraryError as error:
            if not self._database.recover(error):
                raise
            with self.guard():
                return work()

    def _take_out(self, doomed: Iterable[Holding]) -> None:
        with self._database.write() as connection:
            store.delete_documents(connection, [holding.row for holding in doomed])
        self._keeper.sweep()

    def _settle(self) -> None:
        """Give the space of what was taken out back to the disk."""
        self._keeper.compact()
        self._database.shrink()

    def _shrink(self, limit_bytes: int, kept: frozenset[int]) -> tuple[Holding, ...]:
        """Take out what was used longest ago until the library takes at most `limit_bytes`, but not the rows `kept`."""
        doomed: tuple[Holding, ...] = ()
        while (size := self.size()) > limit_bytes:
            held = holdings.all_of(self.connection())
            bytes_a_character = size / max(1, sum(holding.characters for holding in held))
            batch: list[Holding] = []
            for holding in reversed(held):
                if holding.row not in kept and size > limit_bytes:
                    size -= int(holding.characters * bytes_a_character)
                    batch.append(holding)
            if not batch:
                break
            self._take_out(batch)
            self._settle()
            doomed += tuple(batch)
        return doomed
