"""The documents of one question: what workflows read and search."""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from readthrough import catalogue
from readthrough.documents.languages import DATA, GRAMMARS
from readthrough.errors import InputError, MissingExtraError, UsageError
from readthrough.filters import Filter
from readthrough.memory import filtering, store
from readthrough.memory.trees import KeptTrees
from readthrough.retrieval import facts
from readthrough.types import Chunk, Document, Hit, SkippedFile

if TYPE_CHECKING:
    import sqlite3

    from readthrough.documents.base import CountTokens
    from readthrough.memory.cutting import Cut
    from readthrough.memory.library import Library
    from readthrough.memory.shelving import Placed
    from readthrough.models.base import ModelBackend
    from readthrough.retrieval.base import Among, Embedder, Index, TokenBatch
    from readthrough.retrieval.code.graph import CodeGraph
    from readthrough.retrieval.code.outline import CodeMap
    from readthrough.retrieval.facts import Extract

CACHED_DOCUMENTS = 64
CACHED_FILTERS = 64
FOUND_FOR_MAP = 20
TOKEN_BATCH_CHUNKS = 2_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A document on a shelf, without its text. `id` is the SHA-256 of the file's bytes."""

    id: str
    path: str
    kind: str
    characters: int
    chunks: int
    language: str | None = None

    @property
    def is_program(self) -> bool:
        """Whether it is source code of a program, and not data or settings."""
        return self.kind == "code" and self.language not in DATA


