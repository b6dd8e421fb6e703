"""What a model wrote into a form, held against the text that it was read from.

A value counts where the text says it: the sentence it stands in is its evidence. A number or a date that the text does
not say is dropped, and so is a text of whose words it says less than half; one with more of them counts half. Choices
and truth values are judgements: they get the sentence that raises them most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.agents.reading.pointers import Sentence, overlap, rarity, sentences, words
from readthrough.agents.reading.schemas import Field, leaves
from readthrough.agents.reading.values import Written, date_of
from readthrough.agents.runs.services import Services
from readthrough.retrieval.rerankers.likelihood import raised_pairs
from readthrough.types import Chunk

HELD_RATIO = 0.5
"""The least share of a text's words that a sentence must hold to stand for it."""
UNSAID_RATIO = 0.5
"""What the confidence of a value that the text does not say in these words is multiplied by."""

_CANDIDATES = 6
_ROW = re.compile(r"\S(?: {3,}|\t)\S|^\s*\S[^.:\n]{0,40}: |^\s*\|")

Place = tuple[str, int, int]
"""A document's id, start and end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of one leaf: how probable it is that it is right, and the sentence it stands on."""

    confidence: float | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """A JSON value, and a mark for each of its leaves in order."""

    value: Any
    marks: tuple[Mark, ...] = ()

    @classmethod
    def kept(cls, value: Any, marks: Sequence[Sequence[Any]]) -> Filled:
        """What went through JSON."""
        return cls(value, tuple(Mark(sure, place and (place[0], place[1], place[2])) for sure, place in marks))

    def at_most(self, sure: float) -> Filled:
        """The same, each leaf as probable as it was, and no more than `sure`."""
        known = (sure if mark.confidence is None else min(sure, mark.confidence) for mark in self.marks)
        return Filled(
            self.value, tuple(replace(mark, confidence=each) for mark, each in zip(self.marks, known, strict=True))
        )

    def keep(self) -> list[Any]:
        """The arguments of `kept`, as plain values."""
        return [self.value, [[mark.confidence, mark.place] for mark in self.marks]]


class Source:
    """The text that values were read from: chunks, those that follow each other joined."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._stretches: list[Chunk] = []
        for chunk in chunks:
            last = self._stretches[-1] if self._stretches else None
            if last is not None and (last.document, last.end) == (chunk.document, chunk.start):
                self._stretches[-1] = replace(last, end=chunk.end, text=last.text + chunk.text)
            else:
                self._stretches.append(chunk)
        self._written = [Written(stretch.text) for stretch in self._stretches]

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The sentences, in order."""
        return sentences(self._stretches)

    @cached_property
    def weights(self) -> dict[str, float]:
        """How telling each word is here."""
        return rarity(self.sentences)

    def places(self, value: Any) -> list[Place]:
        """Where the text says a value."""
        return [
            (stretch.document, stretch.start + start, stretch.start + end)
            for stretch, written in zip(self._stretches, self._written, strict=True)
            for start, end in written.places(value)
        ]

    def around(self, place: Place) -> Place:
        """The sentence, or sentences, that a place lies in."""
        document, start, end = place
        held = [each for each in self.sentences if each.document == document and each.start < end and each.end > start]
        if not held:
            return place
        first, last = min(start, held[0].start), max(end, held[-1].end)
        stretch = next(each for each in self._stretches if each.document == document and each.start <= first < each.end)
        text = stretch.text[first - stretch.start : last - stretch.start]
        row = _row(text, start - first, end - first)
        return (document, first + row[0], first + row[1]) if row else (document, first, last)

    def asked_of(self, among: Sequence[Place], question: str) -> Place:
        """Of some sentences the one that holds most of the question's words; the first where several do."""
        asked = frozenset(words(question))
        held = {(each.document, each.start, each.end): each for each in self.sentences}

        def score(place: Place) -> float:
            return overlap(held[place], asked, frozenset(), self.weights) if place in held else 0.0

        return max(among, key=score)

    def nearest(self, said: str) -> tuple[Sentence | None, float]:
        """The sentence that holds most of the words of `said`, and the share of them."""
        wanted = frozenset(words(said))
        best = max(self.sentences, key=lambda each: len(wanted & each.words), default=None)
        return best, len(wanted & best.words) / len(wanted) if best is not None and wanted else 0.0

    def likely(self, question: str) -> list[Sentence]:
        """The sentences that a question's words point to."""
        asked = frozenset(words(question))
        return sorted(self.sentences, key=lambda each: -overlap(each, asked, frozenset(), self.weights))[:_CANDIDATES]


