"""Full context: the whole text in one prompt, where it fits the model's window.

What the other workflows are measured against; for a text that fits it is also the simplest way to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import ANSWER_TOKENS, Reply
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, cut_all
from readthrough.agents.reading.passages import section_text
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.types import Answer, Cost

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

MATERIAL = Prompt(
    """Read this text.

{text}"""
)

# The question, the instructions around it and the chat template.
_FRAME_TOKENS = 256


class State(TypedDict, total=False):
    """What travels between nodes: the reply's hash."""

    question: str
    choices: list[str] | None
    reply: str


@dataclass(frozen=True)
class FullContext(Workflow):
    """Reads the whole text in one prompt; a text that does not fit the model's window is an error.

    Attributes:
        answer_tokens: the most tokens of the answer.
        quotes: the most sentences quoted as evidence.
        abstain_below: the probability that the text states the answer, below which it is refused.
    """

    name: ClassVar[str] = "full-context"

    answer_tokens: int = ANSWER_TOKENS
    quotes: int = 3
    abstain_below: float = 0.2

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """One node: answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"answer": self._answer})
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with the sentences that hold most of it."""
        reply = Reply.kept(services, state["reply"])
        ids = services.shelf.chunk_ids()
        among = [] if reply.abstained else sentences(services.shelf.get(ids))
        evidence = cut_all(services, point(question.text, reply.said(question), among, self.quotes))
        read = [] if reply.abstained and reply.confidence is None else ids
        return reply.to_answer(question, evidence, ledger(services, read=read))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The answer's calls over the whole text."""
        return answer_cost(services, question, self._tokens(services), self.answer_tokens)

    def _tokens(self, services: Services) -> int:
        tokens = sum(services.shelf.count_tokens(services.model).values())
        room = services.model.window_tokens - self.answer_tokens - _FRAME_TOKENS
        if tokens > room:
            raise PromptTooLongError(
                f"the text has {tokens} tokens, the window of {services.model.name} leaves {max(room, 0)} for it",
                hint="use another workflow: retrieve finds passages, chain-of-agents reads all in parts",
            )
        return tokens

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        services = runtime.context
        self._tokens(services)
        chunks = services.chunks(services.shelf.chunk_ids())
        material = MATERIAL.format(text=section_text(chunks))
        reply = answer_if_stated(services, material, Question.of(state), self.abstain_below, self.answer_tokens)
        return {"reply": reply.keep(services)}
