"""Atomic facts of the shelf's texts: their sentences as they stand, or what a model writes of them, once a document."""

from __future__ import annotations

import json
from collections.abc import Sequence

from readthrough.agents.reading.passages import numbered, prompt_tokens, shown, unwrap, windows
from readthrough.agents.reading.pointers import point, sentences, words
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.retrieval.elements import key_elements
from readthrough.retrieval.facts import (
    EXTRACT,
    Extract,
    Fact,
    Said,
    ask_for_facts,
    read_facts,
    recipe,
    schema,
    uncovered,
)
from readthrough.types import Chunk

# An endpoint may have to be told the form of the reply, with that many passages.
_PASSAGES = 64
# How far a sentence of another passage than the one that was named is trusted.
_ELSEWHERE = 0.8


def sentence_facts(services: Services) -> list[tuple[int, Fact]]:
    """Every sentence of the texts as a fact, with the number of its document; nothing is asked of a model."""
    shelf, found = services.shelf, []
    for number, entry in enumerate(shelf.documents):
        text = shelf.document(entry.id).text
        spans = [(one.start, one.end) for one in sentences(shelf.chunks(entry.id))]
        found += [(number, start, end, unwrap(text[start:end])) for start, end in spans]
    elements = key_elements([text for *_, text in found])
    return [
        (number, Fact(text, about, start, end))
        for (number, start, end, text), about in zip(found, elements, strict=True)
    ]


def written_facts(services: Services) -> list[tuple[int, Fact]]:
    """The facts that the model wrote of the texts, each with the number of its document."""
    known = services.shelf.facts(recipe(services.model))
    return [
        (number, fact)
        for number, entry in enumerate(services.shelf.documents)
        for extracted in known[entry.id]
        for fact in extracted.facts
    ]


def room_tokens(services: Services, window_tokens: int, written_tokens: int) -> int:
    """How many tokens of text a window has.

    Raises:
        PromptTooLongError: a chunk of the library is larger.
    """
    frame = sum(services.model.count_tokens([EXTRACT, json.dumps(schema(_PASSAGES))])) + TEMPLATE_TOKENS
    room = min(window_tokens, services.model.window_tokens - written_tokens - frame)
    largest = max(prompt_tokens(services).values(), default=0)
    if room < largest:
        raise PromptTooLongError(
            f"a window of {max(room, 0)} tokens is smaller than a passage of {largest}",
            hint="set more chunk_tokens or fewer facts_tokens, or use a model with a larger window",
        )
    return room


def without_facts(services: Services, window_tokens: int) -> list[list[int]]:
    """The chunks that have no facts by this model, in windows; a window is of one document."""
    shelf = services.shelf
    tokens = prompt_tokens(services)
    known = shelf.facts(recipe(services.model))
    return [
        window
        for entry in shelf.documents
        for run in uncovered(shelf.chunks(entry.id), known[entry.id])
        for window in windows(run, tokens, window_tokens)
    ]


def extract(services: Services, batch: Sequence[Sequence[int]], written_tokens: int) -> list[list[int]]:
    """Ask for the facts of some windows, together, and keep them in the library.

    Where a reply was cut, the chunk it was cut in and those behind it are returned, to be asked about by themselves;
    if that is the first one, what is whole of its facts counts. So they are fewer each time, and this ends.
    """
    texts = [services.chunks(window) for window in batch]
    prompts = (numbered(shown(chunks, services.shelf)) for chunks in texts)
    sizes = map(len, texts)
    replies = services.complete([ask_for_facts(*each, written_tokens) for each in zip(prompts, sizes, strict=True)])
    made: list[tuple[str, Extract]] = []
    left: list[list[int]] = []
    dropped = 0
    for chunks, reply in zip(texts, replies, strict=True):
        said = read_facts(reply.text)
        done = len(chunks) if reply.finish != "length" else max(1, len(said) - 1)
        facts = _placed(said[:done], chunks)
        made.append((chunks[0].document, Extract(chunks[0].start, chunks[done - 1].end, tuple(facts))))
        left += [[chunk.id for chunk in chunks[done:]]] if done < len(chunks) else []
        dropped += sum(map(len, said[:done])) - len(facts)
    services.shelf.remember_facts(recipe(services.model), made)
    cut = sum(reply.finish == "length" for reply in replies)
    services.decide("extraction", facts=sum(len(each.facts) for _, each in made), dropped=dropped, cut=cut)
    return left


def _placed(said: Sequence[Said], chunks: Sequence[Chunk]) -> list[Fact]:
    """The facts of chunks, each once, with the sentences they were made from.

    A small model loses count of the passages: a sentence of another one that fits better is taken. A fact that shares
    no word with its sentence is invented, and left out.
    """
    facts: dict[str, Fact] = {}
    within = [sentences([chunk]) for chunk in chunks]
    among = [sentence for inside in within for sentence in inside]
    for own, items in enumerate(said) if among else ():
        trust = [1.0 if own == number else _ELSEWHERE for number, inside in enumerate(within) for _ in inside]
        for text, elements in items:
            [(sentence, _)] = point("", text, among, most=1, trust=trust)
            if sentence.words.intersection(words(text)):
                facts.setdefault(text, Fact(text, elements, sentence.start, sentence.end))
    return list(facts.values())
