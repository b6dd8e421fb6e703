"""Chain-of-Agents: workers read every chunk in order and pass a message on; a manager answers from the last one.

Source: Zhang et al., "Chain of Agents: Large Language Models Collaborating on Long-Context Tasks", NeurIPS 2024,
arXiv 2406.02818, algorithm 1 and the prompts of its appendix (no authors' code).

Differs from the paper: chunks are cut at passage borders; evidence pointers travel with the message:
at each step the sentences of the source that the new message was written from are found while the chunk is at
hand, so the answer's quotes come from the source itself. Neither changes what the workers read. The manager reads
passages of the source beside the message (`reading.grounding`). `passage_tokens` 0, `abstain_below` 0 and
`enough_above` None are the paper's form; `order` holds its ablations.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import carry, quotes_for
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data, prompt_tokens, windows
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt, held_tokens
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

WORKER = Prompt(
    """{chunk}

Here is the summary of the previous source text: {message}

Question: {question}

You need to read the current source text and the summary of the previous source text (if any) and write a summary \
that includes them both. Later, this summary will be used by other agents to answer the question. So please write \
a summary that includes the evidence for answering the question:"""
)

MANAGER = Prompt(
    """The following is given. However, the source text is too long and has been summarized. You need to answer \
based on the summary:

{message}"""
)

NOTHING_YET = "(nothing yet)"

Order = Literal["left-to-right", "right-to-left", "random"]

_SEED = 20240604
# What was seen of models that are not asked for a length: most messages are one sentence, whatever the limit.
_MESSAGE_TOKENS = 32


class State(TypedDict, total=False):
    """What travels between nodes: the plan's hash, the next window, the message's hash, pointers, the reply's hash."""

    question: str
    choices: list[str] | None
    plan: str
    at: int
    message: str
    pointers: list[tuple[int, int, int]]
    enough: bool
    found: list[int]
    reply: str


@dataclass(frozen=True)
class ChainOfAgents(Grounded):
    """Reads every chunk in order, each worker adding to a message, and answers from the message (arXiv 2406.02818).

    Attributes:
        window_tokens: the window of a worker (k in the paper), the model's own where that is smaller.
        message_tokens: the most tokens of a message.
        order: the order of the windows; `random` is the same for every run.
        enough_above: stop reading when a message states the answer with this probability; None reads all.
        pointers: the most evidence pointers that travel with a message.
    """

    name: ClassVar[str] = "chain-of-agents"

    window_tokens: int = 8192
    message_tokens: int = 1024
    order: Order = "left-to-right"
    enough_above: float | None = None
    pointers: int = 24

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (the windows), work (one window a step, in order), manage (the answer)."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"plan": self._plan, "work": self._work, "manage": self._manage})
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "work")
        graph.add_conditional_edges("work", self._more, {"work": "work", "manage": "manage"})
        graph.add_edge("manage", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The manager's reply with the quotes that stand for it."""
        reply = Reply.kept(services, state["reply"])
        done = services.get_json(state["plan"])[: state["at"]] if "plan" in state else []
        found = state.get("found", [])
        coverage = ledger(services, read=[chunk for window in done for chunk in window], retrieved=found)
        spans = [*state.get("pointers", []), *spans_of(services, found)]
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The manager's calls."""
        return with_spare(self.grounding.cost(services, question, self.message_tokens))

    def estimate(self, question: Question, services: Services) -> Cost:
        """A call a window, and the manager's."""
        plan = self._windows(question.text, services)
        tokens = sum(services.shelf.count_tokens(services.model).values())
        written = min(self.message_tokens, _MESSAGE_TOKENS)
        frame = services.model.count_tokens([WORKER.format(chunk="", message="", question=question.text)])[0]
        last = self.grounding.cost(services, question, written)
        calls = len(plan) * (1 if self.enough_above is None else 4)
        read = tokens + len(plan) * (frame + TEMPLATE_TOKENS + written)
        return Cost(calls, read, len(plan) * written) + last

    def _windows(self, question: str, services: Services) -> list[list[int]]:
        window = min(self.window_tokens, services.model.window_tokens)
        frame, asked = services.model.count_tokens([WORKER.format(chunk="", message="", question=""), question])
        # The message comes back as part of the next prompt, and the chat template takes a few dozen tokens.
        room = window - frame - held_tokens(asked) - 2 * self.message_tokens - TEMPLATE_TOKENS
        tokens = prompt_tokens(services)
        if room < max(tokens.values(), default=0):
            raise PromptTooLongError(
                f"a window of {window} tokens leaves {max(room, 0)} for a chunk",
                hint="set fewer message_tokens, or use a model with a larger window",
            )
        plan = windows(services.shelf.chunk_ids(), tokens, room)
        if self.order == "right-to-left":
            plan.reverse()
        elif self.order == "random":
            random.Random(_SEED).shuffle(plan)
        return plan

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        plan = self._windows(state["question"], services)
        self.grounding.prepare(services, Question.of(state))
        return {"plan": services.put_json(plan), "at": 0, "pointers": []}

    def _work(self, state: State, runtime: Runtime[Services]) -> State:
        services, at = runtime.context, state["at"]
        plan = services.get_json(state["plan"])
        chunks = services.chunks(plan[at])
        message = services.get(state["message"]) if at else NOTHING_YET
        prompt = WORKER.format(
            chunk=as_data("".join(chunk.text for chunk in chunks).strip()),
            message=as_data(message),
            question=state["question"],
        )
        written = services.complete([Request.user(prompt, max_tokens=self.message_tokens)])[0].text.strip() or message
        services.emit(Event("read", at + 1, len(plan), "windows"))
        return {
            "at": at + 1,
            "message": services.put(written),
            "pointers": carry(services, state["question"], written, state["pointers"], chunks, self.pointers),
            "enough": at + 1 == len(plan) or self._is_enough(written, state, services),
        }

    def _is_enough(self, message: str, state: State, services: Services) -> bool:
        if self.enough_above is None:
            return False
        return look(services, MANAGER.format(message=as_data(message)), Question.of(state)).stated >= self.enough_above

    def _more(self, state: State) -> str:
        return "manage" if state["enough"] else "work"

    def _manage(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The last message."""
        message = services.get(state["message"]) if "message" in state else ""
        return Notes(MANAGER.format(message=as_data(message)), message, state.get("pointers", []))
