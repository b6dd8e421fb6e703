"""All texts of a shelf as one, as programs have them, and which places of it stand in what a model was shown.

What a program made of the text before it showed it to a model cannot be known from the program, and what it says of
itself cannot be believed. So the places are found by the words alone: what stands in a prompt word for word was read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from readthrough.agents.reading.concluding import Span
from readthrough.memory.shelf import Shelf
from readthrough.types import Chunk

# So many characters in a row that stand in the text are not there by chance. Any run twice as long is found.
_SURE_CHARACTERS = 24
_BETWEEN = "\n\n"

Place = tuple[int, int]
"""A start and an end in the joined text."""


@dataclass(frozen=True)
class Texts:
    """The documents of a shelf in one text, a blank line between two; `starts` has where each of them begins."""

    text: str
    starts: tuple[int, ...]
    shelf: Shelf

    @classmethod
    def of(cls, shelf: Shelf) -> Texts:
        """The texts of a shelf."""
        parts = [shelf.document(entry.id).text for entry in shelf.documents]
        starts, at = [], 0
        for part in parts:
            starts.append(at)
            at += len(part) + len(_BETWEEN)
        return cls(_BETWEEN.join(parts), tuple(starts), shelf)

    @property
    def documents(self) -> list[tuple[str, int, int]]:
        """Name, start and end of each document."""
        entries = zip(self.shelf.documents, self.starts, strict=True)
        return [(entry.path, start, start + entry.characters) for entry, start in entries]

    def place_of(self, chunk: Chunk) -> Place:
        """Where a chunk of the shelf stands."""
        number = self.shelf.document_ids().index(chunk.document)
        return self.starts[number] + chunk.start, self.starts[number] + chunk.end

    def shown_in(self, shown: str) -> list[Place]:
        """The places of the text that stand word for word in `shown`."""
        found: list[Place] = []
        at, before = 0, 0
        while at + _SURE_CHARACTERS <= len(shown):
            piece = shown[at : at + _SURE_CHARACTERS]
            place = self.text.find(piece, before)  # most likely it goes on behind the last
            place = place if place >= 0 else self.text.find(piece, 0, before + _SURE_CHARACTERS)
            if place < 0 or piece.isspace():
                at += _SURE_CHARACTERS
                continue
            back = _same(shown[:at][::-1], self.text[max(0, place - at) : place][::-1])
            length = _same(shown[at:], self.text[place : place + len(shown) - at])
            found.append((place - back, place + length))
            at, before = at + length, place + length
        return found

    def chunks(self, places: Iterable[Sequence[int]]) -> list[int]:
        """The ids of the chunks that stand in these places from their first to their last letter."""
        joined = self.union(places)
        return [chunk for chunk, start, end in self._chunks() if _holds(joined, *self._trimmed(start, end))]

    def spans(self, places: Iterable[Sequence[int]]) -> list[Span]:
        """The places as spans of documents; what reaches into two of them is cut."""
        found: list[Span] = []
        for start, end in self.union(places):
            first, last = (bisect_right(self.starts, at) - 1 for at in (start, end - 1))
            for number in range(first, last + 1):
                offset, length = self.starts[number], self.shelf.documents[number].characters
                found.append((number, max(0, start - offset), min(length, end - offset)))
        return found

    def union(self, places: Iterable[Sequence[int]]) -> list[Place]:
        """Places in order; those that touch, or have nothing but white space between them, joined."""
        found: list[Place] = []
        for start, end in sorted((start, end) for start, end in places):
            if found and not self.text[found[-1][1] : start].strip():
                found[-1] = (found[-1][0], max(found[-1][1], end))
            else:
                found.append((start, end))
        return found

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        """`(id, start, end)` of every chunk, in the joined text."""
        chunks = iter(self.shelf.places())
        for entry, offset in zip(self.shelf.documents, self.starts, strict=True):
            for chunk, start, end in islice(chunks, entry.chunks):
                yield chunk, start + offset, end + offset

    def _trimmed(self, start: int, end: int) -> Place:
        part = self.text[start:end]
        return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _holds(places: Sequence[Place], start: int, end: int) -> bool:
    """Whether one of some places (in order, apart) holds another."""
    at = bisect_right(places, start, key=lambda place: place[0]) - 1
    return at >= 0 and places[at][1] >= end > start


def _same(first: str, second: str) -> int:
    """How many characters two texts begin with that are the same."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))
