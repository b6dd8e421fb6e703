"""Read the passages, and rewrite the notes with what they say.

Source: the worker of Chain-of-Agents, Zhang et al., NeurIPS 2024, arXiv 2406.02818.

Differs from the paper: it reads whatever an earlier node has put in front of it, and the sentences of the source
that the new notes were written from travel with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.nodes.covering import cover
from readthrough.agents.reading.concluding import Span, carry
from readthrough.agents.reading.passages import as_data, in_reading_order, prompt_tokens, section_text, windows
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, check
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import NOTHING_YET, WORKER
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Cost


@dataclass(frozen=True)
class ReaderNode(AskingNode):
    """Reads the passages and rewrites the notes.

    Attributes:
        prompt: what it is told; `{chunk}`, `{message}` (the notes so far) and `{question}` are filled in.
        notes_tokens: the most tokens of the notes.
        pointers: the most places of the source that travel with the notes.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("passages",),)
    gives: ClassVar[frozenset[str]] = frozenset({"notes"})

    prompt: str = str(WORKER)
    notes_tokens: int = 512
    pointers: int = 24

    def __post_init__(self) -> None:
        check(self.prompt, WORKER)
        if self.notes_tokens < 1:
            raise ValueError("notes must have room for something")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """One call, or as many as it takes to read all passages; nothing is left out."""
        question = state["question"]
        notes = services.get(state["notes"]) if state.get("notes") else NOTHING_YET
        spans: list[Span] = [tuple(span) for span in state.get("pointers", [])]
        passages = in_reading_order(services.shelf.get(state["passages"]), services.shelf.document_ids())
        for ids in self._windows([chunk.id for chunk in passages], question, services):
            chunks = services.chunks(ids)
            prompt = self.prompt.format(chunk=section_text(chunks), message=as_data(notes), question=question)
            request = Request.user(prompt, max_tokens=self.notes_tokens)
            notes = services.complete([request])[0].text.strip() or notes
            spans = carry(services, question, notes, spans, chunks, self.pointers)
        covered = cover(state, services, state["origin"], [chunk.id for chunk in passages])
        return {"notes": services.put(notes), "pointers": spans, "covered": covered}

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """One call."""
        frame = services.model.count_tokens([self.prompt, question.text])
        prompt = shown_tokens + sum(frame) + self.notes_tokens
        return Cost(calls=1, prompt_tokens=prompt, completion_tokens=self.notes_tokens)

    def _windows(self, ids: list[int], question: str, services: Services) -> list[list[int]]:
        frame = self.prompt.format(chunk="", message="", question=question)
        used = services.model.count_tokens([frame])[0] + 2 * self.notes_tokens + TEMPLATE_TOKENS
        try:
            return windows(ids, prompt_tokens(services), services.model.window_tokens - used)
        except ValueError as error:
            raise PromptTooLongError(str(error), hint="set fewer notes_tokens, or make smaller chunks") from error
