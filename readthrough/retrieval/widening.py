"""From a ranking to what is read: repeats dropped, a token budget filled by what each chunk adds, neighbours, order.

Sources: Carbonell and Goldstein, "The Use of MMR", 1998, https://doi.org/10.1145/290941.291025, for `fill`; MacRAG,
arXiv 2505.06569, for parents and neighbours; Liu et al., "Lost in the Middle", arXiv 2307.03172, for `ends_first`.

Differs from the papers: relevance in `fill` is the place in the ranking, so that rankings of any index serve; a parent
is a section of the document and not a slice of fixed size.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from readthrough.types import Chunk, Document, Section

SAMENESS = 0.3
"""Of 0.1, 0.3 and 0.5 the one that found most within 700 tokens, whatever index ranked (docs/log.md)."""

_SHINGLE_WORDS = 3


class Texts(Protocol):
    """The documents that chunks come from. A `Shelf` is one."""

    def document(self, document_id: str) -> Document:
        """The document with its text."""
        ...

    def get(self, chunk_ids: Sequence[int]) -> list[Chunk]:
        """The chunks with their texts, in the order given."""
        ...

    def chunks(self, document_id: str) -> Sequence[Chunk]:
        """The chunks of a document in order."""
        ...

    def neighbours(self, chunk_id: int, before: int, after: int) -> list[Chunk]:
        """The chunk with those before and behind it in its document."""
        ...


def distinct(texts: Sequence[str], above: float = 0.8) -> list[int]:
    """The places of the texts, in order, that do not repeat an earlier one that stays.

    A text repeats another where at least `above` of the runs of three words of the shorter are in the other too;
    texts of fewer words repeat only what is the same.
    """
    kept: list[tuple[int, frozenset[tuple[str, ...]]]] = []
    for place, text in enumerate(texts):
        runs = _shingles(text)
        if not any(_overlap(runs, other) >= above for _, other in kept):
            kept.append((place, runs))
    return [place for place, _ in kept]


def fill(
    ranked: Sequence[int],
    tokens: Mapping[int, int],
    vectors: np.ndarray,
    budget_tokens: int,
    sameness: float = SAMENESS,
) -> list[int]:
    """Those of `ranked` that fit the budget together, chosen one by one by what each adds to those before it.

    A chunk's gain is `(1 - sameness)` times its relevance, which falls evenly from 1 at the first place to 0 at the
    last, less `sameness` times the largest cosine with a chunk that was chosen. With 0 they are taken by their places.

    Args:
        ranked: chunk ids, best first, each once.
        tokens: how many tokens each has.
        vectors: their unit vectors `[len(ranked), D]`.
        budget_tokens: the most tokens together.
        sameness: from 0 to 1.

    Returns:
        Chunk ids in the order in which they were chosen.

    Raises:
        ValueError: `sameness` is not from 0 to 1.
    """
    if not 0 <= sameness <= 1:
        raise ValueError(f"sameness must be from 0 to 1, got {sameness}")
    gains = (1 - sameness) * np.linspace(1.0, 0.0, len(ranked))
    sizes = np.array([tokens[chunk] for chunk in ranked])
    nearest = np.zeros(len(ranked))
    open_ = np.ones(len(ranked), dtype=bool)
    chosen: list[int] = []
    left = budget_tokens
    while (fits := open_ & (sizes <= left)).any():
        best = int(np.argmax(np.where(fits, gains - sameness * nearest, -np.inf)))
        chosen.append(ranked[best])
        open_[best] = False
        left -= int(sizes[best])
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen


def widened(texts: Texts, ranked: Sequence[int], neighbours: int = 0, parent_words: int = 0) -> list[int]:
    """Each chunk followed by its neighbours, the nearest first, and by the rest of its section; each once.

    Args:
        texts: where the chunks stand.
        ranked: chunk ids, best first.
        neighbours: how many chunks before and behind a chunk follow it.
        parent_words: the most words of a section that follows its chunk whole; 0 for none.
    """
    order: list[int] = []
    for chunk in texts.get(ranked):
        near = texts.neighbours(chunk.id, neighbours, neighbours)
        order += [other.id for other in sorted(near, key=lambda other: (abs(other.index - chunk.index), other.index))]
        if parent_words:
            order += _section(texts, chunk, parent_words)
    return list(dict.fromkeys(order))


def ends_first(ranked: Sequence[int]) -> list[int]:
    """The best at the beginning and the end, the least in the middle: 1, 3, 5, 6, 4, 2."""
    return [*ranked[::2], *reversed(ranked[1::2])]


def _section(texts: Texts, chunk: Chunk, most_words: int) -> list[int]:
    """The chunks of the outermost section around a chunk that has at most so many words, with its subsections."""
    document = texts.document(chunk.document)
    own = bisect_right(document.sections, chunk.start, key=lambda section: section.start) - 1
    if own < 0 or chunk.start >= document.sections[own].end:
        return []
    for depth in range(1, len(document.sections[own].path) + 1):
        start, end = _span(document.sections, own, depth)
        if len(document.text[start:end].split()) <= most_words:
            return [other.id for other in texts.chunks(chunk.document) if other.start < end and other.end > start]
    return []


def _span(sections: Sequence[Section], own: int, depth: int) -> tuple[int, int]:
    """The span of the sections around number `own` whose heading paths begin with the same `depth` headings."""
    path = sections[own].path[:depth]
    first = last = own
    while first and sections[first - 1].path[:depth] == path:
        first -= 1
    while last + 1 < len(sections) and sections[last + 1].path[:depth] == path:
        last += 1
    return sections[first].start, sections[last].end


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    runs = [tuple(words[at : at + _SHINGLE_WORDS]) for at in range(max(1, len(words) - _SHINGLE_WORDS + 1))]
    return frozenset(runs)


def _overlap(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / min(len(one), len(other))
