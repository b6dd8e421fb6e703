"""What workflows that read in order share: evidence that travels with their notes, and the answer from the notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import ANSWER_TOKENS, Reply, answer_from, reply_tokens
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.pointers import Sentence, cut, point, sentence_at, sentences
from readthrough.agents.runs.services import Services
from readthrough.types import Chunk, Cost, Evidence

Span = tuple[int, int, int]
"""A place in the texts as it travels in a graph's state: the document's number on the shelf, start, end."""


def to_spans(services: Services, among: Iterable[Sentence]) -> list[Span]:
    """Sentences as they travel in a graph's state."""
    numbers = {entry.id: number for number, entry in enumerate(services.shelf.documents)}
    return [(numbers[sentence.document], sentence.start, sentence.end) for sentence in among]


def from_spans(services: Services, spans: Iterable[Sequence[int]]) -> list[Sentence]:
    """The sentences that `to_spans` was given."""
    shelf = services.shelf
    return [sentence_at(shelf.document(shelf.documents[number].id), start, end) for number, start, end in spans]


def carry(
    services: Services, question: str, written: str, spans: Iterable[Sequence[int]], chunks: Sequence[Chunk], most: int
) -> list[Span]:
    """The places that new notes stand on, out of those of the notes before and of what was just read."""
    carried = [*from_spans(services, spans), *sentences(chunks)]
    return to_spans(services, (sentence for sentence, _ in point(question, written, carried, most=most)))


def quotes_for(
    services: Services, question: Question, reply: Reply, spans: Iterable[Sequence[int]], most: int = 3
) -> tuple[Evidence, ...]:
    """The quotes that stand for a reply, out of the places that travelled with the notes."""
    if reply.abstained:
        return ()
    return cut_all(services, point(question.text, reply.said(question), from_spans(services, spans), most=most))


def cut_all(services: Services, pointers: Sequence[tuple[Sentence, list[int]]]) -> tuple[Evidence, ...]:
    """The quotes of some pointers into the texts of the shelf."""
    return cut(pointers, {sentence.document: services.shelf.document(sentence.document) for sentence, _ in pointers})


def answer_if_stated(
    services: Services,
    material: str,
    question: Question,
    abstain_below: float,
    max_tokens: int = ANSWER_TOKENS,
    stated: float | None = None,
) -> Reply:
    """Answer from some notes, or refuse where they probably do not state the answer; among choices one is taken.

    `stated` is how probable it is that the answer is stated, where that is known already.
    """
    if question.choices is not None:
        return answer_from(services, material, question)
    if stated is None:
        stated = look(services, material, question).stated
    if stated < abstain_below:
        return Reply.refused(stated)
    return answer_from(services, material, question, stated, max_tokens=max_tokens)


def answer_cost(services: Services, question: Question, material_tokens: int, most_tokens: int = ANSWER_TOKENS) -> Cost:
    """What `answer_if_stated` takes over notes of `material_tokens`, for a reply of at most `most_tokens`."""
    answer_tokens = min(most_tokens, reply_tokens(question))
    asked = sum(services.model.count_tokens([question.text, *(question.choices or ())]))
    prompt = material_tokens + asked + _FRAME_TOKENS
    logits = "logits" in services.model.capabilities
    if question.choices is not None and logits:  # two rotations, with the notes and without
        return Cost(4, 4 * prompt - 2 * material_tokens, cached_tokens=material_tokens)
    if question.choices is not None:
        return Cost(1, prompt)
    if logits:  # a look by two signs, one of them without the notes; the answer
        return Cost(4, 4 * prompt - material_tokens, answer_tokens, cached_tokens=2 * material_tokens)
    return Cost(2, 2 * prompt, answer_tokens)


_FRAME_TOKENS = 96
"""What instructions and the chat template take around notes and question, leaning upwards."""
