"""Which text caused an answer: from the run log, the answer's prompt, and the notes that stand in it, to the source.

An answer that was written from notes is traced twice: from the answer to sentences of notes, and from each of these to
the passages that were read in the step in which it first stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from readthrough.agents.reading.passages import in_reading_order, section_text, within_budget
from readthrough.agents.reading.pointers import Sentence, overlap, rarity, sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.agents.tracing.base import Cause, Method, Trace, Written
from readthrough.agents.tracing.prompts import Prompted, prompted
from readthrough.agents.tracing.weighing import ByAttention, BySearch, check
from readthrough.errors import ModelError, UsageError
from readthrough.memory.runs import Run, Step
from readthrough.types import Chunk, Evidence

NOTED = Prompt(
    """{text}

Question: {question}

Write down what the text above says that helps to answer the question."""
)

# A note's sentence first stands where so much of it does as anywhere, by words.
_SAME_RATIO = 0.8


@dataclass(frozen=True)
class Tracing:
    """How an answer is traced.

    Attributes:
        k: the most causes of the answer, and of each note among them.
        least_ratio: what has less than this share of the strongest cause's score is none.
        method: `attention` (needs a local model with a dense plan), `search` (slow; needs log-probabilities of given
            text), or `auto`: attention where the model shows it, else search.
        check: take the causes out of the prompt, and score the answer again.
        section_tokens: the most tokens of what a note was written from that is looked at.
        attention: how the attention is read.
        search: how the search goes.
    """

    k: int = 5
    least_ratio: float = 0.2
    method: Method = "auto"
    check: bool = True
    section_tokens: int = 2000
    attention: ByAttention = field(default_factory=ByAttention)
    search: BySearch = field(default_factory=BySearch)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"at least one cause must be asked for, got {self.k}")

    def trace(self, services: Services, run: Run) -> Trace:
        """The causes of a run's answer. Nothing is written to the run log.

        Raises:
            UsageError: the run has no answer, refused to give one, or does not say what that was written from; or the
                texts are not those that it read.
            ModelError: the model shows neither attention nor log-probabilities.
        """
        return _Tracer(self, services, run).trace()

    def by(self, services: Services) -> tuple[str, ByAttention | BySearch]:
        """The method's name, and the method, that the model allows.

        Raises:
            ModelError: it allows none, or not the one that is asked for.
        """
        able = services.model.capabilities
        if "attention" in able and self.method != "search":
            return "attention", self.attention
        if "logits" in able and self.method != "attention":
            return "search", self.search
        wanted = "its attention" if self.method == "attention" else "log-probabilities of a given text"
        raise ModelError(
            f"an answer cannot be traced with {services.model.name}: it does not show {wanted}",
            hint="trace it with a local model: --model small, or model='small'",
        )


@dataclass(frozen=True)
class _Tracer:
    """The tracing of one run."""

    how: Tracing
    services: Services
    run: Run

    def trace(self) -> Trace:
        answer = self._answer()
        name, method = self.how.by(self.services)
        steps = self.services.runs.steps(self.run.id)
        said = list(self._said(steps, answer))
        if not said:
            raise UsageError(
                f"run {self.run.id} does not say what its answer was written from",
                hint="quotations and filled forms are their own evidence; an old run has to be asked again",
            )
        parts = tuple(self._written(*each, steps, method) for each in said)
        model = self.services.model.name
        return Trace(self.run.id, self.run.question, answer, name, model, parts, self.services.usage)

    def _answer(self) -> str:
        if self.run.answer is None:
            raise UsageError(f"run {self.run.id} has no answer yet", hint="`readthrough runs resume` goes on with it")
        if self.run.answer["abstained"]:
            raise UsageError(f"run {self.run.id} gave no answer: no text caused it")
        changed = [id for id in self.run.recipe.get("documents", {}).values() if id not in self._documents]
        if changed:
            raise UsageError(f"the texts are not those that run {self.run.id} read", hint="ask the question again")
        return str(self.run.answer["answer"])

    @property
    def _documents(self) -> set[str]:
        return set(self.services.shelf.document_ids())

    def _said(self, steps: Sequence[Step], answer: str) -> Iterator[tuple[int, Any]]:
        """What the answer was written in, with the place of the step: what stands in it, or what was said last."""
        runs = self.services.runs
        every = [(at, json.loads(runs.said(self.run.id, one))) for at, step in enumerate(steps) for one in step.said]
        whole = "".join(answer.split())
        inside = {text: (at, said) for at, said in every if (text := "".join(said[2].split())) in whole}
        yield from inside.values() if inside else every[-1:]

    def _written(self, at: int, said: Any, steps: Sequence[Step], method: ByAttention | BySearch) -> Written:
        """The causes of one text that the model wrote, in the step at place `at`."""
        read = [span for step in reversed(steps[: at + 1]) for span in step.spans]
        notes = (self.services.get(text) for step in reversed(steps[:at]) for text in step.texts)
        written = prompted(said, self._places(self._chunks(read)), notes, self.run.question)
        found = self._weighed(written, method)
        traced = tuple(self._behind(cause, steps[:at], method) if cause.note else cause for cause in found.causes)
        return replace(found, causes=traced)

    def _weighed(self, written: Prompted, method: ByAttention | BySearch) -> Written:
        if not written.removable:
            raise UsageError(f"nothing that run {self.run.id} read or noted stands in the prompt of its answer")
        scores = method.weigh(self.services, written)
        ranked = sorted(scores, key=lambda tile: -scores[tile])[: self.how.k]
        least = self.how.least_ratio * max(0.0, scores[ranked[0]])
        best = [ranked[0], *(tile for tile in ranked[1:] if scores[tile] >= least)]
        causes = tuple(self._cause(written, tile, scores[tile]) for tile in best)
        can = self.how.check and "logits" in self.services.model.capabilities
        return Written(written.text, causes, check(self.services, written, best) if can else None)

    def _cause(self, written: Prompted, number: int, score: float) -> Cause:
        tile = written.tiles[number]
        if tile.place is None:
            return Cause(score, note=tile.note)
        document = self.services.shelf.document(tile.place.document)
        return Cause(score, Evidence.cut(document, tile.place.start, tile.place.end))

    def _behind(self, cause: Cause, steps: Sequence[Step], method: ByAttention | BySearch) -> Cause:
        """The note with what it was written from: the passages of the step that it first stands in."""
        noted = cause.note or ""
        step = self._origin(frozenset(words(noted)), steps)
        if step is None:
            return cause
        chunks = self._nearest(frozenset(words(noted)), self._chunks(step.spans))
        content = NOTED.format(text=section_text(chunks), question=self.run.question)
        said = [[("user", content)], "", noted]
        written = prompted(said, self._places(chunks), (), self.run.question)
        behind = self._weighed(written, method) if written.removable else None
        return replace(cause, step=step.number, behind=behind)

    def _origin(self, wanted: frozenset[str], steps: Sequence[Step]) -> Step | None:
        """The first step that read something and noted what has nearly all of these words that any has."""
        held = [
            (max((len(wanted & set(words(self.services.get(text)))) for text in step.texts), default=0), step)
            for step in steps
            if step.spans
        ]
        most = max((count for count, _ in held), default=0)
        return next((step for count, step in held if most and count >= _SAME_RATIO * most), None)

    def _chunks(self, spans: Sequence[tuple[str, int, int]]) -> list[Chunk]:
        """The chunks of some spans, each once."""
        shelf, known = self.services.shelf, self._documents
        found: dict[int, None] = {}
        for document, start, end in spans:
            if document in known:
                ids = shelf.chunk_ids(document)
                first, last = shelf.chunk_at(document, start), shelf.chunk_at(document, end - 1)
                found |= dict.fromkeys(ids[ids.index(first) : ids.index(last) + 1])
        return shelf.get(list(found))

    def _nearest(self, wanted: frozenset[str], chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks that share most words with a note, as many as `section_tokens` holds, in reading order."""
        shelf = self.services.shelf
        bags = [Sentence(chunk.document, chunk.start, chunk.end, frozenset(words(chunk.text))) for chunk in chunks]
        weights = rarity(bags)
        scores = {c.id: overlap(bag, wanted, frozenset(), weights) for c, bag in zip(chunks, bags, strict=True)}
        ranked = sorted(scores, key=lambda chunk: -scores[chunk])
        kept = within_budget(ranked, shelf.count_tokens(self.services.model), self.how.section_tokens) or ranked[:1]
        return in_reading_order(shelf.get(kept), shelf.document_ids())

    def _places(self, chunks: Sequence[Chunk]) -> list[tuple[Sentence, str]]:
        """The sentences of some chunks with their texts."""
        texts = {chunk.document: self.services.shelf.document(chunk.document).text for chunk in chunks}
        return [(each, texts[each.document][each.start : each.end]) for each in sentences(chunks)]
