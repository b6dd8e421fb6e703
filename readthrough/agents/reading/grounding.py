"""The last answer of workflows that take notes: beside the notes, passages of the source are read that they are about.

A small model notes things wrongly and is sure of them: a note repeats the question, whatever its text says. So the
passages are found by the index, for the question and for the notes; what they say is right where a note says
otherwise, and whether the answer is stated at all is decided by them alone. Where they surely state it, the notes are
not read: a model mixes both. Of several things that are asked for, passages may state some and notes the others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from readthrough.agents.base import Question, Workflow
from readthrough.agents.reading.answering import ANSWER_TOKENS, PASSAGES, passages_material
from readthrough.agents.reading.concluding import Span, answer_cost, answer_if_stated, to_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data, in_reading_order, within_budget
from readthrough.agents.reading.pointers import sentences
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.queries import names_several
from readthrough.agents.runs.services import Services
from readthrough.retrieval.indexes.hybrid import fuse, take_turns
from readthrough.types import Cost

WITH_NOTES = Prompt(
    """{passages}

These notes were taken while the whole text was read. Where they say otherwise, the passages above are right.

{notes}"""
)

# The probability at which passages state the answer without the notes.
_SURELY = 0.9
_FOUND_CHUNKS = 24
_QUERY_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Notes:
    """What a workflow noted.

    Attributes:
        material: the notes as they stand in a prompt of their own.
        text: the bare text of them.
        spans: the places that they stand on.
        stated: how probable it is that they state the answer, where that is known already.
    """

    material: str
    text: str
    spans: Sequence[Sequence[int]] = ()
    stated: float | None = None


@dataclass(frozen=True, slots=True)
class Grounding:
    """How a workflow answers from its notes.

    Attributes:
        index: the index that finds passages.
        passage_tokens: the most tokens of them, twice as many for a multiple-choice question; with 0 there are none,
            and the answer is written from the notes alone.
        abstain_below: the probability that the answer is stated, below which it is refused.
    """

    index: str
    passage_tokens: int
    abstain_below: float

    def prepare(self, services: Services, question: Question) -> None:
        """Search once at the start: what is loaded on first use must not be loaded when the time runs out."""
        if self.passage_tokens:
            find_chunks(services.shelf, question, self.index, 1)

    def answer(self, services: Services, question: Question, notes: Notes) -> dict[str, Any]:
        """Answer, or refuse: `reply` (a hash) and `found` (the ids of the passages) for the state."""
        found = self.find(services, question, notes)
        material, stated = notes.material, notes.stated
        if found:
            documents = services.shelf.document_ids()
            chunks = in_reading_order(services.chunks(found), documents)
            material = passages = passages_material(services, chunks)
            stated = None if question.choices else look(services, passages, question).stated
            if notes.text.strip() and (stated is None or stated < _SURELY or names_several(question.text)):
                material = WITH_NOTES.format(passages=passages, notes=as_data(notes.text))
        reply = answer_if_stated(services, material, question, self.abstain_below, stated=stated)
        return {"reply": reply.keep(services), "found": found}

    def cost(self, services: Services, question: Question, notes_tokens: int) -> Cost:
        """What `answer` takes, over notes of `notes_tokens`."""
        return answer_cost(services, question, notes_tokens + self._budget(services, question))

    def _budget(self, services: Services, question: Question) -> int:
        tokens = self.passage_tokens if question.choices is None else 2 * self.passage_tokens
        return min(tokens, services.model.window_tokens // 4)

    def find(self, services: Services, question: Question, notes: Notes) -> list[int]:
        """The ids of passages: of three two are found by the question, one by the notes, or the places they stand on.

        As many as the model's window holds beside the notes: none, where these fill it.
        """
        shelf, model = services.shelf, services.model
        beside = sum(model.count_tokens([WITH_NOTES, PASSAGES, notes.text, question.with_choices])) + TEMPLATE_TOKENS
        budget = min(self._budget(services, question), model.window_tokens - ANSWER_TOKENS - beside)
        if not self.passage_tokens or budget <= 0:
            return []
        asked = find_chunks(shelf, question, self.index, _FOUND_CHUNKS)
        query = notes.text[:_QUERY_CHARACTERS].strip()
        hits = shelf.search(query, _FOUND_CHUNKS, self.index) if query else []
        places = dict.fromkeys(shelf.chunk_at(shelf.documents[number].id, start) for number, start, _ in notes.spans)
        noted = fuse([([(hit.chunk.id, hit.score) for hit in hits], 1.0), ([(chunk, 0.0) for chunk in places], 1.0)])
        ranked = take_turns([asked[::2], asked[1::2], [chunk for chunk, _ in noted]], 3 * _FOUND_CHUNKS)
        return within_budget(ranked, shelf.count_tokens(model), budget)


@dataclass(frozen=True)
class Grounded(Workflow):
    """A workflow that takes notes, and answers from them with passages of the source beside them.

    Attributes:
        index: the index that finds passages for the answer.
        passage_tokens: the most tokens of passages that are read beside the notes; 0 answers from the notes alone.
        abstain_below: the probability that the answer is stated, below which it is refused.
    """

    index: str = field(default="hybrid", kw_only=True)
    passage_tokens: int = field(default=700, kw_only=True)
    abstain_below: float = field(default=0.2, kw_only=True)

    @abstractmethod
    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """What was noted so far; of a state that a budget ended there may be nothing."""

    @property
    def grounding(self) -> Grounding:
        """How the answer is found."""
        return Grounding(self.index, self.passage_tokens, self.abstain_below)

    def reply(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from the notes: `reply` and `found` for the state."""
        return self.grounding.answer(services, Question.of(state), self.notes(state, services))

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer from the notes so far, or from passages alone where there are none yet."""
        can = self.passage_tokens or self.notes(state, services).text.strip()
        return self.reply(state, services) if can else super().finish_early(state, services)

    def sources(self) -> tuple[str, ...]:
        """The workflow's module, and this one."""
        return (*super().sources(), Grounding.__module__)


def spans_of(services: Services, found: Sequence[int]) -> list[Span]:
    """The sentences of the passages that were found, as places that an answer's quotes are taken from."""
    return to_spans(services, sentences(services.shelf.get(found)))