def settle(field: Field, value: Any, source: Source, sure: float | None, anchor: Place | None = None) -> Filled | None:
    """A value that a model wrote, as far as the text says it; None where it says nothing of it.

    Args:
        field: what was asked for.
        value: what was written; it satisfies `wire(field)`.
        source: the text.
        sure: how probable it is that it is right, where it stands in the text.
        anchor: where the item of a list stands: its values are those nearest to it.
    """
    if value is None:
        return None
    if field.kind == "form":
        parts = [(part, settle(part, value[part.path[-1]], source, sure, anchor)) for part in field.fields]
        there = any(filled is not None for _, filled in parts)
        return _form([(part, filled or absent(part)) for part, filled in parts]) if there else None
    if field.item is not None:
        items = [settle_item(field.item, item, source, sure) for item in value]
        return merged([item for item in items if item is not None])
    return _settle_value(field, value, source, sure, anchor)


def settle_item(field: Field, value: Any, source: Source, sure: float | None) -> Filled | None:
    """`settle` for an item of a list: one of its texts and numbers must stand in the text, the others are near it."""
    said = [source.places(leaf) for leaf in _literals(field, value) if leaf not in (None, "")]
    said = [places for places in said if places]
    if not said and not field.options:
        return None
    rarest = min(said, key=len, default=[])
    anchor = min(rarest, key=lambda place: sum(_distance(place, each) for each in said), default=None)
    return settle(field, value, source, sure, anchor)


def absent(field: Field, sure: float | None = None) -> Filled | None:
    """What stands where a text does not say a field, `sure` being how probable that is; None where it is left out.

    Null where the schema allows it, or where something must be there; a list that must be there is empty.
    """
    if not field.nullable and not field.required:
        return None
    if field.kind == "value" or field.nullable:
        return Filled(None, (Mark(sure),))
    if field.kind == "list":
        return Filled([])
    return _form([(part, absent(part)) for part in field.fields])


def assemble(form: Field, found: Mapping[str, Filled], unsaid: Mapping[str, float]) -> Filled:
    """The whole form, from what was `found` by the keys of its fields; `unsaid` is how probable it is of others that
    the text does not say them."""

    def part(field: Field) -> Filled | None:
        if field.kind != "form":
            return found.get(field.key) or absent(field, unsaid.get(field.key))
        if not any(blank.key in found for blank in field.blanks()):
            return absent(field)
        return _form([(each, part(each)) for each in field.fields])

    return _form([(each, part(each)) for each in form.fields])


def merged(items: Sequence[Filled]) -> Filled | None:
    """Items of a list, each once; one that says less than another, and nothing else, is a part of it."""
    kept: list[tuple[dict[str, str], Filled]] = []
    for item in items:
        said = dict(_said(item.value))
        alike = next((at for at, (other, _) in enumerate(kept) if _parts_of_one(said, other)), None)
        if alike is None:
            kept.append((said, item))
        elif len(said) > len(kept[alike][0]):
            kept[alike] = (said, item)
    if not kept:
        return None
    return Filled([item.value for _, item in kept], tuple(mark for _, item in kept for mark in item.marks))


def joined(lists: Sequence[Filled], documents: Mapping[str, int]) -> Filled:
    """The items of several lists as one list (see `merged`) in the order in which they stand; `documents` are the
    places of documents by id. A value that is alone stays as it is."""
    if len(lists) == 1:
        return lists[0]
    items: list[Filled] = []
    for each in lists:
        marks = iter(each.marks)
        items += [Filled(item, tuple(islice(marks, len(leaves(item))))) for item in each.value]

    def stands(item: Filled) -> tuple[int, int]:
        return min(((documents[mark.place[0]], mark.place[1]) for mark in item.marks if mark.place), default=(0, 0))

    return merged(sorted(items, key=stands)) or Filled([])


