"""How a library splits what no chunker was named for."""

from __future__ import annotations

from functools import cached_property

from readthrough.documents.base import Chunker
from readthrough.documents.chunkers.code import CodeChunker
from readthrough.documents.chunkers.tokens import DEFAULT_SIZE_TOKENS, DEFAULT_WHOLE_TOKENS, TokenChunker
from readthrough.retrieval.base import Embedder
from readthrough.retrieval.embedders.open import DEFAULT
from readthrough.types import Chunk, Document

OF_LINES = frozenset(("code", "csv"))
"""Kinds of documents whose lines mean something, so that they are divided between them."""


class ByKind:
    """Source code and tables of text by lines, everything else by sentences, in tokens of the embedder that reads them.

    No chunk is longer than the embedder reads at once.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def fingerprint(self) -> str:
        """See `documents.base.Chunker`."""
        if self._embedder.name == DEFAULT:
            return " ".join(chunker.fingerprint for chunker in self._chunkers)
        rules = f"{TokenChunker.name}-{TokenChunker.version} {CodeChunker.name}-{CodeChunker.version}"
        sizes = f"{DEFAULT_SIZE_TOKENS}/{DEFAULT_WHOLE_TOKENS}"
        return f"{rules}:{sizes}:{self._embedder.name}"  # all that the chunks depend on, and needs no tokenizer

    def split(self, document: Document) -> list[Chunk]:
        """See `documents.base.Chunker`."""
        prose, code = self._chunkers
        return (code if document.kind in OF_LINES else prose).split(document)

    @cached_property
    def _chunkers(self) -> tuple[Chunker, Chunker]:
        if self._embedder.name == DEFAULT:
            return TokenChunker(whole_tokens=DEFAULT_WHOLE_TOKENS), CodeChunker()
        most, count, name = self._embedder.max_tokens, self._embedder.count_tokens, self._embedder.name
        size = min(DEFAULT_SIZE_TOKENS, most)
        whole = min(DEFAULT_WHOLE_TOKENS, most)
        return (
            TokenChunker(size, whole_tokens=whole, count_tokens=count, counter=name),
            CodeChunker(size, count_tokens=count, counter=name),
        )
