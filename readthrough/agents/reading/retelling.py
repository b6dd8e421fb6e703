"""Long answers about a whole story or section: each part of it is retold by itself, side by side, one behind the other.

A few passages hold no plot, and a small model that is asked for three hundred words stops at one hundred. Parts of
equal length make an answer that goes on to the end of the text, each of its sentences with its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.finding import named_chunks
from readthrough.agents.reading.passages import section_text, windows
from readthrough.agents.reading.pointers import Sentence, point, sentences
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.reading.queries import wanted_words, wants_retelling
from readthrough.agents.reading.summarizing import SUMMARIZE, WINDOW, how, most_tokens, written
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.models.base import Request
from readthrough.types import Cost, Event

PART_TOKENS = 1200
"""The most tokens of a part: a fifth of a story of ten pages."""
WORDS = 200
"""The words of an answer, where the question names no number."""
PART_WORDS_MIN = 30

# What was seen written for each word that is asked for: more than of summaries, which are asked for once.
_WRITTEN_TOKENS_A_WORD = 1.3


def whole(services: Services, question: Question, most_tokens: int) -> list[int]:
    """The chunks to retell in reading order: of the sections that the question names, else of all texts.

    Empty where the question wants no retelling, or they have more than `most_tokens`.
    """
    if question.choices is not None or not wants_retelling(question.text):
        return []
    named = named_chunks(services.shelf, question.text)
    chunks = [chunk for chunk in services.shelf.chunk_ids() if named is None or chunk in named]
    if len(chunks) > most_tokens:  # each has a token at least: those of a large library are not counted
        return []
    tokens = services.shelf.count_tokens(services.model)
    return chunks if sum(tokens[chunk] for chunk in chunks) <= most_tokens else []


def retell(
    services: Services, question: Question, chunks: Sequence[int]
) -> tuple[Reply, list[tuple[Sentence, list[int]]]]:
    """The answer, and for its sentences the places that they came from."""
    parts = _parts(services, chunks, services.shelf.count_tokens(services.model))
    words = _words(question, len(parts))
    texts = [services.chunks(part) for part in parts]
    requests = [
        Request.user(
            WINDOW.format(text=section_text(text), words=words, how=how(SUMMARIZE)), max_tokens=most_tokens(words)
        )
        for text in texts
    ]
    services.emit(Event("read", 0, len(parts), "parts"))
    told: list[str] = []
    count = 0
    pointers: list[tuple[Sentence, list[int]]] = []
    for text, request, completion in zip(texts, requests, services.complete(requests), strict=True):
        services.note_said(request, completion.text)
        said, _ = written(completion)
        if not said:
            continue
        more = len(sentence_spans(said))
        found = point(question.text, said, sentences(text), most=more)
        pointers += [(sentence, [count + number for number in numbers]) for sentence, numbers in found]
        told.append(said)
        count += more
    services.emit(Event("read", len(parts), len(parts), "parts"))
    if not told:
        return Reply.refused(), []
    answer = "\n\n".join(told)  # a blank line ends a sentence, whatever a part ends with
    services.say(answer)
    return Reply(answer), pointers


def retelling_cost(services: Services, question: Question, chunks: Sequence[int]) -> Cost:
    """What `retell` takes."""
    tokens = services.shelf.count_tokens(services.model)
    parts = _parts(services, chunks, tokens)
    written_tokens = int(_words(question, len(parts)) * _WRITTEN_TOKENS_A_WORD)
    read = sum(tokens[chunk] for chunk in chunks) + len(parts) * TEMPLATE_TOKENS
    return Cost(len(parts), read, len(parts) * written_tokens, beside_tokens=(len(parts) - 1) * written_tokens)


def _parts(services: Services, chunks: Sequence[int], tokens: Mapping[int, int]) -> list[list[int]]:
    longest = max(tokens[chunk] for chunk in chunks)
    room = max(longest, min(PART_TOKENS, services.model.window_tokens // 2))
    return windows(chunks, tokens, room)


def _words(question: Question, parts: int) -> int:
    """The words of each part."""
    return max(PART_WORDS_MIN, math.ceil((wanted_words(question.text) or WORDS) / parts))