def prove(services: Services, filled: Sequence[tuple[Filled, str, Source]]) -> list[Filled]:
    """Values (each with its question and the text) whose judgements have the sentence that raises them most.

    One batch. Without logits it is the sentence that holds most of the words of question and value.
    """
    open_marks = [
        (number, at, f"{question} {_shown(leaf)}", source)
        for number, (made, question, source) in enumerate(filled)
        for at, (mark, (_, leaf)) in enumerate(zip(made.marks, leaves(made.value), strict=True))
        if mark.place is None and leaf is not None
    ]
    among = [source.likely(asked) for *_, asked, source in open_marks]
    best = [found[0] if found else None for found in among]
    if "logits" in services.model.capabilities:
        pairs = [
            (_text(services, each), asked)
            for (*_, asked, _), found in zip(open_marks, among, strict=True)
            for each in found
        ]
        scores = iter(raised_pairs(services, pairs))
        scored = [[(next(scores), each) for each in found] for found in among]
        best = [max(found, key=lambda pair: pair[0])[1] if found else None for found in scored]
    marks = [list(made.marks) for made, *_ in filled]
    for (number, at, *_), sentence in zip(open_marks, best, strict=True):
        if sentence is not None:
            place = (sentence.document, sentence.start, sentence.end)
            marks[number][at] = replace(marks[number][at], place=place)
    return [Filled(made.value, tuple(own)) for (made, *_), own in zip(filled, marks, strict=True)]


def _settle_value(field: Field, value: Any, source: Source, sure: float | None, anchor: Place | None) -> Filled | None:
    judged = bool(field.options)
    if field.is_date:  # written as the text has it: small models take dates apart wrongly
        days = date_of(value)
        value = days[0].isoformat() if days else ""
    if isinstance(value, str) and "pattern" not in field.schema and not judged:
        value = value.strip()
    said = [] if value == "" or isinstance(value, bool) else source.places(value)
    if said:
        if anchor is not None:
            place = source.around(min(said, key=lambda each: _distance(anchor, [each])))
        else:
            place = source.asked_of([source.around(each) for each in said], field.asked())
        return Filled(value, (Mark(sure, place),))
    if judged:
        return Filled(value, (Mark(sure, source.around(anchor) if anchor else None),))
    if not isinstance(value, str) or date_of(value):
        return None
    sentence, share = source.nearest(value)
    if sentence is None or share < HELD_RATIO:
        return None
    confidence = None if sure is None else sure * UNSAID_RATIO
    return Filled(value, (Mark(confidence, (sentence.document, sentence.start, sentence.end)),))


def _form(parts: Sequence[tuple[Field, Filled | None]]) -> Filled:
    """A form of parts; those that are None are left out."""
    there = [(part.path[-1], filled) for part, filled in parts if filled is not None]
    value = {name: filled.value for name, filled in there}
    return Filled(value, tuple(mark for _, filled in there for mark in filled.marks))


def _row(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The line of a table or of a form, `Name: value`, that a place in a sentence of several lines lies in."""
    begin, stop = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    stop = len(text) if stop == -1 else stop
    line = text[begin:stop]
    if "\n" in line or len(line) == len(text) or not _ROW.search(line):
        return None
    return begin + len(line) - len(line.lstrip()), begin + len(line.rstrip())


def _literals(field: Field, value: Any) -> Iterator[Any]:
    """The texts and numbers of an item that must stand in the text."""
    if value is None:
        return
    for part in field.fields:
        yield from _literals(part, value[part.path[-1]])
    if field.kind == "value" and not field.options:
        yield value


def _distance(place: Place, among: Sequence[Place]) -> int:
    """How many characters lie between a place and the nearest of others; what stands before it counts twice."""
    far = [
        (start - place[1] if start >= place[1] else 2 * (place[1] - start)) if document == place[0] else 1 << 30
        for document, start, _ in among
    ]
    return min(far)


def _said(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """What an item says, by path, without case and white space."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _said(part, f"{path}/{name}")
    elif value is not None:
        yield path, " ".join(str(value).split()).casefold()


def _parts_of_one(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return one.items() <= other.items() or other.items() <= one.items()


def _shown(value: Any) -> str:
    return {True: "Yes", False: "No"}[value] if isinstance(value, bool) else str(value)


def _text(services: Services, sentence: Sentence) -> str:
    return as_data(unwrap(services.shelf.document(sentence.document).text[sentence.start : sentence.end]))