class Shelf:
    """Some documents of a library, split one way. Safe to share by threads; lives as long as its library.

    Attributes:
        documents: what can be read, in the order given; a content that was given twice stands here once.
        skipped: what could not be read, and why.
        cut: what is left out of one document, which ends at a position here; None where nothing is.
    """

    def __init__(
        self,
        library: Library,
        placed: Sequence[Placed],
        chunker: str,
        skipped: Sequence[SkippedFile],
        cut: Cut | None = None,
    ) -> None:
        """Made by `Library.shelve`, and with a `cut` by `Library.as_of`."""
        self.cut = cut
        self._library = library
        self._lock = threading.Lock()
        self._indexes: dict[str, Index] = {}
        self._code: CodeGraph | None = None
        self._tokens: dict[str, Mapping[int, int]] = {}
        self._document = lru_cache(maxsize=CACHED_DOCUMENTS)(self._read_document)
        self._passing = lru_cache(maxsize=CACHED_FILTERS)(self._find_passing)
        connection = library.connection()
        chunks = store.read_chunks(connection, [item.document for item in placed], chunker)
        entries: dict[str, Entry] = {}
        self._rows: dict[str, int] = {}
        for item in placed:
            select = "SELECT id, kind, characters, language FROM documents WHERE key = ?"
            identity, kind, characters, language = connection.execute(select, (item.document,)).fetchone()
            if identity not in entries:
                count = len(chunks.get(item.document, ()))
                entries[identity] = Entry(identity, item.path, kind, characters, count, language)
                self._rows[identity] = item.document
        self._chunks = {identity: chunks.get(row, []) for identity, row in self._rows.items()}
        self._by_id = {chunk.id: chunk for group in self._chunks.values() for chunk in group}
        self._entries = entries
        self.documents = tuple(entries.values())
        self.skipped = tuple(skipped)

    def document(self, document_id: str) -> Document:
        """The document with its text.

        Raises:
            KeyError: it is not on this shelf.
            LibraryError: it was deleted from the library, or the stored text is damaged.
        """
        return self._document(document_id)

    def entry(self, document_id: str) -> Entry:
        """What is known of a document without its text; a KeyError where it is not on this shelf."""
        return self._entries[document_id]

    def row(self, document_id: str) -> int:
        """The row of a document in the library."""
        return self._rows[document_id]

    def chunk_ids(self, document_id: str | None = None) -> list[int]:
        """The chunk ids of one document, or of all, in reading order."""
        if document_id is not None:
            return [chunk.id for chunk in self._chunks[document_id]]
        return list(self._by_id)

    def document_ids(self) -> list[str]:
        """The ids of the documents, in the order given."""
        return list(self._entries)

    def chunk_array(self, among: Among = None) -> np.ndarray:
        """The ids of the chunks that pass `among`, ascending, int64. Not to be changed: it is kept.

        Raises:
            KeyError: a document is not on this shelf.
        """
        return self._passing(among if among is None or isinstance(among, Filter) else tuple(among))

    def sections(self, among: Among = None) -> list[str]:
        """The headings of the documents that `among` names, each once, as `Part I > Chapter 3`."""
        found = (store.read_places(self.connection(), self._rows[name])[1] for name in self._named(among))
        return list(dict.fromkeys(section.title for sections in found for section in sections))

    def require(self, within: Filter | None) -> None:
        """Make sure that something passes a filter.

        Raises:
            InputError: nothing does; the hint names the nearest document or heading.
        """
        with self._library.guard():
            if within is None or len(self.chunk_array(within)):
                return
            if not self._named(within):
                names = within.documents or ("",)
                known, wanted = [os.path.basename(entry.path) for entry in self.documents], os.path.basename(names[0])
            else:
                known, wanted = self.sections(within), within.section or ""
        near = catalogue.nearest(wanted, known)
        raise InputError(f"nothing in these texts passes the filter: {within}", hint=near and f"did you mean {near!r}?")

    def chunks(self, document_id: str) -> tuple[Chunk, ...]:
        """The chunks of a document in order, with their texts."""
        return tuple(self.get(self.chunk_ids(document_id)))

    def get(self, chunk_ids: Sequence[int]) -> list[Chunk]:
        """The chunks with their texts, in the order given.

        Raises:
            KeyError: a chunk is not on this shelf.
        """
        found: list[Chunk] = []
        for chunk_id in chunk_ids:
            chunk = self._by_id[chunk_id]
            found.append(replace(chunk, text=self.document(chunk.document).text[chunk.start : chunk.end]))
        return found

    def places(self, document_id: str | None = None) -> list[tuple[int, int, int]]:
        """`(chunk id, start, end)` of the chunks of one document, or of all, in reading order; no text is read."""
        chunks = self._by_id.values() if document_id is None else self._chunks[document_id]
        return [(chunk.id, chunk.start, chunk.end) for chunk in chunks]

    def chunk_at(self, document_id: str, offset: int) -> int:
        """The id of the chunk of a document that holds the place `offset`, or of the nearest one before it."""
        group = self._chunks[document_id]
        return group[max(0, bisect_right(group, offset, key=lambda chunk: chunk.start) - 1)].id

    def neighbours(self, chunk_id: int, before: int, after: int) -> list[Chunk]:
        """The chunk with up to `before` chunks before it and `after` behind it in its document, in reading order."""
        chunk = self._by_id[chunk_id]
        group = self._chunks[chunk.document][max(0, chunk.index - before) : chunk.index + after + 1]
        return self.get([neighbour.id for neighbour in group])

    def search(self, query: str, k: int, index: str = "hybrid", among: Among = None) -> list[Hit]:
        """The `k` chunks that fit the query best, best first.

        Args:
            query: any text.
            k: how many, at most.
            index: a name of the catalogue's `indexes`.
            among: a filter, or ids of the documents to search; None for all of the shelf.

        Raises:
            UnknownNameError: no such index.
            MissingExtraError: the index needs a package that is not installed.
        """
        with self._lock:
            if index not in self._indexes:
                self._indexes[index] = catalogue.find("indexes", index)(self)
        with self._library.guard():
            found = self._indexes[index].search(query, k, among)
        chunks = self.get([chunk_id for chunk_id, _ in found])
        return [Hit(chunk, score) for chunk, (_, score) in zip(chunks, found, strict=True)]

    def vectors(self, chunk_ids: Sequence[int]) -> np.ndarray:
        """The unit vectors `[len(chunk_ids), dimensions]`, float32; those that are missing are made now."""
        with self._library.guard():
            return self._library.vectors.get(np.array(chunk_ids, dtype=np.int64))

    def token_vectors(self, chunk_ids: np.ndarray) -> Iterator[TokenBatch]:
        """The vectors of the tokens of chunks (ascending), some chunks at a time; those that are missing are made now.

        Raises:
            ConfigError: the library's embedder gives none.
        """
        with self._library.guard():
            yield from self._library.token_vectors.batches(chunk_ids)

    def nearest(self, vector: np.ndarray, k: int, chunk_ids: np.ndarray) -> list[tuple[int, float]]:
        """The `k` of `chunk_ids` (ascending) nearest to a unit `vector` `[dimensions]` by cosine, best first."""
        return self._library.vectors.nearest(vector, k, chunk_ids)

    def count_tokens(self, model: ModelBackend) -> Mapping[int, int]:
        """How many tokens each chunk has for `model`, in reading order; counted once a tokenizer and kept."""
        if model.tokenizer_id not in self._tokens:
            self._tokens[model.tokenizer_id] = self._count_tokens(model)
        return self._tokens[model.tokenizer_id]

    def _count_tokens(self, model: ModelBackend) -> dict[int, int]:
        connection = self._library.connection()
        select = (
            "SELECT chunk, tokens FROM chunk_tokens WHERE tokenizer = ? AND chunk IN (SELECT value FROM json_each(?))"
        )
        wanted = json.dumps(list(self._by_id))
        with self._library.guard():
            known: dict[int, int] = dict(connection.execute(select, (model.tokenizer_id, wanted)))
            missing = [chunk_id for chunk_id in self._by_id if chunk_id not in known]
            for start in range(0, len(missing), TOKEN_BATCH_CHUNKS):
                batch = missing[start : start + TOKEN_BATCH_CHUNKS]
                counts = model.count_tokens([chunk.text for chunk in self.get(batch)])
                known.update(zip(batch, counts, strict=True))
                rows = [(chunk, model.tokenizer_id, count) for chunk, count in zip(batch, counts, strict=True)]
                self._library.remember_tokens(rows)
        return {chunk_id: known[chunk_id] for chunk_id in self._by_id}

    def facts(self, recipe: str) -> dict[str, list[Extract]]:
        """What was extracted from each document by `recipe` (see `retrieval.facts`), in reading order."""
        documents = {row: identity for identity, row in self._rows.items()}
        found: dict[str, list[Extract]] = {identity: [] for identity in self._rows}
        with self._library.guard():
            for row, extract in facts.load(self.connection(), recipe, list(documents)):
                found[documents[row]].append(extract)
        return found

    def remember_facts(self, recipe: str, extracts: Iterable[tuple[str, Extract]]) -> None:
        """Keep what was extracted, each with its document's id, until the document is taken out of the library."""
        self._library.remember_facts(recipe, [(self._rows[document], extract) for document, extract in extracts])

    @property
    def trees(self) -> KeptTrees:
        """The trees of summaries over these documents (see `retrieval.trees.growing`)."""
        firsts = {document: (group[0].id, len(group)) for document, group in self._chunks.items() if group}
        return KeptTrees(self._library, firsts)

    def code(self) -> CodeGraph:
        """The graph of the source files on this shelf, made on first use."""
        with self._lock:
            if self._code is None:
                self._code = self._read_code()
            return self._code

    def header(self, chunk_id: int) -> str:
        """Where a chunk stands: its file and line, and how the definitions begin that hold its beginning, a line each.

        Definitions that begin in the chunk itself are left out; of texts that are no source code there is the path.
        """
        chunk, graph = self._by_id[chunk_id], self.code()
        file = graph.number(chunk.document)
        around = [] if file is None else [graph.definitions[number] for number in graph.of_file(file)]
        lines = [made.signature for made in around if made.start < chunk.start < made.end]
        path = self._entries[chunk.document].path
        if file is not None:
            path = f"{graph.shown_path(file)}, line {self.document(chunk.document).line_at(chunk.start)}"
        return "\n".join([path, *("  " * depth + line for depth, line in enumerate(lines))])

    def rests_on(self, chunk_ids: Sequence[int], max_tokens: int, count_tokens: CountTokens) -> list[Hit]:
        """The chunks of the definitions that chunks of source code use or import, best first, in so many tokens.

        Args:
            chunk_ids: what was found, best first; none of it comes again.
            max_tokens: the most that the result may take, by `count_tokens`. A definition comes with its first chunk,
                and with all that it reaches over where these fit as well.
        """
        from readthrough.retrieval.code.related import rests_on

        graph = self.code()
        chosen: dict[int, float] = {}
        given, left = set(chunk_ids), max_tokens
        for number, score in rests_on(graph, self.get(chunk_ids)):
            made, document = graph.definitions[number], graph.files[graph.file_of[number]].document
            first, last = self.chunk_at(document, made.start), self.chunk_at(document, made.end - 1)
            whole = [each.id for each in self._chunks[document] if first <= each.id <= last]
            for ids in (whole, [first]):
                more = self.get([each for each in ids if each not in chosen and each not in given])
                tokens = sum(count_tokens([chunk.text for chunk in more])) if more else 0
                if more and tokens <= left:
                    chosen.update((chunk.id, score) for chunk in more)
                    left -= tokens
                    break
        return [Hit(chunk, score) for chunk, score in zip(self.get(list(chosen)), chosen.values(), strict=True)]

    def map(self, question: str, max_tokens: int, count_tokens: CountTokens | None = None) -> CodeMap:
        """The most important definitions of the source files, for a question (may be empty), in so many tokens.

        Tokens are counted by the tokenizer of the default embedder where `count_tokens` is left out.

        Raises:
            UsageError: `max_tokens` is not positive.
            InputError: no document is source code in a language that can be mapped.
            MissingExtraError: the grammars or the tokenizer are not installed.
        """
        from readthrough.documents.chunkers.tokens import count_by_default
        from readthrough.retrieval.code.outline import draw
        from readthrough.retrieval.code.ranking import rank

        if max_tokens < 1:
            raise UsageError(f"a map of {max_tokens} tokens: it must have at least one")
        graph = self.code()
        if not graph.files:
            raise self._no_code()
        hits = self.search(question, FOUND_FOR_MAP, "bm25") if question.strip() else []
        found = [(hit.chunk.document, hit.chunk.start, hit.chunk.end) for hit in hits]
        return draw(graph, rank(graph, question, found), max_tokens, count_tokens or count_by_default())

    def _no_code(self) -> InputError | MissingExtraError:
        languages = sorted({entry.language for entry in self.documents if entry.language in GRAMMARS})
        if languages:
            hint = "pip install 'readthrough[code]'"
            return MissingExtraError(f"the grammars of {', '.join(languages)} are not installed", hint=hint)
        hint = f"languages that can be: {', '.join(GRAMMARS)}"
        return InputError(f"none of {len(self.documents)} documents is source code that can be mapped", hint=hint)

    def _read_code(self) -> CodeGraph:
        from readthrough.retrieval.code import records
        from readthrough.retrieval.code.graph import CodeFile, CodeGraph

        with self._library.guard():
            symbols = dict(records.load(self.connection(), list(self._rows.values())))
        files = [
            CodeFile(entry.id, entry.path, entry.language, symbols[self._rows[entry.id]])
            for entry in self.documents
            if entry.language is not None and self._rows[entry.id] in symbols
        ]
        return CodeGraph(files)

    @property
    def embedder(self) -> Embedder:
        """The embedder of the library, loaded on first use."""
        return self._library.embedder

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection to the library, for reading."""
        return self._library.connection()

    def _named(self, among: Among) -> Sequence[str]:
        """The ids of the documents that `among` names."""
        if among is None or (isinstance(among, Filter) and among.documents is None):
            return list(self._chunks)
        if not isinstance(among, Filter):
            return among
        return [entry.id for entry in self.documents if filtering.is_named(entry, among.documents or ())]

    def _find_passing(self, among: Filter | tuple[str, ...] | None) -> np.ndarray:
        ids: list[int] = []
        for document in self._named(among):
            group = self._chunks[document]
            if isinstance(among, Filter):
                places = store.read_places(self.connection(), self._rows[document])
                text = self.document(document) if filtering.needs_text(among) else None
                ids += filtering.passing(group, among, places, text)
            else:
                ids += [chunk.id for chunk in group]
        array = np.unique(np.array(ids, dtype=np.int64))
        array.flags.writeable = False
        return array

    def _read_document(self, document_id: str) -> Document:
        return self._library.read_document(self._rows[document_id], self._entries[document_id].path)
