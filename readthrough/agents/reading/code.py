"""Answers about source code: what is read says where it stands, and behind the answer stand the places to look at.

The places are those of the passages, cut from the source: a path, a line or a name that is not there cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.pointers import Cited
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.retrieval.code.places import Place, places
from readthrough.types import Chunk, Document

if TYPE_CHECKING:
    from readthrough.memory.shelf import Shelf

CODE_ANSWER = Prompt(
    """{material}

Question: {question}
Answer the question from the source code above in two or three short sentences. Name the classes, functions and \
variables that matter."""
)

WORDS = 120
"""The most words of an answer with its places; so many as fit are told, and at least `PLACES_MIN`."""
PLACES_MIN = 2
PLACES_MAX = 8

_HEAD = "Where:"
_SHARE = 0.5


def about_code(shelf: Shelf, chunks: Sequence[int] | None = None) -> bool:
    """Whether at least half of some chunks (default: of all) are source code."""
    found = [(entry.is_program, entry.chunks) for entry in shelf.documents]
    if chunks is not None and any(code for code, _ in found):
        found = [(shelf.entry(chunk.document).is_program, 1) for chunk in shelf.get(list(chunks))]
    code_chunks = sum(count for code, count in found if code)
    return code_chunks > 0 and code_chunks >= _SHARE * sum(count for _, count in found)


def with_places(
    services: Services, reply: Reply, question: Question, ranked: Sequence[Chunk]
) -> tuple[Reply, list[Cited]]:
    """The reply with the places of its passages (`ranked`, best first) behind it, and the lines that these stand on."""
    shelf = services.shelf
    listed: list[Place] = []
    lines = [_HEAD]
    for place in places(shelf.code(), ranked, known=f"{question.text} {reply.text}"):
        line = _line(place)
        words = sum(len(each.split()) for each in (reply.text, *lines, line))
        if len(listed) == PLACES_MAX or (words > WORDS and len(listed) >= PLACES_MIN):
            break
        listed.append(place)
        lines.append(line)
    if not listed:
        return reply, []
    more = "\n\n" + "\n".join(lines)
    services.say(more)
    first = len(sentence_spans(reply.text)) + 1
    spans = [
        (place.document, *_line_span(shelf.document(place.document), place.line), [first + number])
        for number, place in enumerate(listed)
    ]
    return replace(reply, text=reply.text + more), spans


def _line(place: Place) -> str:
    uses = f" (uses {', '.join(place.uses)})" if place.uses else ""
    return f"- {place.path}:{place.line} {place.name}{uses}"


def _line_span(document: Document, line: int) -> tuple[int, int]:
    """The span of a line, without what is blank around it."""
    start, end = document.span_of_lines(line, line)
    text = document.text[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())
