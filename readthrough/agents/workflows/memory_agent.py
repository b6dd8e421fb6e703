"""MemAgent: a memory of fixed size is rewritten by each section of the text; the answer comes from the last one.

Source: Yu et al., "MemAgent: Reshaping Long-Context LLM with Multi-Conv RL-based Memory Agent", arXiv 2507.02259
(BytedTsinghua-SIA/MemAgent): sections of 5,000 tokens, a memory of at most 1,024, "No previous memory" at first, and
a last call with problem and memory. The prompts have the paper's structure in other words.

Differs from the paper: its models are trained for this loop, others are not. Nothing is clipped (the authors'
evaluation drops the middle of a text above 120,000 tokens), sections end at passage borders, evidence pointers travel
with the memory, a memory that comes back empty does not replace the one before, and passages of the source are read
beside the last one (`reading.grounding`). The section comes first in the
prompt, so that what was computed of it can be used again, and a gate passes over passages that do not matter for the
question: what is left is packed into sections. The paper's form is `order` "memory-first", `gate_below` None (every
passage is read), `passage_tokens` 0 (the answer has the memory alone) and `abstain_below` 0 (every question is
answered).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import carry, quotes_for
from readthrough.agents.reading.gating import GATE_BELOW, PASS_RATIO, Scale, gate_cost, passing, scale
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.passages import as_data, prompt_tokens, section_text, windows
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.queries import wants_summary
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

CHUNK_FIRST = Prompt(
    """{chunk}

This memory was written while the text before this section was read: {memory}

Question: {question}

Rewrite the memory: keep every detail of it that may help to answer the question, and add what the section above says \
that helps. Write the updated memory only:"""
)

MEMORY_FIRST = Prompt(
    """You are given a question, a memory that was written while a text was read, and the next section of that text. \
Read the section closely and rewrite the memory: keep every detail of it that may help to answer the question, and add \
what the section says that helps.

Question: {question}

This is the memory: {memory}

This is the section:
{chunk}

Write the updated memory only:"""
)

NOTES = Prompt(
    """Question: {question}

A long text was read for this question, section by section. This is the memory of it:

