"""Finding passages: several queries fused into one ranking, and the model's own weighing of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from readthrough.agents.base import Question
from readthrough.agents.reading.passages import as_data, unwrapped
from readthrough.agents.reading.queries import named_spans, search_queries
from readthrough.agents.runs.services import Services
from readthrough.retrieval.indexes.hybrid import fuse, take_turns
from readthrough.retrieval.rerankers.likelihood import raised
from readthrough.types import Event

if TYPE_CHECKING:
    from readthrough.memory.shelf import Shelf

_MANY_DOCUMENTS = 50


def find_chunks(shelf: Shelf, question: Question, index: str, most: int) -> list[int]:
    """The ids of the `most` chunks that fit the question best, best first.

    Where the question names a section's heading in quotes, only chunks of that section are found. With choices, each
    is looked for by itself, and they take turns: the chunks that speak for one option may be none of another's.
    """
    within = named_chunks(shelf, question.text)
    depth = most if within is None else len(shelf.chunk_ids())

    def find(asked: Question) -> list[int]:
        lists = []
        for query in search_queries(asked):
            hits = shelf.search(query, depth, index)
            lists.append(([(hit.chunk.id, hit.score) for hit in hits if within is None or hit.chunk.id in within], 1.0))
        return [chunk for chunk, _ in fuse(lists)[:most]]

    if question.choices is None:
        return find(question)
    return take_turns([find(Question(f"{question.text} {choice}")) for choice in question.choices], most)


def named_chunks(shelf: Shelf, question: str) -> set[int] | None:
    """The ids of the chunks of the sections that the question names in quotes, None where it names none."""
    if len(shelf.documents) > _MANY_DOCUMENTS:
        return None
    named: set[int] = set()
    for entry in shelf.documents:
        for start, end in named_spans(question, shelf.document(entry.id)):
            named |= {chunk.id for chunk in shelf.chunks(entry.id) if chunk.start < end and chunk.end > start}
    return named or None


def weigh(services: Services, question: str, chunks: Sequence[int]) -> dict[int, float]:
    """How much each chunk raises the question (see `raised`); one batch, told as progress."""
    texts = [as_data(text) for text in unwrapped(services.shelf.get(list(chunks)), services.shelf)]
    services.emit(Event("weigh", 0, len(chunks), "passages"))
    weights = raised(services, question, texts)
    services.emit(Event("weigh", len(chunks), len(chunks), "passages"))
    return dict(zip(chunks, weights, strict=True))
