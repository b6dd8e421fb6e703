"""Answer from the notes, or from the passages, or refuse where they do not state the answer.

Source: the manager of Chain-of-Agents, Zhang et al., NeurIPS 2024, arXiv 2406.02818.

Differs from the paper: it may refuse, and it may answer from passages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.nodes.covering import cover
from readthrough.agents.nodes.material import PASSAGE_TOKENS, Material, material
from readthrough.agents.reading.answering import ANSWER_TOKENS, EXPLANATION, SHORT_ANSWER, Reply
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, to_spans
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import check, replaced
from readthrough.agents.runs.services import Services
from readthrough.types import Cost

# As the built-in workflows have it: a message says less about what it holds than the passages themselves.
_ABSTAIN_BELOW_NOTES = 0.2
_ABSTAIN_BELOW_PASSAGES = 0.5
_QUOTES = 8


@dataclass(frozen=True)
class ManagerNode(AskingNode):
    """Answers from the notes, or from the passages where there are none, and abstains when they do not say.

    Attributes:
        prompt: what it is told in place of the usual; `{material}` and `{question}` are filled in. Not for a
            multiple-choice question.
        abstain_below: the probability that the answer is stated, below which it is refused; None takes 0.2 for
            notes and 0.5 for passages.
        answer_tokens: the most tokens of the answer.
        passage_tokens: the most tokens of passages, where there are no notes.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("notes", "passages"),)
    gives: ClassVar[frozenset[str]] = frozenset({"reply"})

    prompt: str | None = None
    abstain_below: float | None = None
    answer_tokens: int = ANSWER_TOKENS
    passage_tokens: int = PASSAGE_TOKENS

    def __post_init__(self) -> None:
        if self.prompt is not None:
            check(self.prompt, SHORT_ANSWER)
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise ValueError("abstain_below is a probability, from 0 to 1")
        if self.answer_tokens < 1:
            raise ValueError("an answer must have room for something")

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Look whether the answer is stated, and give it."""
        shown = material(state, services, self.passage_tokens)
        if shown is None:
            return {"reply": Reply.refused().keep(services)}
        question = Question.of(state)
        below = self.abstain_below
        if below is None:
            below = _ABSTAIN_BELOW_PASSAGES if shown.passages else _ABSTAIN_BELOW_NOTES
        prompts: dict[str, str] = {}
        if self.prompt is not None:
            prompts = {SHORT_ANSWER: self.prompt, EXPLANATION: self.prompt}
        with replaced(prompts):
            reply = answer_if_stated(services, shown.text, question, below, self.answer_tokens)
        update: dict[str, Any] = {"reply": reply.keep(services)}
        return {**update, **self._sources(shown, question, reply, state, services)} if shown.passages else update

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """A look and an answer."""
        return answer_cost(services, question, self.passage_tokens, self.answer_tokens)

    def _sources(
        self, shown: Material, question: Question, reply: Reply, state: Mapping[str, Any], services: Services
    ) -> dict[str, Any]:
        """What was read, and the sentences that the reply may stand on."""
        pointers = point(question.text, f"{question.text} {reply.text}", sentences(shown.passages), _QUOTES)
        ids = [chunk.id for chunk in shown.passages]
        return {
            "pointers": to_spans(services, (sentence for sentence, _ in pointers)),
            "covered": cover(state, services, state["origin"], ids),
        }