{memory}"""
)

FIRST_MEMORY = "No previous memory"

Order = Literal["chunk-first", "memory-first"]

# What was seen of models that are not asked for a length: most memories are much shorter than the limit.
_MEMORY_TOKENS = 96


class State(TypedDict, total=False):
    """What travels between nodes.

    Hashes of the plan, of the gate's scale, of the passages that wait to be read, of those skipped (a chain, so that
    it does not grow), of the memory and of the reply; which section is next, whether enough waits for it; pointers.
    """

    question: str
    choices: list[str] | None
    plan: str
    scale: str
    sections: int
    at: int
    waiting: str
    full: bool
    skipped: str | None
    memory: str
    pointers: list[tuple[int, int, int]]
    found: list[int]
    reply: str


@dataclass(frozen=True)
class MemoryAgent(Grounded):
    """Rewrites a memory of fixed size with each section of a text, and answers from it (arXiv 2507.02259).

    Attributes:
        chunk_tokens: the most tokens of a section.
        memory_tokens: the most tokens of the memory.
        order: what comes first in the prompt.
        gate_below: passages that raise the question less than so many standard deviations above the mean of the text
            are skipped (see `reading.gating`); None reads everything, as does an order to summarise.
        pointers: the most evidence pointers that travel with the memory.
    """

    name: ClassVar[str] = "memory-agent"

    chunk_tokens: int = 5000
    memory_tokens: int = 1024
    order: Order = "chunk-first"
    gate_below: float | None = GATE_BELOW
    pointers: int = 24

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: plan, gate (which passages of the next section to read), read (once enough wait), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"plan": self._plan, "gate": self._gate, "read": self._read, "answer": self._answer})
        graph.add_edge(START, "plan")
        for node in ("plan", "gate", "read"):
            graph.add_conditional_edges(node, _next, {step: step for step in ("gate", "read", "answer")})
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply from the memory with the quotes that stand for it; what the gate held back is skipped."""
        reply = Reply.kept(services, state["reply"])
        found = state.get("found", [])
        spans = [*state.get("pointers", []), *spans_of(services, found)]
        states = _states(state, services)
        coverage = ledger(services, read=states["read"], retrieved=found, skipped=states["skipped"])
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The calls of the answer."""
        notes = services.model.count_tokens([NOTES.format(question=asked(question), memory="")])[0]
        return with_spare(self.grounding.cost(services, question, notes + self.memory_tokens))

    def estimate(self, question: Question, services: Services) -> Cost:
        """The gate over every passage, a call for each section of what is likely to pass, and the answer."""
        plan = self._sections(question, services)
        written = min(self.memory_tokens, _MEMORY_TOKENS)
        frame = services.model.count_tokens([self._prompt("", "", question)])[0] + TEMPLATE_TOKENS
        gates = self._below(question) is not None
        gate = gate_cost(services, asked(question), plan) if gates else Cost()
        pass_ratio = PASS_RATIO if gates else 1.0
        read_tokens = int(pass_ratio * sum(services.shelf.count_tokens(services.model).values()))
        calls = math.ceil(pass_ratio * len(plan))
        last = self.grounding.cost(services, question, written)
        return gate + Cost(calls, read_tokens + calls * (frame + written), calls * written) + last

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, and the gate's module."""
        return (*super().sources(), passing.__module__)

    def _prompt(self, chunk: str, memory: str, question: Question) -> str:
        prompt = CHUNK_FIRST if self.order == "chunk-first" else MEMORY_FIRST
        return prompt.format(chunk=chunk, memory=as_data(memory), question=asked(question))

    def _room_tokens(self, question: Question, services: Services) -> int:
        """The most tokens of a section: the option, or what the model's window leaves."""
        frame = services.model.count_tokens([self._prompt("", "", question)])[0]
        # The memory is part of the next prompt, and the chat template takes a few dozen tokens.
        return min(self.chunk_tokens, services.model.window_tokens - frame - 2 * self.memory_tokens - TEMPLATE_TOKENS)

    def _sections(self, question: Question, services: Services) -> list[list[int]]:
        room, tokens = self._room_tokens(question, services), prompt_tokens(services)
        largest = max(tokens.values(), default=0)
        if room < largest:
            raise PromptTooLongError(
                f"a section has room for {max(room, 0)} tokens, a chunk of the text has {largest}",
                hint="set more chunk_tokens or fewer memory_tokens, or use a model with a larger window",
            )
        return windows(services.shelf.chunk_ids(), tokens, room)

    def _plan(self, state: State, runtime: Runtime[Services]) -> State:
        """All passages with their tokens, in the sections that are read where nothing is skipped."""
        services, question = runtime.context, Question.of(state)
        sections = self._sections(question, services)
        self.grounding.prepare(services, question)
        tokens = prompt_tokens(services)
        plan = {
            "room": self._room_tokens(question, services),
            "sections": [[(chunk, tokens[chunk]) for chunk in section] for section in sections],
        }
        digest, waiting = services.put_json(plan), services.put_json([])
        by = Scale() if self._below(question) is None else scale(services, asked(question))
        return {
            "plan": digest,
            "scale": by.keep(services),
            "sections": len(sections),
            "at": 0,
            "waiting": waiting,
            "full": False,
            "pointers": [],
        }

    def _gate(self, state: State, runtime: Runtime[Services]) -> State:
        """Weigh the passages of the next section; those that matter wait to be read."""
        services, at = runtime.context, state["at"]
        waiting = services.get_json(state["waiting"])
        plan = services.get_json(state["plan"])
        section = plan["sections"][at]
        passed = self._passed([chunk for chunk, _ in section], state, services)
        waiting = [*waiting, *(passage for passage in section if passage[0] in passed)]
        held = [chunk for chunk, _ in section if chunk not in passed]
        before = state.get("skipped")
        services.emit(Event("read", at, state["sections"], "sections"))
        return {
            "at": at + 1,
            "waiting": services.put_json(waiting),
            "full": self._is_full(waiting, plan, at + 1, Question.of(state)),
            "skipped": services.link(before, chunks=held) if held else before,
        }

    def _passed(self, section: Sequence[int], state: State, services: Services) -> set[int]:
        question = Question.of(state)
        below = self._below(question)
        if below is None:
            return set(section)
        by = Scale.kept(services, state["scale"])
        return {chunk.id for chunk in passing(services, asked(question), services.chunks(section), by, below)}

    def _below(self, question: Question) -> float | None:
        """The gate's threshold; None for an order to summarise: all passages matter then."""
        return None if wants_summary(question) else self.gate_below

    def _is_full(self, waiting: Sequence[Sequence[int]], plan: Mapping[str, Any], at: int, question: Question) -> bool:
        """Whether the waiting passages are to be read now: they fill a section, or there will be no more."""
        over = self._below(question) is None or at == len(plan["sections"])
        return bool(waiting) and (over or sum(tokens for _, tokens in waiting) >= plan["room"])

    def _read(self, state: State, runtime: Runtime[Services]) -> State:
        """Rewrite the memory with as much of what waits as fits a section."""
        services, question = runtime.context, Question.of(state)
        waiting, plan = services.get_json(state["waiting"]), services.get_json(state["plan"])
        count = bisect_right(list(accumulate(tokens for _, tokens in waiting)), plan["room"])
        chunks = services.chunks([chunk for chunk, _ in waiting[:count]])
        memory = services.get(state["memory"]) if "memory" in state else FIRST_MEMORY
        request = Request.user(self._prompt(section_text(chunks), memory, question), max_tokens=self.memory_tokens)
        completion = services.complete([request])[0]
        services.emit(Event("read", state["at"], state["sections"], "sections"))
        written, spans = completion.text.strip(), state["pointers"]
        if completion.finish == "length":
            services.decide("the memory was cut at its limit", limit_tokens=self.memory_tokens)
        if written:
            spans = carry(services, question.text, written, spans, chunks, self.pointers)
        else:
            services.decide("the memory came back empty: the one before is kept")
        return {
            "memory": services.put(written or memory),
            "pointers": spans,
            "waiting": services.put_json(waiting[count:]),
            "full": self._is_full(waiting[count:], plan, state["at"], question),
        }

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """The memory."""
        question = Question.of(state)
        memory = services.get(state["memory"]) if "memory" in state else FIRST_MEMORY
        material = NOTES.format(question=asked(question), memory=as_data(memory))
        return Notes(material, memory if "memory" in state else "", state.get("pointers", []))


def asked(question: Question) -> str:
    """The problem as the prompts name it: the question, with its choices."""
    return "\n".join([question.text, *(question.choices or ())])


def _next(state: State) -> str:
    if state["full"]:
        return "read"
    return "gate" if state["at"] < state["sections"] else "answer"


def _states(state: Mapping[str, Any], services: Services) -> dict[str, list[int]]:
    """The chunks that were read and those that were skipped, of a state that a budget may have ended."""
    if "plan" not in state:
        return {"read": [], "skipped": []}
    skipped = [chunk for link in services.links(state.get("skipped")) for chunk in link["chunks"]]
    passed_over = {*skipped, *(chunk for chunk, _ in services.get_json(state["waiting"]))}
    done = services.get_json(state["plan"])["sections"][: state["at"]]
    read = [chunk for section in done for chunk, _ in section if chunk not in passed_over]
    return {"read": read, "skipped": skipped}
