"""Chain-of-Agents: workers read every chunk in order and pass a message on; a manager answers from the last one.

Source: Zhang et al., "Chain of Agents: Large Language Models Collaborating on Long-Context Tasks", NeurIPS 2024,
arXiv 2406.02818, algorithm 1 and the prompts of its appendix (no authors' code).

Differs from the paper: chunks are cut at passage borders and evened out; evidence pointers travel with the message:
at each step the sentences of the source that the new message was written from are found while the chunk is at
hand, so the answer's quotes come from the source itself. Neither changes what the workers or the manager read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.answering import NOT_STATED, Reply, answer_from
from readthrough.agents.base import Question, Services, Workflow, ledger
from readthrough.agents.looking import look
from readthrough.agents.passages import windows
from readthrough.agents.pointers import Sentence, cut, point, sentence_at, sentences
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Answer, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

WORKER = """{chunk}

Here is the summary of the previous source text: {message}

Question: {question}

You need to read the current source text and the summary of the previous source text (if any) and write a summary \
that includes them both. Later, this summary will be used by other agents to answer the question. So please write \
a summary that includes the evidence for answering the question:"""

MANAGER = """The following is given. However, the source text is too long and has been summarized. You need to answer \
based on the summary:

{message}"""

NOTHING_YET = "(nothing yet)"


class State(TypedDict, total=False):
    """What travels between nodes: the windows as chunk ids, the next window, the message's hash, pointers, reply."""

    question: str
    choices: list[str] | None
    windows: list[list[int]]
    at: int
    message: str
    pointers: list[tuple[str, int, int]]
    reply: dict[str, Any]


@dataclass(frozen=True)
class ChainOfAgents(Workflow):
    """Reads every chunk in order, each worker adding to a message, and answers from the message (arXiv 2406.02818).

    Attributes:
        window_tokens: the window of a worker (k in the paper), the model's own where that is smaller.
        message_tokens: the most tokens of a message.
        pointers: the most evidence pointers that travel with a message.
        abstain_below: the probability that the last message states the answer, below which the manager refuses.
    """

    name: ClassVar[str] = "chain-of-agents"

    window_tokens: int = 8192
    message_tokens: int = 1024
    pointers: int = 24
    abstain_below: float = 0.2

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan (the windows), work (one window a step, in order), manage (the answer)."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        graph.add_node("plan", self._plan)
        graph.add_node("work", self._work)
        graph.add_node("manage", self._manage)
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "work")
        graph.add_conditional_edges("work", self._more, {"work": "work", "manage": "manage"})
        graph.add_edge("manage", END)
        return graph.compile()

    def conclude(self, state: dict[str, Any], question: Question, services: Services) -> Answer:
        """The manager's reply with the quotes that stand for it."""
        reply = Reply(**state["reply"])
        carried = [
            sentence_at(services.shelf.document(document), start, end) for document, start, end in state["pointers"]
        ]
        said = reply.text if question.choices is None else f"{question.text} {reply.text}"
        pointers = [] if reply.abstained else point(question.text, said, carried)
        documents = {pointer.document: services.shelf.document(pointer.document) for pointer, _ in pointers}
        coverage = ledger(services, read=[chunk for window in state["windows"] for chunk in window])
        return reply.to_answer(question, cut(pointers, documents), coverage)

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        window = min(self.window_tokens, services.model.window_tokens)
        frame = WORKER.format(chunk="", message="", question=state["question"])
        # The message comes back as part of the next prompt, and the chat template takes a few dozen tokens.
        room = window - services.model.count_tokens([frame])[0] - 2 * self.message_tokens - 64
        tokens = services.shelf.count_tokens(services.model)
        if room < max(tokens.values(), default=0):
            raise PromptTooLongError(
                f"a window of {window} tokens leaves {max(room, 0)} for a chunk",
                hint="set fewer message_tokens, or use a model with a larger window",
            )
        return {"windows": windows(services.shelf.chunk_ids(), tokens, room), "at": 0, "pointers": []}

    def _work(self, state: State, runtime: Runtime[Services]) -> State:
        services, at = runtime.context, state["at"]
        chunks = services.shelf.get(state["windows"][at])
        message = services.runs.get(state["message"]) if at else NOTHING_YET
        prompt = WORKER.format(
            chunk="".join(chunk.text for chunk in chunks).strip(), message=message, question=state["question"]
        )
        written = services.complete([Request.user(prompt, max_tokens=self.message_tokens)])[0].text.strip()
        carried = [sentence_at(services.shelf.document(d), s, e) for d, s, e in state["pointers"]]
        pointers = point(state["question"], written, [*carried, *sentences(chunks)], most=self.pointers)
        services.emit(Event("read", at + 1, len(state["windows"]), "windows"))
        return {
            "at": at + 1,
            "message": services.runs.put(written or message),
            "pointers": [_span(sentence) for sentence, _ in pointers],
        }

    def _more(self, state: State) -> str:
        return "work" if state["at"] < len(state["windows"]) else "manage"

    def _manage(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        choices = state.get("choices")
        material = MANAGER.format(message=services.runs.get(state["message"]))
        question = Question(state["question"], tuple(choices) if choices else None)
        stated = look(services, material, question).stated
        if choices is None and stated < self.abstain_below:
            return {"reply": Reply(NOT_STATED, confidence=round(1 - stated, 4), abstained=True).to_state()}
        return {"reply": answer_from(services, material, question, stated).to_state()}


def _span(sentence: Sentence) -> tuple[str, int, int]:
    return (sentence.document, sentence.start, sentence.end)
