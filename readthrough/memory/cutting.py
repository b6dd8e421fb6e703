"""A shelf as of a position: one of its documents ends there, as if nothing had ever been written after it.

The beginning of a document is a document of its own in the library, with its own chunks, keywords, vectors, facts,
trees and symbols: nothing that was made of the rest can be found. It goes when the whole goes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from readthrough.asof import AsOf
from readthrough.documents.positions import FORMS, end_of, split_name, up_to
from readthrough.errors import InputError, UsageError

if TYPE_CHECKING:
    from readthrough.memory.library import Library
    from readthrough.memory.shelf import Entry, Shelf
    from readthrough.models.base import ModelBackend

_SHOWN = 4
_COUNTED = 20_000  # characters at once: tokenizers warn of texts that are longer than a window


@dataclass(frozen=True)
class Cut:
    """What a shelf lacks: the rest of one of its documents.

    Attributes:
        end: where it was cut; the tokens of the rest are not counted there.
        whole_id: the id of the whole document.
        row: its row in the library.
    """

    library: Library
    end: AsOf
    whole_id: str
    row: int
    _counts: dict[str, int] = field(default_factory=dict, repr=False)

    def as_of(self, model: ModelBackend) -> AsOf:
        """Where the document was cut, with the tokens of the rest for `model`; they are counted once a tokenizer."""
        if model.tokenizer_id not in self._counts:
            text = self.library.read_document(self.row, self.end.document).text
            parts = [text[start : start + _COUNTED] for start in range(self.end.end, len(text), _COUNTED)]
            self._counts[model.tokenizer_id] = sum(model.count_tokens(parts)) if parts else 0
        return replace(self.end, unread_tokens=self._counts[model.tokenizer_id])


def placed(position: str, entries: Sequence[Entry]) -> tuple[Entry, str]:
    """The document that a position is in, and the position in it: that named `FILE: chapter 12`, or the only one.

    Raises:
        UsageError: there are several documents, and none is named, or more than one.
    """
    named = {name: [entry for entry in entries if name in _names(entry)] for entry in entries for name in _names(entry)}
    name, position = split_name(position, list(named))
    found = list(entries) if name is None else named[name]
    if len(found) == 1:
        return found[0], position
    shown = [repr(os.path.basename(entry.path)) for entry in found[:_SHOWN]]
    known = ", ".join(shown) + (", ..." if len(found) > _SHOWN else "")
    what = "in which document?" if name is None else f"{name!r} names several documents"
    raise UsageError(f"as of {position!r}: {what} There are {len(found)}: {known}", hint="write `FILE: chapter 12`")


def cut_at(library: Library, entry: Entry, row: int, position: str) -> Cut:
    """Where a position cuts the document of an entry.

    Raises:
        UsageError, InputError: see `documents.positions.end_of`.
    """
    document = library.read_document(row, entry.path)
    if not entry.chunks:
        raise InputError("there is no text in the document", path=entry.path, hint=f"a position is {FORMS}")
    end = end_of(document, position)
    last = end - 1
    section = up_to(document, end).section_at(last)
    where = AsOf(
        position, entry.path, end, document.page_at(last), document.line_at(last), section, document_id=entry.id
    )
    return Cut(library, where, entry.id, row)


def same_chunks(whole: Shelf, whole_id: str, cut: Shelf, cut_id: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the chunks of a whole document and of its beginning that have the same texts, pair by pair."""
    spans = {(start, end): chunk for chunk, start, end in whole.places(whole_id)}
    pairs = [(spans[start, end], chunk) for chunk, start, end in cut.places(cut_id) if (start, end) in spans]
    sources, targets = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return sources, targets


def note(connection: sqlite3.Connection, document: int, whole: int) -> None:
    """Note, in the caller's transaction, that the row `document` is the beginning of the row `whole`."""
    connection.execute("INSERT OR REPLACE INTO cuts (document, whole) VALUES (?, ?)", (document, whole))


def hand_over(connection: sqlite3.Connection, before: int, after: int) -> None:
    """Let the beginnings of a document outlive it: where its next version begins in the same way, they serve again."""
    connection.execute("UPDATE cuts SET whole = ? WHERE whole = ?", (after, before))


def _names(entry: Entry) -> tuple[str, ...]:
    name = os.path.basename(entry.path)
    return tuple(dict.fromkeys((entry.path, name, os.path.splitext(name)[0])))
