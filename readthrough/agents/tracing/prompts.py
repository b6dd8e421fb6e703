"""A prompt cut into the spans of documents and the sentences of notes that it holds, each of which can be taken out.

The run log keeps prompts as texts. What of one comes from where is found again by comparing: sentences of what the run
read, and of what it noted, are looked for in the prompt without regard to white space.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from readthrough.agents.reading.pointers import Sentence
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Message, Request

_LEAST_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class Tile:
    """A piece of a prompt: a span of a document (`place`), a sentence of a note (`note`), or what is around these."""

    text: str
    place: Sentence | None = None
    note: str | None = None

    @property
    def removable(self) -> bool:
        """Whether it is a part of what the model was given to read."""
        return self.place is not None or self.note is not None


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a model wrote (`text`), and the prompt of it; the last message is cut into tiles."""

    before: tuple[Message, ...]
    tiles: tuple[Tile, ...]
    role: Any
    prefill: str
    text: str

    @property
    def removable(self) -> list[int]:
        """The numbers of the tiles that can be taken out."""
        return [number for number, tile in enumerate(self.tiles) if tile.removable]

    def shown(self, without: Collection[int] = ()) -> list[str]:
        """The texts of the tiles, but for those of these numbers."""
        return [tile.text for number, tile in enumerate(self.tiles) if number not in without]

    def request(self, without: Collection[int] = (), prefill: str = "") -> Request:
        """The request, without the tiles of these numbers; `prefill` is put behind its own."""
        last = Message(self.role, "".join(self.shown(without)))
        return Request((*self.before, last), prefill=self.prefill + prefill)


def prompted(said: Sequence[Any], places: Sequence[tuple[Sentence, str]], notes: Iterable[str], asked: str) -> Prompted:
    """What `Services.note_said` kept, with the places and notes that stand in its last message.

    Args:
        said: the messages as pairs, the prefill, the text.
        places: sentences of documents with their texts; of two that are equal the first is taken.
        notes: what the run noted.
        asked: the question, which is no note wherever it stands.
    """
    messages, prefill, text = said
    *before, (role, content) = messages
    own = [(Tile("", place=place), text) for place, text in places]
    own += [(Tile("", note=sentence), sentence) for sentence in _sentences(notes)]
    tiles = tuple(_cut(content, own, asked))
    return Prompted(tuple(Message(*message) for message in before), tiles, role, prefill, text.strip())


def _cut(content: str, wanted: Sequence[tuple[Tile, str]], asked: str) -> Iterator[Tile]:
    """`content` as tiles; the longest of what is wanted is looked for first."""
    at = [place for place, sign in enumerate(content) if not sign.isspace()]
    dense = "".join(content.split())
    taken = bytearray(len(dense))
    found: list[tuple[int, int, Tile]] = []
    squeezed = [(tile, "".join(text.split())) for tile, text in wanted]
    _take(dense, "".join(asked.split()), taken)
    for tile, text in sorted(squeezed, key=lambda pair: -len(pair[1])):
        start = _take(dense, text, taken) if len(text) >= _LEAST_CHARACTERS else -1
        if start >= 0:
            found.append((at[start], at[start + len(text) - 1] + 1, tile))
    done = 0
    for start, end, tile in sorted(found, key=lambda each: each[0]):
        between = content[done:start].rstrip()  # white space goes with what follows it, as tokens have it
        if between:
            yield Tile(between)
        yield Tile(content[done + len(between) : end], tile.place, tile.note)
        done = end
    if content[done:]:
        yield Tile(content[done:])


def _take(dense: str, text: str, taken: bytearray) -> int:
    """Where `text` stands free in `dense`, which it then takes; -1 where it does not."""
    start = dense.find(text) if text else -1
    while start >= 0 and any(taken[start : start + len(text)]):
        start = dense.find(text, start + 1)
    if start >= 0:
        taken[start : start + len(text)] = b"\x01" * len(text)
    return start


def _sentences(notes: Iterable[str]) -> Iterator[str]:
    """The sentences of notes, each once; of a table or a plan those of its texts."""
    said = (text for note in notes for text in _texts(note))
    yield from dict.fromkeys(text[start:end] for text in said for start, end in sentence_spans(text))


def _texts(note: str) -> Iterator[str]:
    try:
        values = [json.loads(note)]
    except ValueError:
        yield note
        return
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value
