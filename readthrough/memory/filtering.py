"""Which chunks pass a filter: worked out from what the library says of documents, before any index is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from readthrough.filters import Filter
from readthrough.types import Chunk, Document, Page, Section

if TYPE_CHECKING:
    from readthrough.memory.shelf import Entry

Spans = list[tuple[int, int]]


def is_named(entry: Entry, names: Sequence[str]) -> bool:
    """Whether one of `names` is the document's id, its path, a folder that it is in, or a pattern of its path."""
    path = os.path.abspath(entry.path)
    for name in filter(None, names):
        below = os.path.join(os.path.abspath(name), "")
        if name in (entry.id, entry.path) or path == os.path.abspath(name) or path.startswith(below):
            return True
        if fnmatchcase(os.path.basename(path), name) or fnmatchcase(path, below.rstrip(os.sep)):
            return True
    return False


def needs_text(wanted: Filter) -> bool:
    """Whether the document's text must be read to tell what passes."""
    return wanted.lines is not None


def passing(
    chunks: Sequence[Chunk], wanted: Filter, places: tuple[Sequence[Page], Sequence[Section]], text: Document | None
) -> list[int]:
    """The ids of the chunks of one document that pass, but for `Filter.documents`.

    Args:
        chunks: in reading order.
        wanted: the filter.
        places: the pages and sections of the document.
        text: the document, where `needs_text`.
    """
    end = chunks[-1].end if chunks else 0
    spans = [(wanted.start, end if wanted.end is None else wanted.end)]
    if wanted.pages is not None:
        first, last = wanted.pages
        spans = _both(spans, [(page.start, page.end) for page in places[0] if first <= page.number <= last])
    if wanted.section is not None:
        spans = _both(spans, sections(places[1], wanted.section))
    if wanted.lines is not None and text is not None:
        spans = _both(spans, [text.span_of_lines(*wanted.lines)])
    return [chunk.id for chunk in chunks if any(chunk.start < stop and chunk.end > start for start, stop in spans)]


def sections(known: Sequence[Section], wanted: str) -> Spans:
    """The spans of the sections with the words `wanted` in one of their headings; subsections belong to them."""
    words = f" {_words(wanted)} "
    return [(each.start, each.end) for each in known if any(words in f" {_words(name)} " for name in each.path)]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _both(one: Spans, other: Spans) -> Spans:
    """What lies in a span of both."""
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return [(start, stop) for start, stop in pairs if start < stop]
