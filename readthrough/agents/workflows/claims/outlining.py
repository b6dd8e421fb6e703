"""Outlines: the events of every chapter of a text, each with the sentence that it was written from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from readthrough.agents.reading.concluding import Span
from readthrough.agents.reading.keeping import chunks_within, keep, sentence_of
from readthrough.agents.reading.passages import as_data, prompt_tokens, section_text, unwrap, windows
from readthrough.agents.reading.pointers import Sentence, nearest, sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.summarizing import written
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.retrieval.facts import Fact, recipe_of

OUTLINE = Prompt(
    """{text}

Make an outline of the text above: its main events and statements, in order, at most {events}. Write each as one short \
sentence on a line of its own, with the names of who and where. Write nothing else."""
)

_NUMBER = re.compile(r"^\s*(?:\(?\d+[.):]|[-*•])\s*")

EVENT_TOKENS = 40
"""The most tokens of an event; most have two thirds of them."""


def chapters(services: Services, most_tokens: int) -> list[Span]:
    """The parts of the texts that have an outline each: sections, small ones joined, larger ones evenly divided.

    Raises:
        PromptTooLongError: a chunk of the library has more than `most_tokens`.
    """
    shelf = services.shelf
    tokens = prompt_tokens(services)
    largest = max(tokens.values(), default=0)
    if largest > most_tokens:
        raise PromptTooLongError(
            f"a chapter of {most_tokens} tokens is smaller than a passage of {largest}",
            hint="set more chapter_tokens, or use a model with a larger window",
        )
    found: list[Span] = []
    for number, entry in enumerate(shelf.documents):
        document, chunks = shelf.document(entry.id), shelf.chunks(entry.id)
        packed: list[list[int]] = []
        headed = [(document.section_at(chunk.start), chunk.id) for chunk in chunks]
        for _, group in groupby(headed, key=itemgetter(0)):
            ids = [chunk for _, chunk in group]
            if packed and sum(tokens[chunk] for chunk in (*packed[-1], *ids)) <= most_tokens:
                packed[-1] += ids
            else:
                packed += windows(ids, tokens, most_tokens)
        ends = {chunk.id: (chunk.start, chunk.end) for chunk in chunks}
        found += [(number, ends[ids[0]][0], ends[ids[-1]][1]) for ids in packed]
    return found


def outline_recipe(services: Services, events: int) -> str:
    """What must be the same for outlines to be the same."""
    return recipe_of(services.model, OUTLINE.format(text="", events=events))


def outline(services: Services, batch: Sequence[Sequence[int]], events: int) -> None:
    """Write the outlines of some chapters, together, and keep them in the library."""
    texts = [services.chunks(chunks_within(services.shelf, chapter)) for chapter in batch]
    prompts = [OUTLINE.format(text=section_text(chunks), events=events) for chunks in texts]
    replies = services.complete([Request.user(prompt, max_tokens=events * EVENT_TOKENS) for prompt in prompts])
    made: list[list[Fact]] = []
    invented = 0
    for chunks, reply in zip(texts, replies, strict=True):
        among, lines = sentences(chunks), _lines(written(reply)[0])[:events]
        placed = [(line, sentence_of(line, among)) for line in lines]
        made.append([Fact(line, (), at.start, at.end) for line, at in placed if at is not None])
        invented += len(lines) - len(made[-1])
    keep(services, outline_recipe(services, events), zip(batch, made, strict=True))
    services.decide("outline", events=sum(map(len, made)), invented=invented)


def _lines(text: str) -> list[str]:
    """The sentences of an outline without their numbers; a small model may write all of them in one line."""
    lines = (_NUMBER.sub("", unwrap(text[start:end])).strip() for start, end in sentence_spans(text))
    return list(dict.fromkeys(line for line in lines if line))


def shown_outline(services: Services, chapter: Sequence[int], events: Iterable[Fact]) -> str:
    """An outline as it stands in a prompt, under the heading of its chapter."""
    number, start, _ = chapter
    heading = services.shelf.document(services.shelf.documents[number].id).section_at(start)
    lines = [f"{heading}:"] if heading else []
    return as_data("\n".join([*lines, *(f"- {event.text}" for event in events)]))


def rank_events(claim: str, outlines: Mapping[Span, Sequence[Fact]]) -> list[tuple[Span, Fact]]:
    """The events of some outlines, each with its chapter, those that share most of their words with a claim first."""
    events = [(chapter, event) for chapter, made in outlines.items() for event in made]
    among = [Sentence("", event.start, event.end, frozenset(words(event.text))) for _, event in events]
    return [events[at] for at in nearest(claim, among)]
