"""Passages: how chunks are shown to a model, and how they are put together into windows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from readthrough.types import Chunk

if TYPE_CHECKING:
    from readthrough.agents.runs.services import Services
    from readthrough.memory.shelf import Shelf

_BREAK = r"\n\r\f\v\x85\u2028\u2029"
_LINE_START = rf"(?<![^{_BREAK}])(?=[ \t\u00a0\u200b\ufeff]*"
_MARK = re.compile(_LINE_START + r"(?:\[\d+\]|(?:question|system|user|assistant)[ \t]*:))", re.IGNORECASE)
_ASKED = re.compile(_LINE_START + r"question[ \t]*:)", re.IGNORECASE)
_OPTION = re.compile(_LINE_START + r"[A-Z]\. )")
# The number of a passage, and the blank line before it.
_NUMBER_TOKENS = 8
_WRAPPED = re.compile(r"(?<=\S)[ \t]*\n[ \t]*(?=[^\s\d*•>|#=-])")


def unwrap(text: str) -> str:
    """Prose with its hard-wrapped lines joined; blank lines, lists, tables and headings stay as they are."""
    return _WRAPPED.sub(" ", text.strip())


def as_data(text: str) -> str:
    """Text of a document as it may stand in a prompt: what looks like the prompt's own marks is quoted with `> `.

    Marks stand at the beginning of a line: the number of a passage (`[2]`), the word before a question or a turn, and
    the letters of options where the text also holds such a question. Other text comes back as it is; done twice it
    is the same. (Special tokens that are spelled out are the model backend's care.)
    """
    if _ASKED.search(text):
        text = _OPTION.sub("> ", text)
    return _MARK.sub("> ", text)


def numbered(texts: Iterable[str]) -> str:
    """Texts of documents as numbered passages, `[1] ...`, a blank line between two."""
    return "\n\n".join(f"[{number}] {as_data(text)}" for number, text in enumerate(texts, 1))


def unwrapped(chunks: Iterable[Chunk], shelf: Shelf) -> list[str]:
    """Each chunk's text without the line breaks of its page; rows of a table keep theirs, under the columns' names."""
    return [
        _rows(chunk, shelf) if shelf.entry(chunk.document).kind == "csv" else unwrap(chunk.text) for chunk in chunks
    ]


def shown(chunks: Sequence[Chunk], shelf: Shelf) -> list[str]:
    """`unwrapped`, but code and data as they stand, programs under a header."""
    found = []
    for chunk, text in zip(chunks, unwrapped(chunks, shelf), strict=True):
        entry = shelf.entry(chunk.document)
        plain = chunk.text.strip("\n") if entry.kind == "code" else text
        found.append(f"{shelf.header(chunk.id)}\n{plain}" if entry.is_program else plain)
    return found


def _rows(chunk: Chunk, shelf: Shelf) -> str:
    names = shelf.document(chunk.document).section_at(chunk.start) if chunk.start else None
    return f"{names}\n{chunk.text.strip()}" if names else chunk.text.strip()


def section_text(chunks: Iterable[Chunk]) -> str:
    """Chunks of documents as one text to read; a blank line where two do not follow each other."""
    parts: list[str] = []
    end: tuple[str, int] | None = None
    for chunk in chunks:
        follows = end is None or end == (chunk.document, chunk.start)
        parts.append(chunk.text if follows else f"\n\n{chunk.text}")
        end = (chunk.document, chunk.end)
    return as_data("".join(parts).strip())


def in_reading_order(chunks: Iterable[Chunk], documents: Sequence[str]) -> list[Chunk]:
    """Chunks by document (in the order of `documents`), then by position, each once."""
    rank = {document: position for position, document in enumerate(documents)}
    unique = {chunk.id: chunk for chunk in chunks}
    return sorted(unique.values(), key=lambda chunk: (rank[chunk.document], chunk.start))


def within_budget(ids: Iterable[int], tokens: Mapping[int, int], budget_tokens: int) -> list[int]:
    """The first of `ids`, in order, that fit the budget together; one that does not fit is passed over."""
    kept: list[int] = []
    left = budget_tokens
    for chunk in ids:
        if tokens[chunk] <= left and chunk not in kept:
            kept.append(chunk)
            left -= tokens[chunk]
    return kept


def prompt_tokens(services: Services) -> dict[int, int]:
    """How many tokens each chunk takes of a prompt, at most: those of its text, of what `as_data` may put into it, and
    of a blank line before it.
    """
    tokens = services.shelf.count_tokens(services.model)
    return {chunk: tokens[chunk] + 1 + _marks(services.shelf.get([chunk])[0].text) for chunk in tokens}


def shown_tokens(services: Services, ids: Sequence[int]) -> dict[int, int]:
    """How many tokens each chunk takes of a prompt, at most, where it is `shown`: with its header or columns' names,
    and a number before it.
    """
    texts = shown(services.shelf.get(ids), services.shelf)
    counts = services.count_tokens(texts)
    return {chunk: count + _NUMBER_TOKENS + _marks(text) for chunk, count, text in zip(ids, counts, texts, strict=True)}


def _marks(text: str) -> int:
    """Tokens of the marks in a text, whatever it stands beside: two each."""
    return 2 * (len(_MARK.findall(text)) + len(_OPTION.findall(text)))


def windows(ids: Sequence[int], tokens: Mapping[int, int], window_tokens: int) -> list[list[int]]:
    """Consecutive ids packed in order into as few windows as can be; every id is in exactly one.

    A window depends on nothing that comes after it: where a text is edited, those before the edit stay as they are.

    Raises:
        ValueError: one chunk alone is larger than the window.
    """
    largest = max((tokens[chunk] for chunk in ids), default=0)
    if largest > window_tokens:
        raise ValueError(f"a chunk has {largest} tokens, the window {window_tokens}")
    filled: list[list[int]] = []
    left = 0
    for chunk in ids:
        if not filled or tokens[chunk] > left:
            filled.append([])
            left = window_tokens
        filled[-1].append(chunk)
        left -= tokens[chunk]
    return filled


def evened(ids: Sequence[int], tokens: Mapping[int, int], window_tokens: int) -> list[list[int]]:
    """`windows`, evened out so that the last is not a small remainder."""
    greedy = windows(ids, tokens, window_tokens)
    largest, total = max((tokens[each] for each in ids), default=0), sum(tokens[each] for each in ids)
    even = windows(ids, tokens, min(window_tokens, -(-total // max(1, len(greedy))) + largest))
    return even if len(even) <= len(greedy) else greedy
