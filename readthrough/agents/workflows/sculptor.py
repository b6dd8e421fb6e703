"""Sculptor: the model's own context is worked on (fragments opened, folded, summarised, searched) until it says enough.

Source: Li et al., "Sculptor: Empowering LLMs with Cognitive Agency via Active Context Management", arXiv 2508.04664 (no
code): tools that cut the context into fragments, fold and expand them, put summaries in their place and restore them,
and search the whole for exact words; the model calls them round by round, and then answers.

Differs from the paper: there a trained model calls tools in words of its own; here every action is a scored choice
among a few. By default (`decide="scores"`) it is scored by how much a fragment raises the question (query likelihood),
which small models know better than what to do next. A text that does not fit the context begins folded, and what an
index finds is opened first. What can be searched for are names: the question's, and those in open fragments that lead
on. The paper's form is `decide="choice"`, `index="bm25"`, `order="reading"` and a `context_tokens` as large as the
model's window, which opens everything at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply, answer_from
from readthrough.agents.reading.concluding import answer_cost, answer_if_stated, cut_all, from_spans
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import prompt_tokens, windows
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.reading.queries import quoted_phrases
from readthrough.agents.reading.summarizing import WINDOW, Note
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.sculpt.desk import Desk, Table
from readthrough.agents.workflows.sculpt.menu import ACT, Action, chosen, offered, weighed
from readthrough.errors import ConfigError, PromptTooLongError
from readthrough.retrieval.elements import names_in
from readthrough.retrieval.indexes.bm25 import holding
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

_MOST_TERMS = 6
_LOOK_CALLS = 3
_FRAME_TOKENS = 96


class State(TypedDict, total=False):
    """What travels between nodes: hashes of the fragments, of the desk and of the reply, a counter, the next node."""

    question: str
    choices: list[str] | None
    fragments: str
    whole: bool
    desk: str
    actions: int
    next: str
    reply: str


@dataclass(frozen=True)
class Sculptor(Workflow):
    """Opens, folds, summarises and searches fragments of its own context until it says enough (arXiv 2508.04664).

    Attributes:
        decide: what to do next is scored by how much fragments raise the question (`scores`; models without logits
            choose), or chosen by the model among described actions (`choice`).
        index: the index that finds the first fragments, and orders what a search finds, by its name in the catalogue.
        fragment_tokens: the most tokens of a fragment.
        context_tokens: the most tokens of what is open and summarised.
        order: fragments stand in the context in the order in which they were opened (what stood there before need not
            be read again) or in that of the text.
        found: the most fragments that the index finds to begin with.
        hits: the most fragments that a search for a name adds.
        most_actions: the most actions.
        least_gain: an action that gains less is not taken, in standard deviations of how much fragments raise the
            question.
        enough_above: the probability that the context states the answer, at which it is answered.
        summary_tokens: the most tokens of a summary.
        abstain_below: the probability that the context states the answer, below which it is refused.
    """

    name: ClassVar[str] = "sculptor"

    decide: Literal["scores", "choice"] = "scores"
    index: str = "hybrid"
    fragment_tokens: int = 256
    context_tokens: int = 800
    order: Literal["opening", "reading"] = "opening"
    found: int = 12
    hits: int = 4
    most_actions: int = 24
    least_gain: float = 0.5
    enough_above: float = 0.9
    summary_tokens: int = 96
    abstain_below: float = 0.2

    def __post_init__(self) -> None:
        for name in ("fragment_tokens", "context_tokens", "found", "hits", "most_actions", "summary_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{self.name}.{name} = {getattr(self, name)}: must be at least 1")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: lay (fragments, and what is found first), act (one action), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"lay": self._lay, "act": self._act, "answer": self._answer})
        graph.add_edge(START, "lay")
        for node in ("lay", "act"):
            graph.add_conditional_edges(node, lambda state: state["next"], ["act", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of the desk, its actions and the summaries."""
        return (*super().sources(), *(part.__module__ for part in (Desk, Action, Note)))

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes; what was ever open was read, what was only weighed was passed over."""
        reply = Reply.kept(services, state["reply"])
        if "desk" not in state:
            return reply.to_answer(question, (), ledger(services))
        table = self._table(state, services)
        desk = table.desk
        begun = reply.reached or state["actions"] or desk.stated is not None  # else what is laid out was not shown yet
        read = [chunk.id for chunk in table.chunks(desk.seen)] if begun else []
        states = {"read" if state["whole"] else "retrieved": read}
        coverage = ledger(services, **states, skipped=[chunk.id for chunk in table.chunks(list(desk.weights))])
        if reply.abstained:
            return reply.to_answer(question, (), coverage)
        summarized = from_spans(services, [span for note in desk.summaries.values() for span in note.spans])
        among = [*sentences(table.chunks(desk.open)), *summarized]
        return reply.to_answer(question, cut_all(services, point(question.text, reply.said(question), among)), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """An answer from what is open."""
        table = self._table(state, services) if "desk" in state else None
        if table is None or not table.texts():
            return super().finish_early(state, services)
        reply = answer_from(table.reader(), table.material(), table.question, table.desk.stated)
        return {"reply": reply.keep(services)}

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls over a full context."""
        return with_spare(answer_cost(services, question, self._room_tokens(question, services)))

    def estimate(self, question: Question, services: Services) -> Cost:
        """What the index finds is weighed; as often as fragments fit the context one is opened and looked at."""
        tokens, room = sum(services.shelf.count_tokens(services.model).values()), self._room_tokens(question, services)
        asked = services.model.count_tokens([question.with_choices])[0] + _FRAME_TOKENS
        plan = self._fragments(services, room)
        size = tokens // max(1, len(plan))
        opened = max(1, min(room, tokens) // max(1, size))
        logits = "logits" in services.model.capabilities
        weighed = min(self.found + self.hits, len(plan)) if logits and self.decide == "scores" else 0
        calls = opened * (_LOOK_CALLS if logits else 2)
        looked = calls * (min(room, tokens) // 2 + asked)
        cached = looked * (_LOOK_CALLS - 1) // _LOOK_CALLS if logits else 0
        cost = Cost(weighed + calls, weighed * (size + asked) + looked, cached_tokens=cached)
        return cost + answer_cost(services, question, min(room, tokens))

    def _room_tokens(self, question: Question, services: Services) -> int:
        """The most tokens of the context: the option, or what the model's window leaves beside instructions."""
        frames = services.model.count_tokens([ACT, WINDOW, question.with_choices])
        return min(self.context_tokens, (services.model.window_tokens - sum(frames) - TEMPLATE_TOKENS) // 2)

    def _fragments(self, services: Services, room_tokens: int) -> list[list[int]]:
        """The chunk ids of each fragment, in reading order."""
        tokens = prompt_tokens(services)
        longest = max(tokens.values(), default=0)
        if room_tokens < longest:
            raise PromptTooLongError(
                f"a context of {max(room_tokens, 0)} tokens has no room for a passage of {longest}",
                hint="set more context_tokens, or use a model with a larger window",
            )
        size = min(max(self.fragment_tokens, longest), room_tokens)
        documents = [services.shelf.chunk_ids(entry.id) for entry in services.shelf.documents]
        return [window for ids in documents for window in windows(ids, tokens, size)]

    def _lay(self, state: State, runtime: Runtime[Services]) -> State:
        """Cut the text into fragments; open all where they fit the context, else find those to begin with."""
        services, question = runtime.context, Question.of(state)
        room = self._room_tokens(question, services)
        plan = self._fragments(services, room)
        desk = Desk(terms=dict.fromkeys(self._terms(services, question)))
        whole = sum(services.shelf.count_tokens(services.model).values()) <= room
        table = Table(services, desk, plan, question, room)
        if whole:
            desk.found = list(range(len(plan)))
            for number in desk.found:
                table.open(number)
        else:
            places = table.places()
            chunks = find_chunks(services.shelf, question, self.index, 2 * self.found)
            desk.found = list(dict.fromkeys(places[chunk] for chunk in chunks))[: self.found]
        kept: State = {"fragments": services.put_json(plan), "whole": whole, "desk": desk.keep(services), "actions": 0}
        return {**kept, "next": "act" if plan else "answer"}

    def _terms(self, services: Services, question: Question) -> list[str]:
        """What the question names, and the text holds."""
        shelf, named = services.shelf, names_in([question.with_choices])[0]
        terms = [*quoted_phrases(question.text), *(name for inside in named for name in inside)]
        ids = shelf.chunk_array()
        return [term for term in dict.fromkeys(terms) if len(holding(shelf, term, ids))][:_MOST_TERMS]

    def _act(self, state: State, runtime: Runtime[Services]) -> State:
        """Look whether the context says enough; if not, take the best action."""
        services, table = runtime.context, self._table(state, runtime.context)
        desk, done = table.desk, state["actions"] + 1
        if desk.stated is None and desk.open:
            desk.stated = look(table.reader(), table.material(), table.question).stated
        over = desk.stated is not None and desk.stated >= self.enough_above
        action = None if over or done > self.most_actions else self._choose(table)
        services.emit(Event("act", done, self.most_actions, "actions", action.described if action else ""))
        if action is None or action.kind == "answer":
            return {"desk": desk.keep(services), "next": "answer"}
        self._take(table, action)
        return {"desk": desk.keep(services), "actions": done, "next": "act"}

    def _choose(self, table: Table) -> Action:
        if not table.weighs:
            return chosen(table, offered(table))
        table.weigh()
        actions = weighed(table, self.least_gain)
        table.services.decide("what next?", **{action.described: action.gain for action in actions})
        return actions[0]

    def _take(self, table: Table, action: Action) -> None:
        """Do what was chosen. What is opened may name what can be searched for next."""
        if action.kind == "search":
            table.search(action.term, self.index, self.hits)
        elif action.kind in ("expand", "restore"):
            table.open(action.number)
            table.lead_on(action.number, _MOST_TERMS)
        elif action.kind == "summarize":
            table.summarize(action.number, self.summary_tokens)
        else:
            table.desk.hide(action.number)

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        services, table = runtime.context, self._table(state, runtime.context)
        if not table.texts():
            return {"reply": Reply.refused().keep(services)}
        reply = answer_if_stated(
            table.reader(), table.material(), table.question, self.abstain_below, stated=table.desk.stated
        )
        return {"reply": reply.keep(services)}

    def _table(self, state: Mapping[str, Any], services: Services) -> Table:
        question = Question.of(state)
        return Table(
            services=services,
            desk=Desk.kept(services, state["desk"]),
            fragments=services.get_json(state["fragments"]),
            question=question,
            room_tokens=self._room_tokens(question, services),
            weighs=self.decide == "scores" and "logits" in services.model.capabilities,
            in_order=self.order == "reading",
        )
